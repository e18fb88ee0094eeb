//! `dsv3 convert`

use std::ops::ControlFlow;
use std::process::ExitCode;

use dsv3_weights::convert::{ConvertFormat, ConvertOptions, convert};
use dsv3_weights::{Checkpoint, WeightsError, human_bytes};

use crate::cli::{ConvertArgs, Global, Scales, TargetFormat};
use crate::error::INTERRUPTED;
use crate::output::{progress_bar, say, say_json};
use crate::{interrupt, model};

/// Stream the checkpoint into another format.
pub(crate) fn run(global: &Global, args: ConvertArgs) -> anyhow::Result<ExitCode> {
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
    interrupt::install()?;
    let listening = interrupt::listen();
    let bar = progress_bar(
        0,
        "converting {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    let result = convert(&checkpoint, &args.out, &options, &mut |progress| {
        if bar.length() != Some(progress.bytes_total) {
            bar.set_length(progress.bytes_total);
            // What an earlier run did must not count towards this run's speed.
            bar.set_position(progress.bytes_done);
            bar.reset_eta();
        }
        bar.set_position(progress.bytes_done);
        match listening.pressed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let report = match result {
        Err(WeightsError::Interrupted { .. }) => {
            eprintln!("interrupted; the same command goes on with what is left");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        result => result?,
    };
    for warning in &report.warnings {
        eprintln!("note: {warning}");
    }
    match global.json {
        true => say_json(&report)?,
        false => say(&format!(
            "{}: {} tensors in {} files, {} (was {})\n",
            report.out_dir.display(),
            report.tensors,
            report.shards,
            human_bytes(report.bytes),
            human_bytes(report.source_bytes),
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}
