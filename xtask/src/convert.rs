//! A checkpoint from one number format to another, with a progress bar; the work is
//! `dsv3_weights::convert`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use dsv3_weights::{
    Adapter, Checkpoint, ConvertFormat, ConvertOptions, ConvertReport, Progress, convert,
    human_bytes, merge, parse_size,
};

use crate::watch::Watch;

/// Convert a checkpoint between fp8 blocks, bf16 and f32, and merge an adapter into it.
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
    #[arg(long)]
    format: Format,
    /// An adapter (PEFT's files) to add to the weights on the way
    #[arg(long, value_name = "ADAPTER")]
    merge: Option<PathBuf>,
    /// For fp8: scales that are powers of two (DeepSeek-V3.1) or any f32 (DeepSeek-V3)
    #[arg(long, default_value = "ue8m0")]
    scales: Scales,
    /// Largest file, with a unit: 5GB, 4GiB
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_size)]
    shard_size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Bf16,
    Fp8,
    F32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scales {
    Ue8m0,
    F32,
}

impl Convert {
    pub(crate) fn run(self) -> Result<()> {
        let checkpoint = Checkpoint::open(&self.model)?;
        let adapter = self.merge.as_ref();
        let adapter = adapter.map(|dir| Adapter::open(dir, checkpoint.args()));
        let adapter = adapter.transpose()?;
        let watch = Watch::new()?;
        let mut progress = |progress: Progress<'_>| watch.show(&progress);
        let (out, options) = (&self.out, self.options());
        let outcome = match &adapter {
            Some(adapter) => merge(&checkpoint, adapter, out, &options, &mut progress),
            None => convert(&checkpoint, out, &options, &mut progress),
        };
        watch.finish();
        report(&outcome?);
        Ok(())
    }

    fn options(&self) -> ConvertOptions {
        let format = match self.format {
            Format::Bf16 => ConvertFormat::Bf16,
            Format::F32 => ConvertFormat::F32,
            Format::Fp8 => ConvertFormat::Fp8 {
                ue8m0: self.scales == Scales::Ue8m0,
            },
        };
        ConvertOptions {
            format,
            shard_bytes: self.shard_size,
        }
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
        "  {} dequantised, {} quantised, {} cast, {} copied",
        report.dequantized, report.quantized, report.cast, report.copied,
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
