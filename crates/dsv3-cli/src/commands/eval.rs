//! `dsv3 eval`

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use dsv3_engine::{Engine, EngineConfig};
use dsv3_eval::{
    EvalError, EvalSet, Failure, Outcome, Prepared, Progress, Rate, Report, SetOptions, Settings,
    Total, acceptance, mtp_texts,
};
use dsv3_model::MtpModule;
use dsv3_tasks::{Kind, Mode};
use dsv3_tokenizer::Tokenizer;

use super::report::{self, ReportArgs};
use crate::cli::{Global, LoadArgs};
use crate::error::INTERRUPTED;
use crate::interrupt::{self, Listening};
use crate::model::{self, Opened};
use crate::output::{grouped, progress_bar, say, say_json, table};

/// Tokens of cache at most, if --context does not say: more would save no time worth its memory.
const CACHE_TOKENS: usize = 32_768;

/// Tasks of each kind and mode over which MTP is measured: enough for some ten thousand tokens.
const MTP_TASKS: usize = 25;

#[derive(Debug, Args)]
#[command(after_help = "Example: dsv3 eval fixture --model fixtures/dsv3-tiny")]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    pub(crate) command: EvalCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// The held-out tasks of the small model's corpus, scored by exact answer
    Fixture(FixtureArgs),
    /// How far a model lies from another, the same one before it was rounded: predictions, weights,
    /// and the tasks where it is the small one
    Report(ReportArgs),
}

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example: dsv3 eval fixture --model fixtures/dsv3-tiny --kinds arithmetic,tools --show-failures 3\n\
    Decoding is greedy; the same flags ask the same tasks, so two reports differ by the models\n\
    alone. Intervals are Wilson's, 95%."
)]
pub(crate) struct FixtureArgs {
    /// Show up to N wrong answers of each kind and mode
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) show_failures: usize,
    #[command(flatten)]
    pub(crate) tasks: TaskArgs,
}

/// Which tasks a model is given, and how it runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct TaskArgs {
    /// Tasks of each kind and mode; a quarter of it at each length of the buried fact
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// The same seed gives the same tasks
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// Only these kinds, as the report names them: arithmetic,facts,… [default: all]
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = parse_kind)]
    pub(crate) kinds: Vec<Kind>,
    /// Only these modes: think, nothink, raw [default: all]
    #[arg(long, value_name = "MODES", value_delimiter = ',', value_parser = parse_mode)]
    pub(crate) modes: Vec<Mode>,
    /// Tokens to write in a turn at most; more count as no answer
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_new_tokens: u32,
    /// Tasks that run at once
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) in_flight: u16,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// A kind of task by its name.
fn parse_kind(name: &str) -> Result<Kind, String> {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| format!("there is {}", Kind::ALL.map(Kind::name).join(", ")))
}

/// A way of asking by its name.
fn parse_mode(name: &str) -> Result<Mode, String> {
    let modes = [Mode::Think, Mode::Nothink, Mode::Raw];
    let known = modes.into_iter().find(|mode| mode.name() == name);
    known.ok_or_else(|| format!("there is {}", modes.map(Mode::name).join(", ")))
}

/// Evaluate a model.
pub(crate) fn run(global: &Global, args: EvalArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        EvalCommand::Fixture(args) => fixture(global, &args),
        EvalCommand::Report(args) => report::run(global, &args),
    }
}

