//! Low-rank factors in training: gradients, resuming, what is covered, what is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use common::{Endless, Random, StopAfter, config, objective};
use dsv3_model::{Checkpoint, ForwardBatch, LoadOptions, Transformer};
use dsv3_train::data::PackedBatch;
use dsv3_train::lora::{LoraConfig, LoraTarget, write_adapter};
use dsv3_train::report::{StepReport, read_log};
use dsv3_train::{
    Decay, ExportOptions, Observer, Phases, RunDir, RunEnd, RunOptions, Schedule, TrainOptions,
    Trainer, initial_values, run, write_checkpoint,
};
use dsv3_weights::{Adapter, Component, Layout, ModelArgs};

const ALL: [LoraTarget; 4] = [
    LoraTarget::Attention,
    LoraTarget::DenseMlp,
    LoraTarget::SharedExperts,
    LoraTarget::RoutedExperts,
];

fn lora(targets: &[LoraTarget]) -> LoraConfig {
    LoraConfig {
        r: 3,
        alpha: 6.0,
        targets: targets.to_vec(),
        seed: 7,
    }
}

/// A small model whose layers all matter, as published: fp8 blocks, bf16.
fn base(dir: &Path) -> Checkpoint {
    let config = config(true);
    let args = ModelArgs::from_json_bytes(config.as_bytes()).unwrap();
    let mut random = Random(9);
    let values = initial_values(&args, 5).map(|(spec, values)| {
        let moved = values.into_iter();
        let moved = moved.map(|v| v + (random.below(1001) as f32 / 1000.0 - 0.5) * 0.3);
        Ok((spec, moved.collect()))
    });
    let published = ExportOptions {
        shard_bytes: usize::MAX,
        f32: false,
    };
    write_checkpoint(dir, &config, values, &published).unwrap();
    Checkpoint::open(dir).unwrap()
}

fn trainer(base: &Checkpoint, targets: &[LoraTarget], options: TrainOptions) -> Trainer {
    Trainer::lora(base, &lora(targets), options, &Device::flex()).unwrap()
}

/// Change every factor a little, B too.
fn shake(trainer: &mut Trainer) {
    let mut random = Random(11);
    trainer
        .restore(|parameters| {
            for parameter in parameters.iter_mut() {
                let values = parameter.values()?.into_iter();
                let values = values.map(|v| v + (random.below(1001) as f32 / 1000.0 - 0.5) * 0.3);
                parameter.restore(values.collect(), None);
            }
            Ok(())
        })
        .unwrap();
}

/// Breaks with: a frozen weight that stops gradients on their way to the layers below, factors
/// whose gradient goes to others, experts without theirs.
#[test]
fn every_factor_has_the_gradient_of_the_objective() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let options = TrainOptions {
        balance_weight: 0.05,
        ..TrainOptions::lora()
    };
    let mut trainer = trainer(&base, &ALL, options);
    shake(&mut trainer);
    let mut random = Random(3);
    let batches = [random.batch(&[9, 5, 14]), random.batch(&[7, 11])];
    let (_, gradients) = trainer.gradients(&batches).unwrap();
    let gradients: HashMap<String, Vec<f32>> = gradients.into_iter().collect();
    let names: Vec<(String, usize)> = trainer
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), p.shape.iter().product()))
        .collect();
    // 3 layers × 4 projections, 3 dense, 2 layers × (3 shared + 8 × 3 routed), two factors each
    assert_eq!(names.len(), 2 * (12 + 3 + 2 * 27));
    let mut checked = 0;
    for (name, count) in names {
        let Some(gradient) = gradients.get(&name) else {
            // An expert that no token chose.
            assert!(name.contains(".experts."), "{name}");
            continue;
        };
        assert_eq!(gradient.len(), count, "{name}");
        let largest = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
        let at = (0..count).max_by(largest).unwrap();
        // Where the router chooses otherwise between the two points a difference says nothing; a
        // smaller step then still does.
        let differences = [1e-2f32, 1e-3].map(|h| {
            let up = objective(&mut trainer, &batches, &name, at, h);
            let down = objective(&mut trainer, &batches, &name, at, -h);
            (up - down) / f64::from(2.0 * h)
        });
        let wrong = |d: &f64| (f64::from(gradient[at]) - d).abs() > 1e-3 + 0.02 * d.abs();
        assert!(
            !differences.iter().all(wrong),
            "{name}[{at}]: gradient {}, differences {differences:?}",
            gradient[at]
        );
        checked += 1;
    }
    assert!(checked > 100, "{checked} factors");
}

