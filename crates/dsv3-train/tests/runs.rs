//! Runs as a whole: stopped and gone on with, written and read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{Endless, Random, StopAfter, config, trainer};
use dsv3_model::Checkpoint;
use dsv3_train::{
    Decay, ExportOptions, Phases, RunDir, RunEnd, RunOptions, Schedule, TrainError, TrainOptions,
    Trainer, run, trained_values, write_checkpoint,
};
use proptest::prelude::*;

fn run_options(save_every: u64) -> RunOptions {
    RunOptions {
        tokens_per_batch: 48,
        batches_per_step: 2,
        schedule: Schedule {
            warmup_steps: 3,
            total_steps: 12,
            decay_steps: 4,
            peak: 3e-3,
            floor: 1e-4,
            decay: Decay::Linear,
        },
        phases: Phases {
            stretched_from: 0.5,
            mtp_from: 0.25,
            late_from: 0.6,
            late_mtp_weight: 0.1,
        },
        save_every,
        eval_every: 5,
        eval_first: false,
    }
}

/// Runs in `dir` until done or until `stop_after`.
fn go(dir: &Path, stop_after: u64, options: &RunOptions) -> (RunEnd, Vec<f64>, Trainer) {
    let start = tempfile::tempdir().unwrap();
    let mut trainer = trainer(start.path(), &config(true), TrainOptions::default());
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter {
        step: stop_after,
        stop: &stop,
        losses: Vec::new(),
    };
    let held_out = [Random(1).sequence(10)];
    let end = run(
        &mut trainer,
        Endless(0),
        &held_out,
        options,
        "a recipe",
        &RunDir::new(dir),
        &stop,
        &mut observer,
    );
    (end.unwrap(), observer.losses, trainer)
}

fn bits(trainer: &Trainer) -> Vec<Vec<u32>> {
    let values = trainer.parameters().iter().map(|p| p.values().unwrap());
    values
        .map(|values| values.iter().map(|v| v.to_bits()).collect())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Breaks with: anything that a state forgets: moments, biases, the data's place, the packing
    /// window, the step; sums whose order is not fixed.
    #[test]
    fn a_run_stopped_and_gone_on_with_ends_with_the_same_weights(stop in 1u64..12) {
        let (whole, halves) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (end, losses, never_stopped) = go(whole.path(), 99, &run_options(100));
        prop_assert_eq!(end, RunEnd::Complete);
        let (end, mut first, _) = go(halves.path(), stop, &run_options(100));
        prop_assert_eq!(end, RunEnd::Stopped);
        let (end, rest, stopped) = go(halves.path(), 99, &run_options(100));
        prop_assert_eq!(end, RunEnd::Complete);
        first.extend(rest);
        prop_assert_eq!(losses, first);
        prop_assert_eq!(bits(&never_stopped), bits(&stopped));
    }
}

/// Killed without warning, a run goes on from its last state, and its log forgets what came after.
///
/// Breaks with: a state that is written in place, a log that keeps steps twice.
#[test]
fn a_run_killed_between_states_ends_with_the_same_weights() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, _, never_killed) = go(whole.path(), 99, &run_options(100));
    // A stop writes a state; the one of step 4 put back is what a kill after step 7 leaves.
    go(killed.path(), 4, &run_options(4));
    let state = std::fs::read(killed.path().join("state.safetensors")).unwrap();
    go(killed.path(), 7, &run_options(100));
    std::fs::write(killed.path().join("state.safetensors"), state).unwrap();
    std::fs::write(killed.path().join("state.partial"), b"half a stat").unwrap();
    let (end, losses, gone_on) = go(killed.path(), 99, &run_options(100));
    assert_eq!((end, losses.len()), (RunEnd::Complete, 8));
    assert_eq!(bits(&never_killed), bits(&gone_on));
    let log = std::fs::read_to_string(killed.path().join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 12);
}

/// Breaks with: another run's state that is taken for one's own.
#[test]
fn a_state_of_another_recipe_is_refused() {
    let (dir, start) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    go(dir.path(), 2, &run_options(100));
    let mut trainer = trainer(start.path(), &config(true), TrainOptions::default());
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter {
        step: 99,
        stop: &stop,
        losses: Vec::new(),
    };
    let error = run(
        &mut trainer,
        Endless(0),
        &[],
        &run_options(100),
        "another recipe",
        &RunDir::new(dir.path()),
        &stop,
        &mut observer,
    );
    let message = error.unwrap_err().to_string();
    assert!(message.contains("another recipe"), "{message}");
}

/// Breaks with: weights that are rounded in another way when written than when trained, copies of
/// the MTP module that are not the main model's.
#[test]
fn what_is_written_computes_what_was_trained() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, _, trainer) = go(dir.path(), 99, &run_options(100));
    let published = ExportOptions {
        shard_bytes: 20_000,
        f32: false,
    };
    let values = trained_values(trainer.args(), trainer.parameters());
    write_checkpoint(out.path(), &config(true), values, &published).unwrap();
    assert!(out.path().join("model.safetensors.index.json").is_file());
    let checkpoint = Checkpoint::open(out.path()).unwrap();
    let options = TrainOptions {
        round_weights: false,
        ..TrainOptions::default()
    };
    let again = Trainer::new(&checkpoint, options, &burn::tensor::Device::flex()).unwrap();
    let batches = [Random(8).batch(&[12, 20, 7])];
    let (a, b) = (
        trainer.evaluate(&batches).unwrap(),
        again.evaluate(&batches).unwrap(),
    );
    assert_eq!(a.to_bits(), b.to_bits(), "{a} {b}");
    let copy = checkpoint.matrix_f32("model.layers.3.embed_tokens.weight", [40, 24]);
    let embed = checkpoint.matrix_f32("model.embed_tokens.weight", [40, 24]);
    assert_eq!(copy.unwrap(), embed.unwrap());
}

/// Breaks with: a step that is taken in spite of numbers that are none.
#[test]
fn a_loss_that_is_no_number_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = trainer(dir.path(), &config(false), TrainOptions::default());
    trainer
        .restore(|parameters| {
            let norm = parameters.get_mut("model.norm.weight").unwrap();
            let mut values = norm.values()?;
            values[3] = f32::INFINITY;
            norm.restore(values, None);
            Ok(())
        })
        .unwrap();
    let before = bits(&trainer);
    let error = trainer.step(&[Random(2).batch(&[8])], 1e-3).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    assert_eq!(before, bits(&trainer));
}
