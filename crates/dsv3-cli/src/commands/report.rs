//! `dsv3 eval report`: what a format, an adapter or other arithmetic costs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use dsv3_engine::Engine;
use dsv3_eval::{CountedText, Divergence, EvalError, EvalSet, Rate, Total, divergence};
use dsv3_tokenizer::Prompt;
use dsv3_weights::difference::{ComponentDifference, by_component, differences};
use serde::Serialize;
use serde_json::json;

use super::eval::{self, TaskArgs};
use crate::cli::{Global, LoadArgs};
use crate::error::{INTERRUPTED, usage};
use crate::interrupt;
use crate::model::{self, Opened};
use crate::output::{grouped, progress_bar, say, say_json, table};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 eval report --base DeepSeek-V3.1-bf16 --model V3.1-int4 --text book.txt\n\
    Both models read the same text; the divergence is from the base. Without --text it is the\n\
    held-out tasks with their right answers. The small model (as the base) is also given the tasks\n\
    themselves; with --text and another base there are none, and the flags that choose tasks do\n\
    nothing. --dtype, --cache, --w8a8 and --adapter are for --model: the base runs in f32, bare."
)]
pub(crate) struct ReportArgs {
    /// The model to hold --model against: the same one before it was rounded
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// A text that both predict [default: the held-out tasks]
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Tokens of the text that are read together
    #[arg(long, value_name = "N", default_value = "512", requires = "text", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) window: u32,
    #[command(flatten)]
    pub(crate) tasks: TaskArgs,
}

impl ReportArgs {
    /// What a conversion is measured by.
    pub(crate) fn of_conversion(base: PathBuf, text: Option<PathBuf>, count: u32) -> Self {
        ReportArgs {
            base,
            text,
            window: 512,
            tasks: TaskArgs {
                count,
                seed: 1,
                kinds: Vec::new(),
                modes: Vec::new(),
                max_new_tokens: 256,
                in_flight: 32,
                load: LoadArgs::default(),
            },
        }
    }
}

/// All that is found out.
#[derive(Serialize)]
pub(crate) struct Report {
    base: String,
    model: String,
    text: String,
    #[serde(skip)]
    is_text: bool,
    #[serde(flatten)]
    divergence: Divergence,
    components: Vec<ComponentDifference>,
    tasks: Option<Tasks>,
}

impl Report {
    /// Of the same model under the name that it gets.
    pub(crate) fn of(self, dir: &Path) -> Self {
        Report {
            model: dir.display().to_string(),
            ..self
        }
    }

    /// As a checkpoint keeps it: without the names of folders, which mean nothing elsewhere.
    pub(crate) fn note(&self) -> String {
        let worst = |c: &ComponentDifference| (c.component.name(), json!(c.relative_rms));
        let note = json!({
            "version": 1,
            "text": match self.is_text {
                true => "a text",
                false => "held-out tasks with their answers",
            },
            "divergence": self.divergence,
            "relative_error": self.components.iter().map(worst).collect::<BTreeMap<_, _>>(),
            "tasks": self.tasks,
        });
        note.to_string()
    }
}

/// Held-out tasks done by both.
#[derive(Serialize)]
struct Tasks {
    base: Vec<Total>,
    model: Vec<Total>,
}