/// Breaks with: a part that is left out or added, B that does not begin at zero, values that hang
/// on anything but seed and name.
#[test]
fn what_is_covered_and_how_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let layout = Layout::new(base.args());
    for targets in [&ALL[..], &ALL[..3], &ALL[..1], &ALL[3..], &ALL[1..2]] {
        let trainer = trainer(&base, targets, TrainOptions::lora());
        let config = lora(targets);
        let mut covered: Vec<&str> = trainer.parameters().factors().map(|(n, ..)| n).collect();
        covered.sort_unstable();
        let wanted = |component: Component| match component {
            Component::Attention => targets.contains(&LoraTarget::Attention),
            Component::DenseMlp => targets.contains(&LoraTarget::DenseMlp),
            Component::SharedExperts => targets.contains(&LoraTarget::SharedExperts),
            Component::RoutedExperts => targets.contains(&LoraTarget::RoutedExperts),
            _ => false,
        };
        let mut expected: Vec<String> = layout
            .tensors()
            .filter(|s| wanted(s.component) && !s.name.contains("kv_b_proj"))
            .map(|s| s.name)
            .collect();
        expected.sort_unstable();
        assert_eq!(covered, expected);

        // PEFT gives factors to a module whose name is, or ends behind a dot in, one of these.
        let modules = config.adapter_config(base.args(), "base").target_modules;
        let matches = |name: &str| {
            let module = name.strip_suffix(".weight").unwrap();
            let ends = |end: &String| module == *end || module.ends_with(&format!(".{end}"));
            modules.iter().any(ends)
        };
        for spec in layout.tensors().filter(|s| !s.component.is_mtp()) {
            let name = spec.name.as_str();
            assert_eq!(
                name.ends_with(".weight") && matches(name),
                covered.contains(&name),
                "{name} in {modules:?}"
            );
        }
        for (name, a, b) in trainer.parameters().factors() {
            let (a, b) = (a.values().unwrap(), b.values().unwrap());
            assert!(b.iter().all(|v| *v == 0.0), "{name}");
            let bound = 1.0 / ((a.len() / 3) as f32).sqrt();
            let largest = a.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            assert!(
                largest <= bound && largest > 0.8 * bound,
                "{name}: {largest}"
            );
        }
    }
    let values = |seed| {
        let config = LoraConfig { seed, ..lora(&ALL) };
        let trainer = Trainer::lora(&base, &config, TrainOptions::lora(), &Device::flex());
        factor_bits(&trainer.unwrap())
    };
    assert_eq!(values(7), values(7));
    assert_ne!(values(7), values(8));
}

fn factor_bits(trainer: &Trainer) -> BTreeMap<String, Vec<u32>> {
    let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect();
    trainer
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), bits(p.values().unwrap())))
        .collect()
}

