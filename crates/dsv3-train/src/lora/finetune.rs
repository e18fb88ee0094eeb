//! A fine-tuning from a file of conversations to an adapter.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use dsv3_tokenizer::Tokenizer;
use dsv3_weights::{AdapterConfig, Checkpoint};
use serde::Serialize;

use super::config::LoraConfig;
use super::file::write_adapter;
use super::out::Out;
use crate::data::{
    ContentHash, ConversationOptions, Dataset, DatasetSource, OnBadLine, PackedBatch,
    TrainSequence, hash_text, read_jsonl,
};
use crate::error::TrainError;
use crate::report::read_log;
use crate::run::{Observer, Phases, RunEnd, RunOptions, run};
use crate::schedule::{Decay, Schedule};
use crate::trainer::{TrainOptions, Trainer};

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Times through the data, about: batches are filled across its end.
    Epochs(f64),
    /// Steps of the optimiser.
    Steps(u64),
}

/// How to fine-tune.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneOptions {
    /// Which factors.
    pub lora: LoraConfig,
    /// How they are moved.
    pub train: TrainOptions,
    /// How long.
    pub length: Length,
    /// The highest learning rate: reached after a twentieth of the steps, then half a cosine wave
    /// down to a tenth of it.
    pub learning_rate: f64,
    /// Tokens of one forward pass at most.
    pub tokens_per_batch: usize,
    /// Passes whose gradients make a step.
    pub batches_per_step: usize,
    /// The longest conversation, in tokens.
    pub context: usize,
    /// The share of the conversations that is held out to measure on.
    pub eval_fraction: f64,
    /// What becomes of a line that can't be trained on.
    pub on_bad_line: OnBadLine,
}

/// What a fine-tuning is about to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FinetunePlan {
    /// Sequences to train on.
    pub sequences: usize,
    /// Their tokens.
    pub tokens: usize,
    /// How many of those are learned.
    pub targets: usize,
    /// Sequences held out.
    pub held_out: usize,
    /// Lines skipped.
    pub skipped: u64,
    /// Steps in all.
    pub steps: u64,
    /// Values in the factors.
    pub parameters: usize,
    /// Whether an earlier run is gone on with.
    pub resumed: bool,
}

/// How a fine-tuning ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FinetuneEnd {
    /// The adapter is written. The held-out loss before and after, where something was held out.
    Complete {
        /// Of the base.
        before: Option<f64>,
        /// With the adapter.
        after: Option<f64>,
    },
    /// It was asked to stop; the same call goes on.
    Stopped,
}

/// A fine-tuning that is ready to run.
pub struct Finetune {
    trainer: Trainer,
    source: DatasetSource,
    held_out: Vec<TrainSequence>,
    options: RunOptions,
    recipe: String,
    config: AdapterConfig,
    out: Out,
    plan: FinetunePlan,
}

impl Finetune {
    /// Reads the data, then loads the model: what is wrong with folder, flags or data shows before
    /// anything large is read. Lines that are skipped are told to `observer`.
    ///
    /// # Errors
    /// [`TrainError::Output`], [`TrainError::Finetune`], what [`read_jsonl`] and
    /// [`Dataset::split_off`] refuse, and what is wrong with the checkpoint.
    pub fn prepare(
        base: &Checkpoint,
        tokenizer: &Tokenizer,
        data: &Path,
        out: &Path,
        options: &FinetuneOptions,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        options.lora.validate()?;
        check(options, base.args().max_position_embeddings)?;
        let out = Out::check(out)?;
        let conversations = ConversationOptions {
            context: options.context,
        };
        let mut bad = |line: &crate::data::BadLine| observer.note(&format!("skipped {line}"));
        let mut train = read_jsonl(
            data,
            tokenizer,
            &conversations,
            options.on_bad_line,
            &mut bad,
        )?;
        let held_out = train.split_off(options.eval_fraction, options.lora.seed)?;
        let (tokens, targets) = train.token_counts();
        let steps = steps(options, tokens);
        let schedule = schedule(steps, options.learning_rate);
        schedule.validate()?;
        let run = RunOptions {
            tokens_per_batch: options.tokens_per_batch,
            batches_per_step: options.batches_per_step,
            schedule,
            phases: Phases::default(),
            save_every: (steps / 20).clamp(10, 200),
            eval_every: (steps / 10).max(1),
            eval_first: true,
        };
        let recipe = recipe(base, [&train, &held_out], options);
        let trainer = Trainer::lora(base, &options.lora, options.train.clone(), device)?;
        let plan = FinetunePlan {
            sequences: train.sequences().len(),
            tokens,
            targets,
            held_out: held_out.sequences().len(),
            skipped: train.skipped_lines,
            steps,
            parameters: trainer.parameters().count(),
            resumed: out.is_begun(),
        };
        let name = base.dir().display().to_string();
        Ok(Finetune {
            trainer,
            source: DatasetSource::new(train, options.lora.seed)?,
            held_out: held_out.sequences().to_vec(),
            options: run,
            recipe,
            config: options.lora.adapter_config(base.args(), &name),
            out,
            plan,
        })
    }

    /// What it is about to do.
    pub fn plan(&self) -> &FinetunePlan {
        &self.plan
    }

