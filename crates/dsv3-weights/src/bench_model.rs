//! Checkpoints for benchmarks: the published layout with random weights.
//!
//! Speed does not depend on what weights say, only on their shapes and formats. A checkpoint that
//! anybody can make again from a seed therefore serves where the real one is too large: whole and
//! small, or a slice of the real one with its real shapes.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use dsv3_weights::{Checkpoint, Quantization, bench_model};
//!
//! # fn main() -> Result<(), dsv3_weights::WeightsError> {
//! # let folder = std::env::temp_dir().join(format!("dsv3-bench-doc-{}", std::process::id()));
//! # let out = folder.as_path();
//! let mut args = bench_model::small()?; // or slice(4, 32)
//! args.quantization = Some(Quantization::V3_1); // fp8; bf16 without
//! # (args.num_hidden_layers, args.hidden_size, args.vocab_size) = (2, 64, 256);
//! let options = bench_model::BenchModelOptions::default();
//! bench_model::write(&args, out, &options, &mut |_| ControlFlow::Continue(()))?;
//! assert!(Checkpoint::open(out)?.verify()?.is_empty());
//! # std::fs::remove_dir_all(out).ok();
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::CONFIG_FILE;
use crate::fnv::Fnv;
use crate::layout::{Layout, TensorSpec};
use crate::output::{self, Partial, Progress, Shard, Wanted};
use crate::{Dtype, ModelArgs, Quantization, WeightsError};

mod config_json;
mod preset;
mod values;

pub use preset::{slice, small};

/// Counts the changes of what a seed gives: a half-finished checkpoint of an older program must
/// not be gone on with.
const VERSION: u32 = 1;

/// How to write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchModelOptions {
    /// Another seed gives other weights.
    pub seed: u64,
    /// A shard ends before it would exceed this many bytes of data; a tensor is never cut.
    pub shard_bytes: u64,
    /// A `tokenizer.json` to copy beside the weights.
    pub tokenizer: Option<PathBuf>,
}

impl Default for BenchModelOptions {
    /// Seed 0, shards of 5 GB, no tokenizer.
    fn default() -> Self {
        Self {
            seed: 0,
            shard_bytes: output::SHARD_BYTES,
            tokenizer: None,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BenchModelReport {
    /// Where the checkpoint lies.
    pub out_dir: PathBuf,
    /// Safetensors files.
    pub shards: usize,
    /// Of those, how many an interrupted earlier run had finished.
    pub shards_kept: usize,
    /// Tensors written, scale tensors too.
    pub tensors: u64,
    /// Values in all weights, scales not counted.
    pub parameters: u64,
    /// Bytes of tensor data.
    pub bytes: u64,
    /// Files beside the weights, without the index.
    pub side_files: Vec<&'static str>,
}

/// Writes a checkpoint of this configuration with random weights to `out_dir`, which must not
/// exist: in fp8 where `args.quantization` is given, else in bf16.
///
/// Bytes follow from the configuration and the seed alone. Goes on where an earlier run with the
/// same configuration and options was stopped. `progress` is called for every few megabytes;
/// [`ControlFlow::Break`] stops and keeps what is finished.
///
/// # Errors
/// [`WeightsError::ConfigField`] for a configuration that no checkpoint can have;
/// [`WeightsError::BadOption`]; [`WeightsError::DiskFull`]; [`WeightsError::OutputExists`],
/// [`WeightsError::ForeignPartial`], [`WeightsError::PartialInUse`] for the output;
/// [`WeightsError::Interrupted`] after a break.
pub fn write(
    args: &ModelArgs,
    out_dir: impl AsRef<Path>,
    options: &BenchModelOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<BenchModelReport, WeightsError> {
    let out_dir = out_dir.as_ref();
    let config = args.to_config_json();
    // What could not be opened again is refused before it is written.
    if ModelArgs::from_json_bytes(config.to_string().as_bytes())? != *args {
        return Err(WeightsError::BadOption {
            option: "configuration",
            problem: "holds values that no published config.json can say: use fp8 or bf16".into(),
        });
    }
    if let Some(tokenizer) = &options.tokenizer {
        // Before anything long.
        std::fs::metadata(tokenizer).map_err(WeightsError::io("read", tokenizer))?;
    }
    let quantization = args.quantization;
    let layout = Layout::new(args);
    let drafts = layout.tensors().map(|spec| {
        let wanted = wanted(&spec, quantization);
        Ok((spec.name.clone(), spec, wanted))
    });
    let shards = output::plan(drafts, options.shard_bytes, output::Note::None)?;

    let fingerprint = fingerprint(&config.to_string(), options.seed, &shards);
    let partial = Partial::claim(out_dir, fingerprint)?;
    let shards_kept = output::fill(&shards, &partial, progress, &mut |job, sink| {
        values::write(&job.task, quantization, options.seed, sink)
    })?;

    let dir = partial.dir();
    output::write_index(dir, &shards)?;
    output::write_json(&dir.join(CONFIG_FILE), &config)?;
    // Greedy: random weights have no temperature at which they talk.
    let generation = json!({
        "bos_token_id": config_json::ids(&args.bos_token_id),
        "eos_token_id": config_json::ids(&args.eos_token_id),
        "do_sample": false,
    });
    output::write_json(&dir.join("generation_config.json"), &generation)?;
    let mut side_files = vec![CONFIG_FILE, "generation_config.json"];
    if let Some(tokenizer) = &options.tokenizer {
        output::copy_file(tokenizer, &dir.join("tokenizer.json"))?;
        side_files.push("tokenizer.json");
    }
    partial.finish(out_dir)?;
    Ok(BenchModelReport {
        out_dir: out_dir.into(),
        shards: shards.len(),
        shards_kept,
        tensors: output::num_tensors(&shards),
        parameters: parameters(args),
        bytes: output::data_bytes(&shards),
        side_files,
    })
}

/// Values in all weights of a configuration, scales not counted.
pub fn parameters(args: &ModelArgs) -> u64 {
    let elements = |spec: TensorSpec| spec.shape.iter().map(|d| *d as u64).product::<u64>();
    Layout::new(args).tensors().map(elements).sum()
}

fn wanted(spec: &TensorSpec, quantization: Option<Quantization>) -> Vec<Wanted> {
    match (spec.dtype_published, quantization) {
        (Dtype::F8E4M3, Some(q)) => Wanted::fp8(&spec.name, &spec.shape, q.weight_block_size),
        (dtype, _) => vec![Wanted::plain(&spec.name, dtype, &spec.shape)],
    }
}

/// Changes with everything that the bytes of the shards follow from.
fn fingerprint(config: &str, seed: u64, shards: &[Shard<TensorSpec>]) -> String {
    let mut hash = Fnv::default();
    let _ = writeln!(hash, "bench model {VERSION} {seed} {config}");
    for shard in shards {
        let _ = writeln!(hash, "{}", shard.file_name);
        hash.update(&shard.header);
    }
    format!("{:016x}", hash.finish())
}