fn go_with(
    base: &Checkpoint,
    dir: &RunDir,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> (RunEnd, Trainer) {
    let options = RunOptions {
        tokens_per_batch: 48,
        batches_per_step: 2,
        schedule: Schedule {
            warmup_steps: 2,
            total_steps: 9,
            decay_steps: 7,
            peak: 1e-2,
            floor: 1e-3,
            decay: Decay::Cosine,
        },
        phases: Phases::default(),
        save_every: 100,
        eval_every: 4,
        eval_first: true,
    };
    let mut trainer = trainer(base, &ALL, TrainOptions::lora());
    let end = run(
        &mut trainer,
        Endless(0),
        &[Random(1).sequence(10)],
        &options,
        "a recipe",
        dir,
        stop,
        observer,
    );
    (end.unwrap(), trainer)
}

fn go(base: &Checkpoint, dir: &RunDir, stop_after: u64) -> (RunEnd, Trainer) {
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter {
        step: stop_after,
        stop: &stop,
        losses: Vec::new(),
    };
    go_with(base, dir, &stop, &mut observer)
}

/// A run's folder below `dir`, its state elsewhere.
fn run_dir(dir: &Path, name: &str) -> RunDir {
    RunDir::with_state(dir.join(name), dir.join("states").join(name))
}

/// Breaks with: a factor or a moment that the state forgets, experts whose factors had no gradient
/// yet, an evaluation before the first step that is made twice.
#[test]
fn a_run_stopped_and_gone_on_with_ends_with_the_same_factors() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(&tmp.path().join("base"));
    let before = std::fs::read(tmp.path().join("base/model.safetensors")).unwrap();
    let dir =
        |name: &str| RunDir::with_state(tmp.path().join(name), tmp.path().join("s").join(name));
    let (end, whole) = go(&base, &dir("whole"), 99);
    assert_eq!(end, RunEnd::Complete);
    for stop in [1, 5] {
        let dir = dir(&format!("halves{stop}"));
        assert_eq!(go(&base, &dir, stop).0, RunEnd::Stopped);
        assert!(dir.state().join("state.safetensors").is_file());
        let (end, halves) = go(&base, &dir, 99);
        assert_eq!(end, RunEnd::Complete);
        assert_eq!(factor_bits(&whole), factor_bits(&halves));
        let steps: Vec<u64> = read_log(dir.log())
            .unwrap()
            .iter()
            .map(|r| r.step)
            .collect();
        assert_eq!(steps, (0..=9).collect::<Vec<u64>>());
    }
    let moved = whole.parameters().factors();
    let moved = moved.filter(|(_, _, b)| b.values().unwrap().iter().any(|v| *v != 0.0));
    assert!(moved.count() > 60);
    let after = std::fs::read(tmp.path().join("base/model.safetensors")).unwrap();
    assert_eq!(before, after, "the base has changed");
}

/// Keeps the state as it was before the first step, and asks for a stop after the third.
struct KeepFirst<'a>(&'a Path, Option<Vec<u8>>, &'a AtomicBool);

impl Observer for KeepFirst<'_> {
    fn step(&mut self, report: &StepReport) {
        self.1.get_or_insert_with(|| std::fs::read(self.0).unwrap());
        self.2.store(report.step == 3, Ordering::Relaxed);
    }

    fn note(&mut self, _: &str) {}
}

/// A run that is killed before its first save is begun again by the same call.
///
/// Breaks with: a log that is there before anything that can be gone on with.
#[test]
fn a_run_killed_in_its_first_steps_can_be_gone_on_with() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(&tmp.path().join("base"));
    let (_, whole) = go(&base, &run_dir(tmp.path(), "whole"), 99);
    let killed = run_dir(tmp.path(), "killed");
    let state = killed.state().join("state.safetensors");
    let stop = AtomicBool::new(false);
    let mut keep = KeepFirst(&state, None, &stop);
    go_with(&base, &killed, &stop, &mut keep);
    // The first state and a log of three steps: what a kill leaves.
    std::fs::write(&state, keep.1.unwrap()).unwrap();
    let (end, gone_on) = go(&base, &killed, 99);
    assert_eq!(end, RunEnd::Complete);
    assert_eq!(factor_bits(&whole), factor_bits(&gone_on));
    assert_eq!(read_log(killed.log()).unwrap().len(), 10);
}

/// Logits of the batch's first sequence: `[T, vocab]`.
fn logits(checkpoint: &Checkpoint, adapter: Option<&Adapter>, batch: &PackedBatch) -> Vec<f32> {
    let mut model = Transformer::load(checkpoint, &LoadOptions::cpu()).unwrap();
    if let Some(adapter) = adapter {
        model.attach_adapter(adapter).unwrap();
    }
    let sequence = batch.sequences[0].tokens();
    let mut cache = model.new_cache(sequence.len().div_ceil(16), 16);
    let mut forward = ForwardBatch::default();
    forward.push(sequence, 0, (0..cache.blocks() as u32).collect());
    forward.want_all_logits();
    let logits = model.forward(&forward, &mut cache).unwrap().logits;
    logits.into_data().try_to_vec().unwrap()
}