    /// Train, and write the adapter when all steps are taken. When `stop` is set, the state is
    /// saved after the step in hand.
    ///
    /// # Errors
    /// What [`run`] and [`write_adapter`] refuse.
    pub fn run(
        mut self,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<FinetuneEnd, TrainError> {
        let dir = self.out.claim()?;
        let end = run(
            &mut self.trainer,
            self.source,
            &self.held_out,
            &self.options,
            &self.recipe,
            &dir,
            stop,
            observer,
        )?;
        if end == RunEnd::Stopped {
            return Ok(FinetuneEnd::Stopped);
        }
        let reports = read_log(dir.log())?;
        let before = reports.first().filter(|report| report.step == 0);
        let after = match reports.last().and_then(|report| report.eval_loss) {
            Some(loss) => Some(loss),
            None if self.held_out.is_empty() => None,
            // A run that was stopped and given fewer steps ends where none was measured.
            None => {
                let batches = PackedBatch::pack_all(&self.held_out, self.options.tokens_per_batch)?;
                Some(self.trainer.evaluate(&batches)?)
            }
        };
        write_adapter(self.out.path(), self.trainer.parameters(), &self.config)?;
        self.out.finish()?;
        Ok(FinetuneEnd::Complete {
            before: before.and_then(|report| report.eval_loss),
            after,
        })
    }
}

fn check(options: &FinetuneOptions, positions: usize) -> Result<(), TrainError> {
    let wrong = |problem: String| Err(TrainError::Finetune { problem });
    let (context, batch) = (options.context, options.tokens_per_batch);
    if context < 2 || context > positions {
        return wrong(format!(
            "the context is {context} tokens; the model has 2 to {positions} (max_position_embeddings)"
        ));
    }
    if context > batch {
        return wrong(format!(
            "a conversation of {context} tokens, the context, does not fit a batch of {batch}; shorten the context, or raise the tokens per batch"
        ));
    }
    if options.batches_per_step == 0 {
        return wrong("a step of 0 batches learns nothing; give 1 or more".into());
    }
    if !(options.learning_rate.is_finite() && options.learning_rate > 0.0) {
        return wrong(format!(
            "the learning rate is {}, not a number above 0",
            options.learning_rate
        ));
    }
    match options.length {
        Length::Steps(0) => wrong("0 steps train nothing; give 1 or more".into()),
        Length::Epochs(epochs) if !(epochs > 0.0 && epochs <= 1e6) => {
            wrong(format!("{epochs} epochs; give a number above 0"))
        }
        _ => Ok(()),
    }
}

/// How many steps.
fn steps(options: &FinetuneOptions, tokens: usize) -> u64 {
    match options.length {
        Length::Steps(steps) => steps,
        Length::Epochs(epochs) => {
            let step = options.tokens_per_batch * options.batches_per_step;
            ((epochs * tokens as f64 / step as f64).ceil() as u64).max(1)
        }
    }
}

fn schedule(steps: u64, peak: f64) -> Schedule {
    let warmup_steps = (steps / 20).min(100);
    Schedule {
        warmup_steps,
        total_steps: steps,
        decay_steps: steps - warmup_steps,
        peak,
        floor: peak / 10.0,
        decay: Decay::Cosine,
    }
}

/// What a continued run must have in common with its beginning. How long it is and how fast it
/// learns may change.
fn recipe(base: &Checkpoint, data: [&Dataset; 2], options: &FinetuneOptions) -> String {
    let fixed = serde_json::json!({
        "base": base_hash(base),
        "data": data.map(data_hash),
        "lora": options.lora,
        "train": options.train,
        "tokens_per_batch": options.tokens_per_batch,
        "batches_per_step": options.batches_per_step,
    });
    format!("{:016x}", hash_text(&fixed.to_string()))
}

/// Of the tokens, so that it changes with the tokenizer too.
fn data_hash(data: &Dataset) -> u64 {
    let mut hash = ContentHash::new();
    for sequence in data.sequences() {
        let tokens = sequence.tokens().iter().zip(sequence.targets_mask());
        let bytes = tokens.flat_map(|(token, target)| [token << 1 | u32::from(*target)]);
        let bytes: Vec<u8> = bytes.flat_map(u32::to_le_bytes).collect();
        hash.piece(&bytes);
    }
    hash.finish()
}

/// A number that tells bases apart: the configuration, and a little of each file, since reading
/// all of it would take longer than many a training.
fn base_hash(base: &Checkpoint) -> u64 {
    /// Tensors of each file that are looked at, and bytes of each.
    const TENSORS: usize = 16;
    const BYTES: usize = 4096;
    let mut hash = ContentHash::new();
    hash.piece(format!("{:?}", base.args()).as_bytes());
    for file in base.files() {
        hash.piece(&file.byte_len().to_le_bytes());
        let tensors = file.tensors();
        let every = tensors.len().div_ceil(TENSORS).max(1);
        for tensor in tensors.step_by(every) {
            hash.piece(tensor.name().as_bytes());
            let bytes = tensor.as_slice();
            hash.piece(bytes.get(..BYTES).unwrap_or(bytes));
        }
    }
    hash.finish()
}
