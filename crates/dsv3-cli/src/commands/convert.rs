//! `dsv3 convert`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use dsv3_eval::EvalError;
use dsv3_weights::convert::{ConvertFormat, ConvertOptions, Progress, prepare};
use dsv3_weights::{
    Adapter, Checkpoint, ConvertReport, Recipe, WeightsError, Written, human_bytes,
};
use serde::Serialize;

use super::calibrate;
use super::report::{self, Report, ReportArgs};

use crate::cli::Global;
use crate::error::{INTERRUPTED, usage};
use crate::output::{progress_bar, say, say_json};
use crate::{interrupt, model};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 convert --model DeepSeek-V3.1 --out V3.1-bf16 --format bf16\n\
    Interrupted, it goes on where it was when called again. With --merge the result needs no\n\
    --adapter; f32 keeps it exact, the others round it once.\n\
    int8 and int4 pack experts, MLPs and attention and leave embedding, head, routers, norms and\n\
    kv_b_proj in bf16; int4 has q_a_proj and kv_a_proj in int8. A recipe is JSON:\n\
    {\"rules\": [{\"component\": \"routed_experts\", \"layers\": \"3-60\", \"format\": \"int4\", \"group\": 32},\n\
    {\"component\": \"attention\", \"projection\": \"o_proj\", \"format\": \"bf16\"}], \"default\": \"int8\"}\n\
    The first rule that matches decides; components are those that inspect lists."
)]
pub(crate) struct ConvertArgs {
    /// The folder to write; must not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Format of the weights
    #[arg(long, value_parser = ConvertFormat::NAMES, required_unless_present = "recipe")]
    pub(crate) format: Option<String>,
    /// For int8 and int4: columns that share a scale, a multiple of 32 [default: 64 and 32]
    #[arg(long, value_name = "N", requires = "format")]
    pub(crate) group: Option<usize>,
    /// Which weights in which format; --format is for the rest, unless the recipe has a default
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    /// For int8 and int4: read this text with the model first, and choose scales whose errors fall on
    /// columns that it makes little use of
    #[arg(long, value_name = "FILE")]
    pub(crate) calibrate: Option<PathBuf>,
    /// An adapter to add to the weights on the way
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) merge: Option<PathBuf>,
    /// For fp8: scales that are powers of two (DeepSeek-V3.1) or any f32 (DeepSeek-V3)
    #[arg(long, value_enum, default_value = "ue8m0")]
    pub(crate) scales: Scales,
    /// Largest shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = dsv3_weights::parse_size)]
    pub(crate) shard_size: u64,
    /// Measure what the rounding costs, print it and write it into the checkpoint, where inspect
    /// finds it: what eval report says of the new weights against those that they came from
    #[arg(long)]
    pub(crate) report: bool,
    /// With --report: a text that both predict [default: the held-out tasks]
    #[arg(long, value_name = "FILE", requires = "report")]
    pub(crate) report_text: Option<PathBuf>,
    /// With --report: tasks of each kind and mode
    #[arg(long, value_name = "N", default_value = "50", requires = "report", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) report_count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scales {
    Ue8m0,
    F32,
}

/// Stream the checkpoint into another format, with an adapter merged in if one is named.
pub(crate) fn run(global: &Global, args: ConvertArgs) -> anyhow::Result<ExitCode> {
    if args.calibrate.is_some() && packs_nothing(&args) {
        return Err(usage(
            "--calibrate weighs what int8 and int4 round: leave it out, or choose one of them",
        ));
    }
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
    // What convert refuses anyway should not be read first.
    let refused = checkpoint.args().packed || args.out.exists();
    let wanted = args.report.then(|| {
        let (base, text) = (checkpoint.dir().to_owned(), args.report_text.clone());
        ReportArgs::of_conversion(base, text, args.report_count)
    });
    if let Some(wanted) = wanted.as_ref().filter(|_| !refused) {
        // Before anything long.
        refuse_unmeasurable(global, wanted)?;
    }
    if let Some(text) = args.calibrate.as_ref().filter(|_| !refused) {
        match calibrate::importance(global, text, &listening)? {
            Some(found) => options.importance = Some(found),
            None => {
                eprintln!(
                    "interrupted while reading {}; nothing of this run is kept, the same command \
                     reads it again",
                    text.display()
                );
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
    let bar = progress_bar(
        0,
        "converting {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    let mut noted = false;
    let mut show = |progress: Progress<'_>| {
        if bar.length() != Some(progress.bytes_total) {
            bar.set_length(progress.bytes_total);
            // What an earlier run did must not count towards this run's speed.
            bar.set_position(progress.bytes_done);
            bar.reset_eta();
        }
        bar.set_position(progress.bytes_done);
        if !noted && let Some(note) = progress.shortage() {
            noted = true;
            bar.suspend(|| eprintln!("note: {note}"));
        }
        match listening.pressed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let (out, adapter) = (&args.out, adapter.as_ref());
    let outcome = prepare(&checkpoint, adapter, out, &options, &mut show);
    bar.finish_and_clear();
    drop(listening);
    let written = match outcome {
        Err(WeightsError::Interrupted { .. }) => return interrupted(),
        outcome => outcome?,
    };
    // Without a name as yet, so that what is measured can be written into it.
    let rounding = match &wanted {
        Some(wanted) => match measured(global, wanted, out, &written) {
            Err(error) if matches!(error.downcast_ref(), Some(EvalError::Stopped)) => {
                return interrupted();
            }
            found => Some(found.with_context(|| {
                format!(
                    "all is converted, in {}, and what that costs could not be measured; the same \
                     command without --report only gives it its name",
                    written.dir().display()
                )
            })?),
        },
        None => None,
    };
    let report = written.finish()?;
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

#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    conversion: &'a ConvertReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<&'a Report>,
}

/// Refuse what could not be measured once all is written: a source without a tokenizer, or with one
/// that can't say the tasks, a text that can't be read or has nothing to predict.
fn refuse_unmeasurable(global: &Global, wanted: &ReportArgs) -> anyhow::Result<()> {
    let opened = model::open(global)?;
    if opened.text_tokenizer().is_none() {
        return Err(anyhow!(
            "{} holds no tokenizer.json, without which --report has no text to measure by: put the \
             checkpoint's tokenizer.json there, or leave --report out",
            opened.dir.display()
        ));
    }
    report::texts(wanted, &opened).map(drop)
}

/// Measure the new weights against the old ones, and write that down beside them.
fn measured(
    global: &Global,
    wanted: &ReportArgs,
    out: &Path,
    written: &Written,
) -> anyhow::Result<Report> {
    let global = Global {
        model: Some(written.dir().to_owned()),
        ..global.clone()
    };
    let report = report::compare(&global, wanted)?.of(out);
    written.set_rounding(&report.note())?;
    Ok(report)
}

/// Whether a format that is named packs nothing that a calibration could weigh.
fn packs_nothing(args: &ConvertArgs) -> bool {
    let packed = |format: &str| matches!(format, "int8" | "int4");
    args.recipe.is_none() && !args.format.as_deref().is_some_and(packed)
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
