//! The whole model.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use dsv3_kernels::LatentFormat;
use dsv3_weights::{Checkpoint, ModelArgs, RopeScaling};

use crate::batch::ForwardBatch;
use crate::block::Block;
use crate::cache::LatentCache;
use crate::embedding::Embedding;
use crate::error::ModelError;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mla::Context;
use crate::norm::RMSNorm;
use crate::options::{LoadOptions, Precision};
use crate::parameters::{ParameterMut, ParameterVisitor, linear, norm};
use crate::reads::WeightBytes;
use crate::rope::YarnRope;
use crate::trace::Trace;

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct Output {
    /// Logits of the rows asked for: `[rows, vocab]` f32.
    pub logits: Tensor<2>,
    /// The stream after the final norm, of every row: `[T, hidden]`. What an MTP module reads.
    pub hidden: Tensor<2>,
}

/// DeepSeek's `Transformer`: embedding, layers, final norm, head.
#[derive(Clone, Debug)]
pub struct Transformer {
    args: ModelArgs,
    options: LoadOptions,
    rope: YarnRope,
    embed: Embedding,
    blocks: Vec<Block>,
    norm: RMSNorm,
    head: Linear,
}

/// Tensor names without `.weight`.
const EMBED: &str = "model.embed_tokens";
const HEAD: &str = "lm_head";

/// `tensor`'s rows `rows`.
pub(crate) fn select_rows(tensor: Tensor<2>, rows: &[usize]) -> Tensor<2> {
    let [total, _] = tensor.dims();
    if rows.len() == total && rows.iter().enumerate().all(|(i, r)| i == *r) {
        return tensor;
    }
    let device = tensor.device();
    let rows: Vec<i32> = rows.iter().map(|r| *r as i32).collect();
    let count = rows.len();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), (&device, DType::I32));
    tensor.select(0, rows)
}

