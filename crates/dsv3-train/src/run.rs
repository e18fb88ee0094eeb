//! A training run: steps, evaluation, log, state; stopped and gone on with at will.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::data::{PackedBatch, Packer, PackingOptions, PackingPosition, Source, TrainSequence};
use crate::error::TrainError;
use crate::report::{JsonLog, StepReport, curves_svg};
use crate::schedule::Schedule;
use crate::state::{RunProgress, has_state, load_state, save_state};
use crate::trainer::Trainer;

/// What changes in the course of a run, in parts of its steps from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// From here on positions are stretched by `rope_scaling`; before, they are plain (§4.3).
    #[serde(default)]
    pub stretched_from: f64,
    /// From here on the MTP module is trained; before, it costs nothing.
    pub mtp_from: f64,
    /// From here on its loss weighs `late_mtp_weight` and the correction biases rest (report §4.2).
    pub late_from: f64,
    /// λ in the late part.
    pub late_mtp_weight: f32,
}

impl Default for Phases {
    /// MTP and stretched positions from the start; weight 0.1 and resting biases for the last third.
    fn default() -> Self {
        Phases {
            stretched_from: 0.0,
            mtp_from: 0.0,
            late_from: 0.67,
            late_mtp_weight: 0.1,
        }
    }
}

/// How a run goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// Tokens of one forward pass at most.
    pub tokens_per_batch: usize,
    /// Passes whose gradients make a step.
    pub batches_per_step: usize,
    /// The learning rate over the steps, and how many there are.
    pub schedule: Schedule,
    /// What changes on the way.
    #[serde(default)]
    pub phases: Phases,
    /// Steps between states on disk.
    pub save_every: u64,
    /// Steps between evaluations on the held-out sequences.
    pub eval_every: u64,
    /// Whether they are evaluated before the first step as well: a line of the log for step 0,
    /// without a loss of training.
    #[serde(default)]
    pub eval_first: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps were taken.
    Complete,
    /// It was asked to stop; its state is on disk.
    Stopped,
}

/// Where a run keeps its things.
#[derive(Clone, Debug)]
pub struct RunDir {
    dir: PathBuf,
    state: PathBuf,
}

impl RunDir {
    /// The folder `dir`; made when the run begins.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        RunDir {
            state: dir.clone(),
            dir,
        }
    }

    /// Log and curves in `dir`, the state in another folder.
    pub fn with_state(dir: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        RunDir {
            dir: dir.into(),
            state: state.into(),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The folder of the state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// One JSON line a step.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.jsonl")
    }

    /// The curves.
    pub fn curves(&self) -> PathBuf {
        self.dir.join("curves.svg")
    }
}

/// Who hears of a run.
pub trait Observer {
    /// A step was taken.
    fn step(&mut self, report: &StepReport);
    /// Something else worth a line.
    fn note(&mut self, text: &str);
}

