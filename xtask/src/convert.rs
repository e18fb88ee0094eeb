//! A checkpoint from one number format to another, with a progress bar; the work is
//! `dsv3_weights::convert`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use dsv3_weights::{
    Adapter, Checkpoint, ConvertFormat, ConvertOptions, ConvertReport, Progress, Recipe, convert,
    human_bytes, merge, parse_size,
};

use crate::step;
use crate::watch::Watch;

/// Convert a checkpoint between fp8 blocks, bf16 and f32 or to int8 and int4 in groups, and merge
/// an adapter into it.
///
/// Streams one tensor at a time, so that memory stays small whatever the model's size. Works in
/// OUT.partial and renames it to OUT when all is done. Ctrl-C stops after the block in hand; the
/// same command goes on from the last finished shard.
#[derive(Args)]
pub(crate) struct Convert {
    /// The checkpoint's folder
    #[arg(long, value_name = "IN")]
    model: PathBuf,
    /// The folder to write; must not exist
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Number format of the projections and experts
    #[arg(long, value_parser = ConvertFormat::NAMES, required_unless_present = "recipe")]
    format: Option<String>,
    /// For int8 and int4: columns that share a scale, a multiple of 32 [default: 64 and 32]
    #[arg(long, value_name = "N", requires = "format")]
    group: Option<usize>,
    /// Which weights in which format; --format is for the rest, unless the recipe has a default
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// An adapter (PEFT's files) to add to the weights on the way
    #[arg(long, value_name = "ADAPTER")]
    merge: Option<PathBuf>,
    /// For fp8: scales that are powers of two (DeepSeek-V3.1) or any f32 (DeepSeek-V3)
    #[arg(long, default_value = "ue8m0")]
    scales: Scales,
    /// Largest file, with a unit: 5GB, 4GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_size)]
    shard_size: u64,
    /// Measure what the rounding costs and write it into the checkpoint: hands over to dsv3 convert,
    /// which is built for it
    #[arg(long)]
    report: bool,
    /// For int8 and int4: read this text with the model first, and choose scales whose errors fall on
    /// columns that it makes little use of; hands over, too
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// With --report: a text that both predict [default: the held-out tasks]
    #[arg(long, value_name = "FILE", requires = "report")]
    report_text: Option<PathBuf>,
    /// With --report: tasks of each kind and mode [default: 50]
    #[arg(long, value_name = "N", requires = "report")]
    report_count: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scales {
    Ue8m0,
    F32,
}

impl Convert {
    pub(crate) fn run(self) -> Result<()> {
        // What goes with these flags is read there.
        if self.report || self.calibrate.is_some() {
            return hand_over();
        }
        let checkpoint = Checkpoint::open(&self.model)?;
        let adapter = self.merge.as_ref();
        let adapter = adapter.map(|dir| Adapter::open(dir, checkpoint.args()));
        let adapter = adapter.transpose()?;
        let watch = Watch::new()?;
        let mut progress = |progress: Progress<'_>| watch.show(&progress);
        let (out, options) = (&self.out, self.options()?);
        let outcome = match &adapter {
            Some(adapter) => merge(&checkpoint, adapter, out, &options, &mut progress),
            None => convert(&checkpoint, out, &options, &mut progress),
        };
        watch.finish();
        report(&outcome?);
        Ok(())
    }

    fn options(&self) -> Result<ConvertOptions> {
        let ue8m0 = self.scales == Scales::Ue8m0;
        let named = self.format.as_deref();
        let named = named.map(|name| ConvertFormat::named(name, self.group, ue8m0));
        let named = named.transpose()?;
        let format = match (&self.recipe, named) {
            (Some(file), rest) => {
                ConvertFormat::by_recipe(Recipe::from_file(file)?, rest.as_ref(), ue8m0)?
            }
            (None, named) => named.context("no format is named: give --format or --recipe")?,
        };
        Ok(ConvertOptions {
            format,
            shard_bytes: self.shard_size,
            ..ConvertOptions::default()
        })
    }
}

/// The same command line to dsv3: measuring takes the graph, which this program is built without.
fn hand_over() -> Result<()> {
    let ours = std::env::args_os().skip_while(|arg| arg != "convert");
    let status = Command::new(step::cargo())
        .args(["run", "--release", "--quiet", "-p", "dsv3-cli", "--"])
        .args(ours)
        .status()
        .context("cannot start cargo to build and run dsv3")?;
    // What went wrong was said there.
    match status.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}

fn report(report: &ConvertReport) {
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    println!(
        "{}: {} tensors in {} files, {} ({} read)",
        report.out_dir.display(),
        report.tensors,
        report.shards,
        human_bytes(report.bytes),
        human_bytes(report.source_bytes),
    );
    println!(
        "  {} dequantised, {} quantised, {} packed, {} cast, {} copied",
        report.dequantized, report.quantized, report.packed, report.cast, report.copied,
    );
    if report.merged > 0 {
        println!("  the adapter was merged into {} weights", report.merged);
    }
    if !report.side_files.is_empty() {
        println!("  beside them: {}", report.side_files.join(", "));
    }
    if report.shards_kept > 0 {
        println!(
            "  {} files were kept from an earlier run",
            report.shards_kept
        );
    }
}