/// `dsv3 eval fixture`
fn fixture(global: &Global, args: &FixtureArgs) -> anyhow::Result<ExitCode> {
    let (args, failures) = (&args.tasks, args.show_failures);
    let opened = model::open(global)?;
    let options = set_options(args);
    let prepared = prepare(&options, args, &opened)?;
    let settings = Settings {
        model: match &args.load.adapter {
            Some(adapter) => format!("{} + {}", opened.dir.display(), adapter.display()),
            None => opened.dir.display().to_string(),
        },
        device: global.device.to_string(),
        dtype: args.load.dtype.precision().name().to_owned(),
        cache: args.load.cache_format().name().to_owned(),
        w8a8: args.load.w8a8,
        seed: options.seed,
        count: options.count,
        max_new_tokens: args.max_new_tokens as usize,
    };
    let (mut engine, module) = load(global, args, opened, &prepared, 0)?;

    interrupt::install()?;
    let listening = interrupt::listen();
    let evaluated = evaluate(args, &mut engine, module.as_ref(), &prepared, &listening);
    let (outcomes, seconds, mtp) = match evaluated {
        Err(EvalError::Stopped) => return Ok(ExitCode::from(INTERRUPTED)),
        other => other?,
    };
    let tokenizer = engine.tokenizer().ok_or(EvalError::NoTokenizer)?;
    let mut report = Report::new(settings, &prepared, &outcomes, tokenizer, seconds, failures)?;
    report.mtp_acceptance = mtp;
    match global.json {
        true => say_json(&report)?,
        false => say(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn set_options(args: &TaskArgs) -> SetOptions {
    let mut options = SetOptions {
        seed: args.seed,
        count: args.count as usize,
        ..SetOptions::default()
    };
    if !args.kinds.is_empty() {
        // In the report's order, each once.
        options.kinds.retain(|kind| args.kinds.contains(kind));
    }
    if !args.modes.is_empty() {
        options.modes.retain(|mode| args.modes.contains(mode));
    }
    options
}

/// The tasks as ids, before any weight is read.
pub(super) fn prepare(
    options: &SetOptions,
    args: &TaskArgs,
    opened: &Opened,
) -> anyhow::Result<Prepared> {
    let dir = opened.dir.display();
    let tokenizer: &Tokenizer = opened
        .text_tokenizer()
        .ok_or(EvalError::NoTokenizer)
        .with_context(|| format!("cannot evaluate {dir}"))?;
    let positions = opened.args().max_position_embeddings;
    let context = args.load.context.map_or(positions, |n| n as usize);
    let capacity = context.min(positions);
    let set = EvalSet::new(options)?;
    let max_new_tokens = args.max_new_tokens as usize;
    Prepared::new(&set, tokenizer, capacity, max_new_tokens)
        .with_context(|| format!("cannot evaluate {dir}"))
}

/// An engine that holds the tasks and texts of `longest` tokens, and the MTP module.
pub(super) fn load(
    global: &Global,
    args: &TaskArgs,
    opened: Opened,
    prepared: &Prepared,
    longest: usize,
) -> anyhow::Result<(Engine, Option<MtpModule>)> {
    let model = opened.load_model(global, &args.load)?;
    let module = opened.load_mtp(&model)?;
    let (in_flight, config) = (usize::from(args.in_flight), args.load.engine_config());
    let wanted = prepared.cache_tokens(in_flight, config.block_size);
    let tokens = match args.load.context {
        Some(tokens) => tokens as usize,
        None => wanted
            .min(CACHE_TOKENS)
            .max(prepared.longest())
            .max(longest),
    };
    let config = EngineConfig {
        max_cached_tokens: tokens,
        max_sequences: in_flight.max(config.max_sequences),
        ..config
    };
    let (engine, _) = opened.engine(model, config)?;
    Ok((engine, module))
}

/// All answers, the seconds that they took, and MTP's rate.
fn evaluate(
    args: &TaskArgs,
    engine: &mut Engine,
    module: Option<&MtpModule>,
    prepared: &Prepared,
    listening: &Listening,
) -> Result<(Vec<Outcome>, f64, Option<Rate>), EvalError> {
    let go_on = || match listening.pressed() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let started = Instant::now();
    let total = prepared.tasks.len() as u64;
    let bar = progress_bar(total, "evaluating {bar:30} {pos}/{len} {msg}, {eta} left");
    let in_flight = usize::from(args.in_flight);
    let outcomes = dsv3_eval::run(engine, prepared, in_flight, &mut |progress| {
        bar.set_position(progress.done as u64);
        bar.set_message(message(progress, started));
        go_on()
    });
    bar.finish_and_clear();
    let outcomes = outcomes?;
    let seconds = started.elapsed().as_secs_f64();
    let Some(module) = module else {
        return Ok((outcomes, seconds, None));
    };
    let texts = mtp_texts(prepared, &outcomes, MTP_TASKS);
    let bar = progress_bar(texts.len() as u64, "MTP {bar:30} {pos}/{len}, {eta} left");
    let vocab = engine.real_vocab_size();
    let rate = acceptance(engine.model(), module, &texts, vocab, &mut || {
        bar.inc(1);
        go_on()
    });
    bar.finish_and_clear();
    Ok((outcomes, seconds, Some(rate?)))
}

/// The tasks' scores by mode, and nothing else.
pub(super) fn totals(
    args: &TaskArgs,
    engine: &mut Engine,
    prepared: &Prepared,
    listening: &Listening,
) -> anyhow::Result<Vec<Total>> {
    let (outcomes, seconds, _) = evaluate(args, engine, None, prepared, listening)?;
    let tokenizer = engine.tokenizer().ok_or(EvalError::NoTokenizer)?;
    let settings = Settings::default();
    Ok(Report::new(settings, prepared, &outcomes, tokenizer, seconds, 0)?.totals)
}

fn message(progress: &Progress, started: Instant) -> String {
    let right = Rate::new(progress.right, progress.done);
    let speed = progress.tokens as f64 / started.elapsed().as_secs_f64().max(1e-9);
    let (percent, speed) = (percent(right.rate), grouped(speed as u64));
    format!("{percent} right, {speed} tokens/s")
}

fn percent(rate: f64) -> String {
    format!("{:.1}%", 100.0 * rate)
}

/// The cells that every table ends with.
fn cells(rate: &Rate) -> [String; 4] {
    [
        grouped(rate.right as u64),
        grouped(rate.count as u64),
        percent(rate.rate),
        format!("{} to {}", percent(rate.low), percent(rate.high)),
    ]
}

fn row(first: &[&str], rate: &Rate) -> Vec<String> {
    let first = first.iter().map(|cell| (*cell).to_owned());
    first.chain(cells(rate)).collect()
}

fn header(first: &[&str]) -> Vec<String> {
    let rest = ["right", "of", "rate", "95% interval"];
    let all = first.iter().chain(&rest);
    all.map(|cell| (*cell).to_owned()).collect()
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut rows = vec![header(&["kind", "mode"])];
    for score in &report.scores {
        rows.push(row(&[score.kind.name(), score.mode.name()], &score.rate));
    }
    for total in &report.totals {
        rows.push(row(&["all", total.mode.name()], &total.rate));
    }
    let mut text = table(&rows);
    let details = details(report);
    if details.len() > 1 {
        text += &format!("\n{}", table(&details));
    }
    if !report.skipped_lengths.is_empty() {
        let lengths: Vec<_> = report
            .skipped_lengths
            .iter()
            .map(usize::to_string)
            .collect();
        text += &format!(
            "\nburied, {} tokens: left out, the context is shorter\n",
            lengths.join(" and ")
        );
    }
    let speed = report.tokens as f64 / report.seconds.max(1e-9);
    text += &format!(
        "\n{} tasks, {} tokens written in {:.1} s ({} tokens/s); seed {}, set {}\n",
        grouped(report.tasks as u64),
        grouped(report.tokens as u64),
        report.seconds,
        grouped(speed as u64),
        report.settings.seed,
        report.set,
    );
    for failure in &report.failures {
        text += &shown_failure(failure);
    }
    text
}

fn details(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![header(&["in detail"])];
    for detail in &report.details {
        let name = title(detail.kind, detail.mode);
        rows.push(row(&[&format!("{name}: {}", detail.measure)], &detail.rate));
    }
    if let Some(rate) = &report.mtp_acceptance {
        rows.push(row(&["MTP: second token accepted"], rate));
    }
    rows
}

fn title(kind: Kind, mode: Mode) -> String {
    format!("{} ({})", kind.name(), mode.name())
}

fn shown_failure(failure: &Failure) -> String {
    format!(
        "\n{}, {}, turn {}: {}\n  prompt    {}\n  expected  {}\n  got       {}\n",
        title(failure.kind, failure.mode),
        one_line(&failure.id),
        failure.turn,
        one_line(&failure.wrong),
        one_line(&end_of(&failure.prompt)),
        one_line(&failure.expected),
        one_line(&failure.got),
    )
}

/// The last few hundred characters, where the question stands.
fn end_of(text: &str) -> String {
    const SHOWN: usize = 400;
    match text.char_indices().rev().nth(SHOWN) {
        Some((at, _)) => format!("…{}", text.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What a model wrote, on one line and without what moves a cursor.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push('⏎'),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}