/// Take the steps of `options` that `dir` has not seen yet.
///
/// `recipe` is a fingerprint of everything that a continued run must have in common with the one
/// that began; the number of steps and the schedule are not part of it, so that a run can be given
/// more of them.
///
/// # Errors
/// [`TrainError::State`] when `dir` holds another run, what the data refuses,
/// [`TrainError::NotFinite`], [`TrainError::Write`].
pub fn run<S: Source>(
    trainer: &mut Trainer,
    source: S,
    held_out: &[TrainSequence],
    options: &RunOptions,
    recipe: &str,
    dir: &RunDir,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<RunEnd, TrainError> {
    options.schedule.validate()?;
    let mut packer = Packer::new(source, PackingOptions::new(options.tokens_per_batch));
    let held_out = PackedBatch::pack_all(held_out, options.tokens_per_batch)?;
    let mut progress = RunProgress {
        step: 0,
        tokens: 0,
        seconds: 0.0,
        data: PackingPosition::default(),
        recipe: recipe.to_owned(),
    };
    let (mut log, mut reports);
    if has_state(dir.state()) {
        trainer.restore(|parameters| {
            progress = load_state(dir.state(), parameters)?;
            Ok(())
        })?;
        if progress.recipe != recipe {
            return Err(TrainError::State {
                path: dir.state().to_owned(),
                problem: "it holds a run with another recipe, model or data. Name another folder, or remove it to begin again".into(),
            });
        }
        packer.seek(&progress.data)?;
        (log, reports) = JsonLog::resume(dir.log(), progress.step)?;
        observer.note(&format!("going on after step {}", progress.step));
    } else {
        std::fs::create_dir_all(dir.path()).map_err(|source| TrainError::Write {
            path: dir.path().to_owned(),
            source,
        })?;
        if dir.log().exists() {
            return Err(TrainError::LogExists { path: dir.log() });
        }
        // Before the log: a run that is killed in its first steps can then be gone on with.
        save_state(dir.state(), trainer.parameters(), &progress)?;
        (log, reports) = (JsonLog::create(dir.log())?, Vec::new());
    }
    if options.eval_first && reports.is_empty() && progress.step == 0 && !held_out.is_empty() {
        let report = StepReport {
            total_steps: options.schedule.total_steps,
            loss: f64::NAN,
            eval_loss: Some(trainer.evaluate(&held_out)?),
            ..StepReport::default()
        };
        log.write(&report)?;
        observer.step(&report);
        reports.push(report);
    }

    let (first_weight, speed) = (trainer.options().mtp_weight, trainer.options().bias_speed);
    let total = options.schedule.total_steps;
    let began = Instant::now();
    let before = progress.seconds;
    while progress.step < total {
        let step_began = Instant::now();
        let part = progress.step as f64 / total as f64;
        trainer.set_stretched(part >= options.phases.stretched_from);
        match part {
            _ if part < options.phases.mtp_from => trainer.set_weights(0.0, speed),
            _ if part < options.phases.late_from => trainer.set_weights(first_weight, speed),
            _ => trainer.set_weights(options.phases.late_mtp_weight.min(first_weight), 0.0),
        }
        let batches = (0..options.batches_per_step.max(1))
            .map(|_| packer.next_batch())
            .collect::<Result<Vec<_>, _>>()?;
        let learning_rate = options.schedule.learning_rate(progress.step);
        let outcome = trainer.step(&batches, learning_rate)?;
        progress.step += 1;
        progress.tokens += outcome.tokens as u64;
        let last = progress.step == total;
        let evaluated = options.eval_every > 0 && progress.step.is_multiple_of(options.eval_every);
        let eval_loss = match (evaluated || last) && !held_out.is_empty() {
            true => Some(trainer.evaluate(&held_out)?),
            false => None,
        };
        progress.seconds = before + began.elapsed().as_secs_f64();
        let report = StepReport {
            step: progress.step,
            total_steps: total,
            tokens_seen: progress.tokens,
            loss: outcome.loss,
            mtp_loss: outcome.mtp_loss,
            balance_loss: outcome.balance_loss,
            lr: learning_rate,
            grad_norm: outcome.gradient_norm,
            tokens_per_s: outcome.tokens as f64 / step_began.elapsed().as_secs_f64(),
            elapsed_s: progress.seconds,
            expert_load: outcome.expert_load,
            eval_loss,
        };
        log.write(&report)?;
        observer.step(&report);
        reports.push(report);
        let stopped = stop.load(Ordering::Relaxed);
        let due = options.save_every > 0 && progress.step.is_multiple_of(options.save_every);
        if due || last || stopped {
            progress.data = packer.position();
            save_state(dir.state(), trainer.parameters(), &progress)?;
            crate::export::write_file(&dir.curves(), curves_svg(&reports).as_bytes())?;
        }
        if stopped && !last {
            observer.note(&format!(
                "stopped after step {}; the same command goes on from there",
                progress.step
            ));
            return Ok(RunEnd::Stopped);
        }
    }
    Ok(RunEnd::Complete)
}
