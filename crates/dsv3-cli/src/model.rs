//! Opening what --model names: what is cheap first, so that a mistake shows before hundreds of
//! gigabytes are read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use dsv3_engine::{Engine, EngineConfig};
use dsv3_model::{
    Checkpoint, LatentFormat, ModelArgs, ModelError, MtpModule, Precision, Transformer,
};
use dsv3_tokenizer::Tokenizer;
use dsv3_weights::Adapter;

use crate::cli::{CacheFormat, Dtype, Global, LoadArgs, TokenizerArgs};
use crate::error::usage;
use crate::{default_model, device, output};

/// The folder that --model names.
pub(crate) fn folder(global: &Global) -> anyhow::Result<&Path> {
    global.model.as_deref().ok_or_else(|| {
        usage(
            "no checkpoint is named: give its folder (the one with config.json and the \
             .safetensors files) with --model DIR",
        )
    })
}

/// The tokenizer of --tokenizer or of --model.
pub(crate) fn tokenizer(global: &Global, args: &TokenizerArgs) -> anyhow::Result<Tokenizer> {
    let path: PathBuf = match (&args.tokenizer, &global.model) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => dir.join("tokenizer.json"),
        (None, None) => {
            return Err(usage(
                "no tokenizer is named: give a folder that holds tokenizer.json with --model DIR, \
                 or the file itself with --tokenizer FILE",
            ));
        }
    };
    Ok(Tokenizer::from_file(&path)?)
}

/// A checkpoint whose headers were read, and its tokenizer.
pub(crate) struct Opened {
    pub(crate) dir: PathBuf,
    /// It is the small model of dsv3's repository.
    pub(crate) is_small: bool,
    checkpoint: Checkpoint,
    tokenizer: Option<Arc<Tokenizer>>,
    started: Instant,
}

/// Read configuration, headers and tokenizer of the folder that --model names; of the repository's
/// small model where it names none.
pub(crate) fn open(global: &Global) -> anyhow::Result<Opened> {
    let started = Instant::now();
    let (dir, is_small) = match &global.model {
        Some(dir) => (dir.clone(), default_model::is(dir)),
        None => {
            let dir = default_model::find().ok_or_else(|| usage(default_model::MISSING))?;
            eprintln!(
                "model: {}, dsv3's own small one (--model DIR takes another)",
                dir.display()
            );
            (dir, true)
        }
    };
    let checkpoint = Checkpoint::open(&dir)?;
    let file = dir.join("tokenizer.json");
    let tokenizer = match file.exists() {
        true => Some(Arc::new(Tokenizer::from_file(file)?)),
        false => None,
    };
    Ok(Opened {
        dir,
        is_small,
        checkpoint,
        tokenizer,
        started,
    })
}

impl Opened {
    /// The tokenizer, for those who can't do without.
    pub(crate) fn tokenizer(&self) -> anyhow::Result<&Tokenizer> {
        self.tokenizer.as_deref().ok_or_else(|| {
            anyhow!(
                "{} holds no tokenizer.json, so text can't be read or written: give token ids \
                 (--input-ids), or put the checkpoint's tokenizer.json there",
                self.dir.display()
            )
        })
    }