impl Transformer {
    /// Load the model of `checkpoint`. On the CPU weights stay views of the mapped files.
    ///
    /// # Errors
    /// [`ModelError::Weights`] when a tensor is missing, misshapen or of a wrong format,
    /// [`ModelError::UnsupportedDtype`] when the device can't compute in the precision asked for,
    /// [`ModelError::UnsupportedCache`] when it can't hold a cache of the format asked for.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::load_with_progress(checkpoint, options, &mut |_, _| {})
    }

    /// As [`load`](Self::load); `progress` hears of (layers loaded, layers).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_progress(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, ModelError> {
        if !options.device.supports_dtype(options.precision.dtype()) {
            return Err(ModelError::UnsupportedDtype {
                device: format!("{:?}", options.device),
                dtype: options.precision.name(),
            });
        }
        let format = options.cache_format();
        if format != LatentFormat::F32 && !options.device.supports_dtype(DType::BF16) {
            return Err(ModelError::UnsupportedCache {
                device: format!("{:?}", options.device),
                format: format.name(),
            });
        }
        let loader = Loader {
            checkpoint,
            options,
        };
        let args = checkpoint.args().clone();
        let layers = args.num_hidden_layers;
        let mut blocks = Vec::with_capacity(layers);
        for layer in 0..layers {
            blocks.push(Block::load(&loader, layer)?);
            progress(layer + 1, layers);
        }
        let head = if args.tie_word_embeddings {
            EMBED
        } else {
            HEAD
        };
        Ok(Transformer {
            rope: YarnRope::new(&args),
            embed: Embedding::load(&loader, EMBED)?,
            norm: loader.norm("model.norm", args.hidden_size)?,
            head: loader.linear(head, [args.vocab_size, args.hidden_size])?,
            blocks,
            options: options.clone(),
            args,
        })
    }

    /// Shows `visitor` every parameter, to read or to replace.
    pub fn visit_parameters(&mut self, visitor: &mut ParameterVisitor<'_>) {
        let weight = |prefix: &str| format!("{prefix}.weight");
        visitor(&weight(EMBED), ParameterMut::Embedding(&mut self.embed));
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            block.visit_parameters(layer, visitor);
        }
        norm(visitor, "model.norm", &mut self.norm);
        if !self.args.tie_word_embeddings {
            linear(visitor, HEAD, &mut self.head);
        }
    }

    /// Compute positions with `scaling` from now on: a model is trained on a short context first
    /// and stretched with YaRN afterwards (DeepSeek-V3 report §4.3).
    pub fn set_rope_scaling(&mut self, scaling: Option<RopeScaling>) {
        self.args.rope_scaling = scaling;
        self.rope = YarnRope::new(&self.args);
        for block in &mut self.blocks {
            block.attention.set_softmax_scale(self.rope.softmax_scale());
        }
    }

    /// The configuration.
    pub fn args(&self) -> &ModelArgs {
        &self.args
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.options.device
    }

    /// Format of its activations.
    pub fn precision(&self) -> Precision {
        self.options.precision
    }

    /// Bytes of its weights, part by part, as they lie in memory. Copies and reads none.
    pub fn weight_bytes(&self) -> WeightBytes {
        WeightBytes {
            layers: self.blocks.iter().map(Block::bytes).collect(),
            norm: self.norm.bytes(),
            head: self.head.bytes(),
        }
    }

    /// How its caches keep their tokens.
    pub fn cache_format(&self) -> LatentFormat {
        self.options.cache_format()
    }

    /// A cache for this model with room for `blocks · block_size` tokens.
    pub fn new_cache(&self, blocks: usize, block_size: usize) -> LatentCache {
        LatentCache::new(
            &self.args,
            self.blocks.len(),
            blocks,
            block_size,
            self.cache_format(),
            &self.options.device,
        )
    }

    /// Run the new tokens of `batch` through the model, reading and writing `cache`.
    ///
    /// # Errors
    /// [`ModelError::Batch`], [`ModelError::TokenOutOfRange`] or
    /// [`ModelError::PositionOutOfRange`], before anything is computed or written.
    pub fn forward(
        &self,
        batch: &ForwardBatch,
        cache: &mut LatentCache,
    ) -> Result<Output, ModelError> {
        self.forward_traced(batch, cache, &mut ())
    }

    /// As [`forward`](Self::forward), showing `trace` what happens inside.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_traced(
        &self,
        batch: &ForwardBatch,
        cache: &mut LatentCache,
        trace: &mut dyn Trace,
    ) -> Result<Output, ModelError> {
        batch.validate(&self.args, cache)?;
        if cache.layers() != self.blocks.len() {
            return Err(ModelError::batch(format!(
                "the cache has {} layers, the model {}",
                cache.layers(),
                self.blocks.len()
            )));
        }
        let mut x = self.embed.forward(&batch.tokens)?; // [T, hidden]
        if let Some(first) = self.blocks.first() {
            let context = self.context(batch, cache, first);
            for (layer, block) in self.blocks.iter().enumerate() {
                x = block.forward(x, &context, cache, layer, trace)?; // [T, hidden]
            }
        }
        let hidden = self.norm.forward(x); // [T, hidden]
        let wanted = select_rows(hidden.clone(), &batch.logit_rows); // [rows, hidden]
        let logits = self.head.forward(wanted).cast(DType::F32); // [rows, vocab]
        Ok(Output { logits, hidden })
    }

    pub(crate) fn context(
        &self,
        batch: &ForwardBatch,
        cache: &LatentCache,
        block: &Block,
    ) -> Context {
        Context::new(
            batch,
            cache,
            &self.rope,
            &block.attention,
            self.options.attention,
            &self.options.device,
        )
    }

    pub(crate) fn embed(&self) -> &Embedding {
        &self.embed
    }

    pub(crate) fn head(&self) -> &Linear {
        &self.head
    }

    pub(crate) fn options(&self) -> &LoadOptions {
        &self.options
    }
}
