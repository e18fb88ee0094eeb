//! `dsv3 convert`

use std::ops::ControlFlow;
use std::process::ExitCode;

use dsv3_eval::EvalError;
use dsv3_weights::convert::{ConvertFormat, ConvertOptions, Progress, convert, merge, prepare};
use dsv3_weights::{
    Adapter, Checkpoint, ConvertReport, Recipe, WeightsError, Written, human_bytes,
};
use serde::Serialize;

use super::calibrate;
use super::report::{self, Report, ReportArgs};

use crate::cli::{ConvertArgs, Global, Scales};
use crate::error::{INTERRUPTED, usage};
use crate::output::{progress_bar, say, say_json};
use crate::{interrupt, model};

/// Stream the checkpoint into another format, with an adapter merged in if one is named.
pub(crate) fn run(global: &Global, args: ConvertArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(model::folder(global)?)?;
    let adapter = args.merge.as_ref();
    let adapter = adapter.map(|dir| Adapter::open(dir, checkpoint.args()));
    let adapter = adapter.transpose()?;
    let mut options = ConvertOptions {
        format: format(&args)?,
        shard_bytes: args.shard_size,
        ..ConvertOptions::default()
    };
    interrupt::install()?;
    let listening = interrupt::listen();
    let interrupted = || {
        eprintln!("interrupted; the same command goes on with what is left");
        Ok(ExitCode::from(INTERRUPTED))
    };
    if let Some(text) = &args.calibrate {
        match calibrate::importance(global, text, &listening)? {
            Some(found) => options.importance = Some(found),
            None => return interrupted(),
        }
    }
    let bar = progress_bar(
        0,
        "converting {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    let mut show = |progress: Progress<'_>| {
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
    };
    let outcome = match args.report {
        true => prepare(
            &checkpoint,
            adapter.as_ref(),
            &args.out,
            &options,
            &mut show,
        )
        .map(Outcome::Unnamed),
        false => match &adapter {
            Some(adapter) => merge(&checkpoint, adapter, &args.out, &options, &mut show),
            None => convert(&checkpoint, &args.out, &options, &mut show),
        }
        .map(Outcome::Done),
    };
    bar.finish_and_clear();
    drop(listening);
    let (report, rounding) = match outcome {
        Err(WeightsError::Interrupted { .. }) => return interrupted(),
        Err(error) => return Err(error.into()),
        Ok(Outcome::Done(report)) => (report, None),
        Ok(Outcome::Unnamed(written)) => match measured(global, &args, &checkpoint, &written) {
            Err(error) if matches!(error.downcast_ref(), Some(EvalError::Stopped)) => {
                return interrupted();
            }
            found => {
                let rounding = found?;
                (written.finish()?, Some(rounding))
            }
        },
    };
    for warning in &report.warnings {
        eprintln!("note: {warning}");
    }
    match global.json {
        true => say_json(&Said {
            conversion: &report,
            rounding: rounding.as_ref(),
        })?,
        false => {
            let merged = match report.merged {
                0 => String::new(),
                n => format!(", the adapter merged into {n} weights"),
            };
            say(&format!(
                "{}: {} tensors in {} files, {} (was {}){merged}\n",
                report.out_dir.display(),
                report.tensors,
                report.shards,
                human_bytes(report.bytes),
                human_bytes(report.source_bytes),
            ))?;
            if let Some(rounding) = &rounding {
                say(&format!("\n{}", report::text(rounding)))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a conversion came to.
enum Outcome {
    Done(ConvertReport),
    /// Without a name as yet, so that what is measured can be written into it.
    Unnamed(Written),
}

#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    conversion: &'a ConvertReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<&'a Report>,
}

/// Measure the new weights against the old ones, and write that down beside them.
fn measured(
    global: &Global,
    args: &ConvertArgs,
    source: &Checkpoint,
    written: &Written,
) -> anyhow::Result<Report> {
    let global = Global {
        model: Some(written.dir().to_owned()),
        ..global.clone()
    };
    let text = args.report_text.clone();
    let base = source.dir().to_owned();
    let wanted = ReportArgs::of_conversion(base, text, args.report_count);
    let report = report::compare(&global, &wanted)?.of(&args.out);
    written.set_rounding(&report.note())?;
    Ok(report)
}

/// What --format, --group, --recipe and --scales say together.
fn format(args: &ConvertArgs) -> anyhow::Result<ConvertFormat> {
    let ue8m0 = args.scales == Scales::Ue8m0;
    let named = args.format.as_deref();
    let named = named.map(|name| ConvertFormat::named(name, args.group, ue8m0));
    let named = named.transpose()?;
    match (&args.recipe, named) {
        (Some(file), rest) => {
            let recipe = Recipe::from_file(file)?;
            Ok(ConvertFormat::by_recipe(recipe, rest.as_ref(), ue8m0)?)
        }
        (None, Some(format)) => Ok(format),
        (None, None) => Err(usage("no format is named: give --format or --recipe")),
    }
}
