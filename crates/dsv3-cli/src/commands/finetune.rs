//! `dsv3 finetune`

use std::process::ExitCode;

use anyhow::anyhow;
use dsv3_train::data::OnBadLine;
use dsv3_train::lora::{
    Finetune, FinetuneEnd, FinetuneOptions, FinetunePlan, Length, LoraConfig, LoraTarget,
};
use dsv3_train::report::{Progress, StepReport};
use dsv3_train::{Observer, TrainError, TrainOptions};

use crate::cli::{BadLine, FinetuneArgs, Global};
use crate::error::{INTERRUPTED, usage};
use crate::output::{grouped, say_json};
use crate::{device, interrupt, model};

/// Steps between two lines where stderr is no terminal.
const PLAIN_EVERY: u64 = 10;

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