/// Breaks with: an adapter that computes otherwise when it is read than when it was trained.
#[test]
fn what_is_written_is_what_was_trained() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(&tmp.path().join("base"));
    let mut trainer = trainer(&base, &ALL, TrainOptions::lora());
    let config = lora(&ALL).adapter_config(base.args(), "../base");
    let out = tmp.path().join("adapter");
    std::fs::create_dir(&out).unwrap();
    let batch = Random(4).batch(&[24]);

    // Untrained it is the base, to the last bit.
    write_adapter(&out, trainer.parameters(), &config).unwrap();
    let adapter = Adapter::open(&out, base.args()).unwrap();
    let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(
        bits(logits(&base, None, &batch)),
        bits(logits(&base, Some(&adapter), &batch))
    );

    shake(&mut trainer);
    write_adapter(&out, trainer.parameters(), &config).unwrap();
    let adapter = Adapter::open(&out, base.args()).unwrap();
    assert_eq!(adapter.config(), &config);
    assert_eq!(adapter.parameters(), trainer.parameters().count());
    for (name, a, b) in trainer.parameters().factors() {
        let factors = adapter.get(name).unwrap();
        assert_eq!(factors.scale, 2.0);
        assert_eq!(factors.a, a.values().unwrap(), "{name}");
        assert_eq!(factors.b, b.values().unwrap(), "{name}");
    }
    let trained = trainer.evaluate(std::slice::from_ref(&batch)).unwrap();
    let rows = logits(&base, Some(&adapter), &batch);
    let sequence = &batch.sequences[0];
    let mut loss = 0f64;
    for (i, row) in rows.chunks_exact(40).enumerate() {
        let Some(true) = sequence.targets_mask().get(i + 1) else {
            continue;
        };
        let total: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
        loss += total.ln() - f64::from(row[sequence.tokens()[i + 1] as usize]);
    }
    loss /= sequence.target_count() as f64;
    assert!((loss - trained).abs() < 1e-5, "{loss} {trained}");
}

/// Breaks with: factors that are not moved, or against their gradient, on any of the formats.
#[test]
fn a_golden_checkpoint_learns_a_few_sequences() {
    for set in ["base", "fp8_ue8m0"] {
        let folder = format!(
            "{}/../../fixtures/golden/{set}/model",
            env!("CARGO_MANIFEST_DIR")
        );
        let base = Checkpoint::open(folder).unwrap();
        for targets in [&ALL[..3], &ALL[3..]] {
            let mut trainer = trainer(&base, targets, TrainOptions::lora());
            let batch = [Random(6).batch(&[12, 9])];
            let before = trainer.evaluate(&batch).unwrap();
            for _ in 0..12 {
                trainer.step(&batch, 2e-2).unwrap();
            }
            let after = trainer.evaluate(&batch).unwrap();
            assert!(
                after < 0.6 * before,
                "{set} {targets:?}: {before} → {after}"
            );
        }
    }
}

/// Breaks with: a rank or a target that makes no adapter, taken as if it did.
#[test]
fn configurations_that_train_nothing_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let base = base(tmp.path());
    let with = |change: fn(&mut LoraConfig)| {
        let mut config = lora(&ALL);
        change(&mut config);
        let trainer = Trainer::lora(&base, &config, TrainOptions::lora(), &Device::flex());
        trainer.err().unwrap().to_string()
    };
    assert!(with(|c| c.r = 0).contains("rank is 0"));
    assert!(with(|c| c.r = 1 << 20).contains("4096"));
    assert!(with(|c| c.alpha = f64::NAN).contains("alpha is NaN"));
    assert!(with(|c| c.targets.clear()).contains("no part"));
}
