//! `dsv3 convert`

use anyhow::bail;
use dsv3_weights::convert::{ConvertFormat, ConvertOptions, convert};
use dsv3_weights::{Checkpoint, WeightsError};

use crate::cli::{ConvertArgs, Global, Scales, TargetFormat};
use crate::output::{say, say_json};
use crate::{interrupt, model};

/// Stream the checkpoint into another format.
pub(crate) fn run(global: &Global, args: ConvertArgs) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(model::folder(global)?)?;
    let options = ConvertOptions {
        format: match args.format {
            TargetFormat::Bf16 => ConvertFormat::Bf16,
            TargetFormat::Fp8 => ConvertFormat::Fp8 {
                ue8m0: args.scales == Scales::Ue8m0,
            },
        },
        shard_bytes: args.shard_size,
    };
    interrupt::watch()?;
    let bar = model::progress_bar(
        0,
        "converting {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    let result = convert(&checkpoint, &args.out, &options, &mut |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        interrupt::check()
    });
    bar.finish_and_clear();
    let report = match result {
        Err(WeightsError::Interrupted { .. }) => {
            bail!("interrupted; the same command goes on where this one stopped")
        }
        result => result?,
    };
    match global.json {
        true => say_json(&serde_json::json!({
            "out": report.out_dir, "shards": report.shards, "shards_kept": report.shards_kept,
            "tensors": report.tensors, "dequantized": report.dequantized,
            "quantized": report.quantized, "cast": report.cast, "copied": report.copied,
            "source_bytes": report.source_bytes, "bytes": report.bytes,
        })),
        false => say(&format!(
            "{}: {} tensors in {} files, {} (was {})\n",
            report.out_dir.display(),
            report.tensors,
            report.shards,
            dsv3_weights::human_bytes(report.bytes),
            dsv3_weights::human_bytes(report.source_bytes),
        )),
    }
}
