//! Opening what --model names.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use dsv3_engine::{Engine, EngineConfig, LoadOptions};
use dsv3_model::{Checkpoint, Precision, Transformer};
use dsv3_tokenizer::Tokenizer;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Dtype, Global, LoadArgs, TokenizerArgs};
use crate::output::Usage;

/// The folder that --model names.
pub(crate) fn folder(global: &Global) -> anyhow::Result<&Path> {
    let missing = || Usage("this needs a checkpoint: give its folder with --model DIR".into());
    Ok(global.model.as_deref().ok_or_else(missing)?)
}

/// The tokenizer of --tokenizer or of --model.
pub(crate) fn tokenizer(global: &Global, args: &TokenizerArgs) -> anyhow::Result<Tokenizer> {
    let path: PathBuf = match (&args.tokenizer, &global.model) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => dir.join("tokenizer.json"),
        (None, None) => {
            let text = "this needs a tokenizer: give a folder that has one with --model DIR, \
                or the file with --tokenizer FILE";
            return Err(Usage(text.into()).into());
        }
    };
    Ok(Tokenizer::from_file(&path)?)
}

/// A bar on stderr, where that is a terminal.
pub(crate) fn progress_bar(total: u64, template: &str) -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(total),
        false => ProgressBar::hidden(),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Load the model, and say how long that took.
pub(crate) fn engine(global: &Global, load: &LoadArgs) -> anyhow::Result<(Engine, f64)> {
    let start = Instant::now();
    let dir = folder(global)?;
    let checkpoint = Checkpoint::open(dir)?;
    let options = LoadOptions {
        precision: match load.dtype {
            Dtype::F32 => Precision::F32,
            Dtype::Bf16 => Precision::Bf16,
        },
        quantize_activations: load.w8a8,
        ..LoadOptions::new(global.device.open()?)
    };
    let layers = checkpoint.args().num_hidden_layers as u64;
    let bar = progress_bar(layers, "loading {bar:30} layer {pos}/{len} {eta}");
    let model = Transformer::load_with_progress(&checkpoint, &options, &mut |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let file = dir.join("tokenizer.json");
    let tokenizer = match file.exists() {
        true => Some(Arc::new(Tokenizer::from_file(file)?)),
        false => None,
    };
    let config = EngineConfig {
        max_cached_tokens: load.context.get(),
        ..EngineConfig::default()
    };
    let engine = Engine::new(model, tokenizer, config).context("the engine can't start")?;
    let seconds = start.elapsed().as_secs_f64();
    tracing::info!(seconds, device = %global.device, "model loaded");
    Ok((engine, seconds))
}
