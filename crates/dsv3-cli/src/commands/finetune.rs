//! `dsv3 finetune`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use dsv3_train::data::OnBadLine;
use dsv3_train::lora::{
    Finetune, FinetuneEnd, FinetuneOptions, FinetunePlan, Length, LoraConfig, LoraTarget,
};
use dsv3_train::report::{Progress, StepReport};
use dsv3_train::{Observer, TrainError, TrainOptions};

use crate::cli::Global;
use crate::error::{INTERRUPTED, usage};
use crate::output::{grouped, say_json};
use crate::{device, interrupt, model};

/// Steps between two lines where stderr is no terminal.
const PLAIN_EVERY: u64 = 10;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 finetune --model DeepSeek-V3.1 --data train.jsonl --out my-adapter\n\
    A line of the data is a conversation: {\"messages\": [...], \"tools\": [...]}; what the assistant\n\
    says is learned. Low-rank factors (LoRA) are trained beside the weights, which stay as they\n\
    are. Ctrl-C saves; the same command goes on. Then: dsv3 chat --adapter my-adapter"
)]
pub(crate) struct FinetuneArgs {
    /// Conversations, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// The folder to write: PEFT's adapter files, log.jsonl, curves.svg
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Rank of the factors
    #[arg(long, value_name = "R", default_value = "16")]
    pub(crate) rank: usize,
    /// Their product counts alpha / rank times [default: twice the rank]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) alpha: Option<f64>,
    /// Train factors of the routed experts as well: most of the model, and much slower
    #[arg(long)]
    pub(crate) experts: bool,
    /// Times through the data
    #[arg(
        long,
        value_name = "N",
        default_value = "3",
        allow_negative_numbers = true
    )]
    pub(crate) epochs: f64,
    /// Steps, instead of --epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub(crate) steps: Option<u64>,
    /// The highest learning rate
    #[arg(
        long,
        value_name = "X",
        default_value = "2e-4",
        allow_negative_numbers = true
    )]
    pub(crate) lr: f64,
    /// Tokens of one pass at most
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) batch_tokens: usize,
    /// Passes whose gradients are added up to one step
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) accumulate: usize,
    /// The longest conversation, in tokens [default: what a pass holds and the model has]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,
    /// Share of the conversations that is held out to measure on
    #[arg(
        long,
        value_name = "X",
        default_value = "0.05",
        allow_negative_numbers = true
    )]
    pub(crate) eval_fraction: f64,
    /// The same seed trains the same adapter
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,
    /// What to do with a line that can't be trained on; a skipped one is reported
    #[arg(long, value_enum, default_value = "refuse")]
    pub(crate) on_bad_line: BadLine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BadLine {
    Refuse,
    Skip,
}

/// Train an adapter, or go on with it.
pub(crate) fn run(global: &Global, args: FinetuneArgs) -> anyhow::Result<ExitCode> {
    let opened = model::open(global)?;
    let tokenizer = opened.text_tokenizer().ok_or_else(|| {
        anyhow!(
            "{} holds no tokenizer.json, so conversations can't be read: put the checkpoint's \
             tokenizer.json there",
            opened.dir.display()
        )
    })?;
    let options = options(&args, opened.args().max_position_embeddings);
    let device = device::open(global.device)?.device;
    interrupt::install()?;
    let mut shown = Shown {
        json: global.json,
        bar: None,
    };
    let ready = Finetune::prepare(
        opened.checkpoint(),
        tokenizer,
        &args.data,
        &args.out,
        &options,
        &device,
        &mut shown,
    );
    let ready = ready.map_err(refused)?;
    eprintln!("{}", planned(ready.plan()));
    let listening = interrupt::listen();
    let end = ready.run(listening.flag(), &mut shown);
    if let Some(bar) = &mut shown.bar {
        bar.finish();
    }
    match end.map_err(refused)? {
        FinetuneEnd::Stopped => Ok(ExitCode::from(INTERRUPTED)),
        FinetuneEnd::Complete { before, after } => {
            if let (Some(before), Some(after)) = (before, after) {
                eprintln!("held-out loss {before:.4} before, {after:.4} after");
            }
            let (dir, out) = (opened.dir.display(), args.out.display());
            eprintln!("the adapter is in {out}: dsv3 chat --model {dir} --adapter {out}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn options(args: &FinetuneArgs, positions: usize) -> FinetuneOptions {
    let mut lora = LoraConfig {
        r: args.rank,
        alpha: args.alpha.unwrap_or(2.0 * args.rank as f64),
        seed: args.seed,
        ..LoraConfig::default()
    };
    if args.experts {
        lora.targets.push(LoraTarget::RoutedExperts);
    }
    FinetuneOptions {
        lora,
        train: TrainOptions::lora(),
        length: match args.steps {
            Some(steps) => Length::Steps(steps),
            None => Length::Epochs(args.epochs),
        },
        learning_rate: args.lr,
        tokens_per_batch: args.batch_tokens,
        batches_per_step: args.accumulate,
        context: args.context.unwrap_or(positions.min(args.batch_tokens)),
        eval_fraction: args.eval_fraction,
        on_bad_line: match args.on_bad_line {
            BadLine::Refuse => OnBadLine::Refuse,
            BadLine::Skip => OnBadLine::Skip,
        },
    }
}

/// Flags that contradict each other or the model are wrong use.
fn refused(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::Finetune { .. } | TrainError::Split { .. } => usage(error.to_string()),
        other => other.into(),
    }
}

/// What is about to happen, in a few words.
fn planned(plan: &FinetunePlan) -> String {
    let count = |n: usize| grouped(n as u64);
    let mut text = format!(
        "{} sequences of {} tokens ({} learned), {} held out; {} parameters, {} steps",
        count(plan.sequences),
        count(plan.tokens),
        count(plan.targets),
        count(plan.held_out),
        count(plan.parameters),
        grouped(plan.steps),
    );
    if plan.skipped > 0 {
        text += &format!("; {} lines skipped", grouped(plan.skipped));
    }
    if plan.held_out == 0 {
        text += "\nnothing is held out: how well the adapter does on what it has not seen is not measured";
    }
    text
}

/// Shows a run: progress on stderr, reports on stdout if they are asked for.
struct Shown {
    json: bool,
    bar: Option<Progress>,
}

impl Observer for Shown {
    fn step(&mut self, report: &StepReport) {
        if self.json {
            // Whoever read the reports has read enough; the training goes on, and logs them too.
            self.json = say_json(report).is_ok();
        }
        let done = report.step.saturating_sub(1);
        let bar = self
            .bar
            .get_or_insert_with(|| Progress::new(report.total_steps, done, PLAIN_EVERY));
        match (report.step, report.eval_loss) {
            (0, Some(loss)) => bar.note(&format!("held-out loss of the base: {loss:.4}")),
            _ => bar.step(report),
        }
    }

    fn note(&mut self, text: &str) {
        match &mut self.bar {
            Some(bar) => bar.note(text),
            None => eprintln!("{text}"),
        }
    }
}