    /// The tokenizer, where there is one.
    pub(crate) fn text_tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_deref()
    }

    /// The files.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Rows of the head: logits of a position.
    pub(crate) fn vocab_size(&self) -> usize {
        self.checkpoint.args().vocab_size
    }

    /// Refuse what can't be begun with: no ids, or ids that the model has no embedding for.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> anyhow::Result<()> {
        let rows = self.vocab_size();
        if ids.is_empty() {
            return Err(usage(
                "there are no tokens to begin with; give at least one",
            ));
        }
        match ids.iter().find(|id| **id as usize >= rows) {
            Some(id) => Err(anyhow!(
                "token id {id} is outside the vocabulary of {rows} (vocab_size in {}); was the \
                 text encoded with another model's tokenizer?",
                self.dir.join("config.json").display()
            )),
            None => Ok(()),
        }
    }

    /// The configuration.
    pub(crate) fn args(&self) -> &ModelArgs {
        self.checkpoint.args()
    }

    /// Load the weights: an engine whose cache holds `tokens` (or what --context says, and never
    /// more than the model has positions), and the seconds since opening began.
    pub(crate) fn load(
        self,
        global: &Global,
        args: &LoadArgs,
        tokens: usize,
    ) -> anyhow::Result<(Engine, f64)> {
        let model = self.load_model(global, args)?;
        let wanted = args.context.map_or(tokens, |n| n as usize);
        let positions = model.args().max_position_embeddings;
        let config = EngineConfig {
            max_cached_tokens: wanted.min(positions).max(1),
            ..args.engine_config()
        };
        self.engine(model, config)
    }

    /// Load the weights of the main model.
    pub(crate) fn load_model(
        &self,
        global: &Global,
        args: &LoadArgs,
    ) -> anyhow::Result<Transformer> {
        let model_args = self.checkpoint.args();
        if args.w8a8 && model_args.quantization.is_none() && !model_args.packed {
            return Err(usage(format!(
                "--w8a8 rounds activations in front of fp8, int8 and int4 weights, and {} has \
                 none: leave it out",
                self.dir.display()
            )));
        }
        // Before the weights: an adapter that doesn't fit shows at once.
        let adapter = args.adapter.as_ref();
        let adapter = adapter.map(|dir| Adapter::open(dir, self.args()));
        let adapter = adapter.transpose()?;
        let mut options = device::open(global.device)?;
        options.precision = args.dtype.precision();
        options.quantize_activations = args.w8a8;
        options.cache = Some(args.cache_format());

        let layers = self.checkpoint.args().num_hidden_layers as u64;
        let bar = output::progress_bar(layers, "loading {bar:30} layer {pos}/{len} {eta}");
        let model = Transformer::load_with_progress(&self.checkpoint, &options, &mut |done, _| {
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let mut model = model.map_err(|error| match error {
            ModelError::UnsupportedDtype { dtype, .. } => usage(format!(
                "the device {} can't compute in {dtype}: leave --dtype {dtype} out",
                global.device
            )),
            ModelError::UnsupportedCache { format, .. } => usage(format!(
                "the device {} can't hold a cache in {format}, for want of bf16: use --cache f32",
                global.device
            )),
            other => other.into(),
        })?;
        if let Some(adapter) = &adapter {
            model.attach_adapter(adapter)?;
            let weights = adapter.factors().len();
            tracing::info!(weights, adapter = %adapter.dir().display(), "adapter attached");
        }
        Ok(model)
    }

    /// Load the MTP module, where the checkpoint has one.
    pub(crate) fn load_mtp(&self, model: &Transformer) -> anyhow::Result<Option<MtpModule>> {
        match MtpModule::load(&self.checkpoint, model) {
            Ok(module) => Ok(Some(module)),
            Err(ModelError::NoMtp) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// An engine over the loaded model, and the seconds since opening began.
    pub(crate) fn engine(
        self,
        model: Transformer,
        config: EngineConfig,
    ) -> anyhow::Result<(Engine, f64)> {
        let engine = Engine::new(model, self.tokenizer, config)
            .with_context(|| format!("cannot run {}", self.dir.display()))?;
        let seconds = self.started.elapsed().as_secs_f64();
        tracing::info!(seconds, "model loaded");
        Ok((engine, seconds))
    }
}

impl LoadArgs {
    /// The engine's limits as far as these say them.
    pub(crate) fn engine_config(&self) -> EngineConfig {
        let config = EngineConfig::default();
        EngineConfig {
            max_batch_tokens: self
                .batch_tokens
                .map_or(config.max_batch_tokens, |n| n as usize),
            ..config
        }
    }

    /// How the cache keeps its tokens.
    pub(crate) fn cache_format(&self) -> LatentFormat {
        let same = self.dtype.precision().latent_format();
        self.cache.map_or(same, CacheFormat::latent_format)
    }
}

impl CacheFormat {
    /// What the model calls it.
    pub(crate) fn latent_format(self) -> LatentFormat {
        match self {
            CacheFormat::F32 => LatentFormat::F32,
            CacheFormat::Bf16 => LatentFormat::Bf16,
            CacheFormat::Fp8 => LatentFormat::Fp8,
        }
    }
}

impl Dtype {
    /// What the model calls it.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Dtype::F32 => Precision::F32,
            Dtype::Bf16 => Precision::Bf16,
        }
    }
}