/// Hold one model against another.
pub(crate) fn run(global: &Global, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    interrupt::install()?;
    let report = match compare(global, args) {
        Err(error) if matches!(error.downcast_ref(), Some(EvalError::Stopped)) => {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        found => found?,
    };
    match global.json {
        true => say_json(&report)?,
        false => say(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Find it out. [`EvalError::Stopped`] after Ctrl-C, which must be taken over already.
pub(crate) fn compare(global: &Global, args: &ReportArgs) -> anyhow::Result<Report> {
    let bare = TaskArgs {
        load: LoadArgs {
            context: args.tasks.load.context,
            ..LoadArgs::default()
        },
        ..args.tasks.clone()
    };
    let base_global = Global {
        model: Some(args.base.clone()),
        ..global.clone()
    };
    let (base, other) = (model::open(&base_global)?, model::open(global)?);
    let (base_dir, dir) = (base.dir.clone(), other.dir.clone());
    let with_tasks = base.is_small;
    let texts = texts(args, &base)?;
    let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
    let components = components(&base, &other)?;

    let prepared = match with_tasks {
        true => Some(eval::prepare(&eval::set_options(&bare), &bare, &base)?),
        false => None,
    };
    let engine = |global: &Global, args: &TaskArgs, opened: Opened| match &prepared {
        Some(prepared) => {
            let (engine, _) = eval::load(global, args, opened, prepared, longest)?;
            Ok(engine)
        }
        None => opened
            .load(global, &args.load, longest)
            .map(|(engine, _)| engine),
    };
    let mut ours = engine(&base_global, &bare, base)?;
    let mut theirs: Engine = engine(global, &args.tasks, other)?;

    let listening = interrupt::listen();
    let bar = progress_bar(
        texts.len() as u64,
        "comparing {bar:30} {pos}/{len}, {eta} left",
    );
    let divergence = divergence(&mut ours, &mut theirs, &texts, &mut || {
        bar.inc(1);
        match listening.pressed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let divergence = divergence?;
    let tasks = match &prepared {
        Some(prepared) => Some(Tasks {
            base: eval::totals(&bare, &mut ours, prepared, &listening)?,
            model: eval::totals(&args.tasks, &mut theirs, prepared, &listening)?,
        }),
        None => None,
    };
    Ok(Report {
        base: base_dir.display().to_string(),
        model: dir.display().to_string(),
        text: match &args.text {
            Some(file) => file.display().to_string(),
            None => "held-out tasks with their answers".to_owned(),
        },
        is_text: args.text.is_some(),
        divergence,
        components,
        tasks,
    })
}

/// What both are to predict.
pub(super) fn texts(args: &ReportArgs, base: &Opened) -> anyhow::Result<Vec<CountedText>> {
    let tokenizer = base.tokenizer()?;
    if let Some(file) = &args.text {
        return windows(file, base, args.window as usize);
    }
    let set = EvalSet::new(&eval::set_options(&args.tasks))?;
    let mut texts = CountedText::of_set(&set, tokenizer)?;
    let positions = base.args().max_position_embeddings;
    texts.retain(|text| text.ids.len() <= positions);
    Ok(texts)
}

/// The text of `file` in pieces of `window` tokens.
pub(super) fn windows(
    file: &Path,
    model: &Opened,
    window: usize,
) -> anyhow::Result<Vec<CountedText>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the text {}", file.display()))?;
    let ids = Prompt::raw(&text).to_ids(model.tokenizer()?)?;
    let window = window.min(model.args().max_position_embeddings);
    let windows = CountedText::windows(&ids, window);
    match windows.is_empty() {
        true => Err(usage(format!(
            "{} has too little text: give at least two tokens",
            file.display()
        ))),
        false => Ok(windows),
    }
}

/// The weights' own differences.
fn components(base: &Opened, other: &Opened) -> anyhow::Result<Vec<ComponentDifference>> {
    let bar = progress_bar(0, "weights {bar:30} {pos}/{len}, {eta} left");
    let found = differences(base.checkpoint(), other.checkpoint(), &mut |_, total| {
        bar.set_length(total);
        bar.inc(1);
    });
    bar.finish_and_clear();
    Ok(by_component(&found?))
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let d = &report.divergence;
    let mut text = format!(
        "{} against {}, over {} ({} tokens)\n\n",
        report.model,
        report.base,
        report.text,
        grouped(d.tokens as u64)
    );
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    text += &table(&[
        row(
            "perplexity of the base",
            format!("{:.5}", d.base_perplexity),
        ),
        row("perplexity", format!("{:.5}", d.perplexity)),
        row("KL divergence, mean", format!("{:.3e}", d.kl_mean)),
        row(
            "KL divergence, 99th percentile",
            format!("{:.3e}", d.kl_p99),
        ),
        row("KL divergence, largest", format!("{:.3e}", d.kl_max)),
        row("same most probable token", percent(&d.top_1)),
    ]);
    let mut rows = vec![["weights", "tensors", "relative error", "worst", ""].map(str::to_owned)];
    rows.extend(report.components.iter().map(|c| {
        [
            c.component.name().to_owned(),
            grouped(c.tensors),
            format!("{:.3e}", c.relative_rms),
            format!("{:.3e}", c.worst.1),
            c.worst.0.clone(),
        ]
    }));
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    text += &format!("\n{}", table(&rows));
    let Some(tasks) = &report.tasks else {
        return text;
    };
    let header = ["tasks", "of", "base", "model", "points"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (base, model) in tasks.base.iter().zip(&tasks.model) {
        rows.push(vec![
            base.mode.name().to_owned(),
            grouped(base.rate.count as u64),
            percent(&base.rate),
            percent(&model.rate),
            format!("{:+.1}", 100.0 * (model.rate.rate - base.rate.rate)),
        ]);
    }
    text + &format!("\n{}", table(&rows))
}

fn percent(rate: &Rate) -> String {
    format!("{:.2}%", 100.0 * rate.rate)
}
