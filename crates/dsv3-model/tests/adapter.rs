//! An adapter beside a golden checkpoint against the checkpoint with the adapter merged into it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Tensor;
use common::{BLOCK, Golden, TestDevice, assert_close, devices, max_distance, values};
use dsv3_kernels::LowRank;
use dsv3_model::{
    AttentionForm, Checkpoint, ForwardBatch, LoadOptions, MlaForm, ModelError, Transformer,
};
use dsv3_weights::adapter::{ADAPTER_CONFIG, ADAPTER_MODEL, can_adapt, factor_names};
use dsv3_weights::{
    Adapter, AdapterConfig, Component, ConvertFormat, ConvertOptions, Layout, merge,
};
use safetensors::tensor::{Dtype, TensorView};

/// Values in (−1, 1) that follow from a seed.
fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

const RANK: usize = 3;

/// An adapter of `checkpoint` on every weight for which `chosen` says so, written to `dir`; B is
/// `b` times random values.
fn write_adapter(
    dir: &Path,
    checkpoint: &Checkpoint,
    b: f32,
    chosen: impl Fn(&str, Component) -> bool,
) -> Adapter {
    let mut tensors = Vec::new();
    for (i, spec) in Layout::new(checkpoint.args()).tensors().enumerate() {
        if !chosen(&spec.name, spec.component) || !can_adapt(spec.component) {
            continue;
        }
        let names = factor_names(&spec.name).unwrap();
        let shapes = [[RANK, spec.shape[1]], [spec.shape[0], RANK]];
        for (half, (name, shape)) in names.into_iter().zip(shapes).enumerate() {
            let factor = if half == 0 { 0.1 } else { b };
            let values = random((2 * i + half) as u64, shape[0] * shape[1]);
            let bytes = values.iter().flat_map(|v| (v * factor).to_le_bytes());
            tensors.push((name, shape.to_vec(), bytes.collect::<Vec<u8>>()));
        }
    }
    assert!(!tensors.is_empty());
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(dir.join(ADAPTER_MODEL), bytes).unwrap();
    let config = AdapterConfig::new(RANK, 3.0 * RANK as f64, Vec::new(), "base");
    std::fs::write(dir.join(ADAPTER_CONFIG), config.to_json()).unwrap();
    Adapter::open(dir, checkpoint.args()).unwrap()
}

/// `checkpoint` in f32 with the adapter merged.
fn merged(dir: &Path, checkpoint: &Checkpoint, adapter: &Adapter) -> Checkpoint {
    let options = ConvertOptions {
        format: ConvertFormat::F32,
        ..ConvertOptions::default()
    };
    let out = dir.join("merged");
    merge(checkpoint, adapter, &out, &options, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    Checkpoint::open(&out).unwrap()
}

/// Logits of every position of the prompt.
fn logits(model: &Transformer, prompt: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache(prompt.len().div_ceil(BLOCK), BLOCK);
    let mut batch = ForwardBatch::default();
    batch.push(prompt, 0, (0..cache.blocks() as u32).collect());
    batch.want_all_logits();
    values(model.forward(&batch, &mut cache).unwrap().logits)
}

type Choice = fn(&str, Component) -> bool;

/// Which parts an adapter may change, each alone and all at once.
const CHOICES: [(&str, Choice); 6] = [
    ("attention", |name, component| {
        component == Component::Attention && !name.contains("kv_b")
    }),
    ("kv_b", |name, _| name.contains("kv_b_proj")),
    ("dense", |_, component| component == Component::DenseMlp),
    ("shared", |_, component| {
        component == Component::SharedExperts
    }),
    ("routed", |name, component| {
        // Experts without factors stand beside those with.
        component == Component::RoutedExperts && !name.contains("experts.2.")
    }),
    ("all", |_, _| true),
];

fn options(device: &TestDevice, form: AttentionForm) -> LoadOptions {
    let mut options = LoadOptions::new(device.device.clone());
    options.attention = form;
    options
}

/// Breaks with: factors that reach another weight than the merge, a path through the graph that
/// knows no factors, a form of attention that leaves them out.
#[test]
fn applied_is_merged() {
    for device in devices() {
        // Packed weights of both kinds, queries with and without compression.
        for set in ["base", "fp8_ue8m0", "noqlora"] {
            let golden = Golden::open(set);
            let prompt = golden.prompt();
            for (what, chosen) in CHOICES {
                let has = Layout::new(golden.checkpoint.args())
                    .tensors()
                    .any(|spec| can_adapt(spec.component) && chosen(&spec.name, spec.component));
                if !has {
                    continue;
                }
                let tmp = tempfile::tempdir().unwrap();
                let adapter = write_adapter(tmp.path(), &golden.checkpoint, 0.1, chosen);
                let merged = merged(tmp.path(), &golden.checkpoint, &adapter);
                for form in [MlaForm::Naive, MlaForm::Absorbed] {
                    let options = options(&device, AttentionForm::Always(form));
                    let mut model = golden.model(&options);
                    let bare = logits(&model, &prompt);
                    model.attach_adapter(&adapter).unwrap();
                    let applied = logits(&model, &prompt);
                    let expected = logits(&Transformer::load(&merged, &options).unwrap(), &prompt);
                    let moved = max_distance(&bare, &applied);
                    assert!(
                        moved > 0.05,
                        "{set} {what}: only {moved} apart from the base"
                    );
                    let tolerance = if device.name == "cpu" { 1e-5 } else { 2e-4 };
                    let what = format!("{} {set} {what} {form:?}", device.name);
                    assert_close(&what, &applied, &expected, tolerance);
                    model.detach_adapter();
                    assert_eq!(
                        bare,
                        logits(&model, &prompt),
                        "{what}: the base has changed"
                    );
                }
            }
        }
    }
}

/// Breaks with: an untrained adapter that changes answers, were it by a rounding.
#[test]
fn an_adapter_whose_b_is_zero_changes_no_bit() {
    for set in ["base", "fp8_ue8m0"] {
        let golden = Golden::open(set);
        let prompt = golden.prompt();
        let tmp = tempfile::tempdir().unwrap();
        // kv_b's factors move attention to the stock body, which rounds in another order.
        let chosen = |name: &str, _| !name.contains("kv_b");
        let adapter = write_adapter(tmp.path(), &golden.checkpoint, 0.0, chosen);
        let mut model = golden.model(&LoadOptions::cpu());
        let bare: Vec<u32> = logits(&model, &prompt)
            .iter()
            .map(|v| v.to_bits())
            .collect();
        model.attach_adapter(&adapter).unwrap();
        let applied: Vec<u32> = logits(&model, &prompt)
            .iter()
            .map(|v| v.to_bits())
            .collect();
        assert_eq!(bare, applied, "{set}");
    }
}

/// A sequence's numbers don't depend on how its tokens come.
///
/// Breaks with: factors that are applied in another order of sums for more rows.
#[test]
fn chunks_and_neighbours_change_no_bit() {
    let golden = Golden::open("base");
    let prompt = golden.prompt();
    let tmp = tempfile::tempdir().unwrap();
    let chosen = |name: &str, _| !name.contains("kv_b");
    let adapter = write_adapter(tmp.path(), &golden.checkpoint, 0.1, chosen);
    let cpu = TestDevice {
        name: "cpu",
        device: burn::tensor::Device::flex(),
        tolerance: 0.0,
    };
    let options = options(&cpu, AttentionForm::Always(MlaForm::Absorbed));
    let mut model = golden.model(&options);
    model.attach_adapter(&adapter).unwrap();
    let whole = logits(&model, &prompt);
    let mut cache = model.new_cache(prompt.len().div_ceil(BLOCK), BLOCK);
    let mut runner = common::Runner {
        model: &model,
        blocks: (0..cache.blocks() as u32).collect(),
        cache: &mut cache,
        cached: 0,
    };
    let one_by_one: Vec<f32> = prompt.iter().flat_map(|t| runner.feed(&[*t])).collect();
    assert_eq!(whole, one_by_one);
}

/// Breaks with: factors that are applied to a part of a model and left out of the rest.
#[test]
fn an_adapter_of_another_configuration_is_refused() {
    let (base, other) = (Golden::open("base"), Golden::open("noqlora"));
    let tmp = tempfile::tempdir().unwrap();
    let chosen = |name: &str, _| name.contains("q_a_proj");
    let adapter = write_adapter(tmp.path(), &base.checkpoint, 0.1, chosen);
    let mut model = other.model(&LoadOptions::cpu());
    let error = model.attach_adapter(&adapter).unwrap_err();
    assert!(
        matches!(error, ModelError::ForeignAdapter { found: 0, .. }),
        "{error}"
    );

    let mut model = base.model(&LoadOptions::cpu());
    let device = burn::tensor::Device::flex();
    let error = model.adapt(&mut |name| {
        name.ends_with("1.self_attn.o_proj.weight")
            .then(|| LowRank {
                a: Tensor::zeros([2, 5], &device),
                b: Tensor::zeros([5, 2], &device),
                scale: 1.0,
            })
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("1.self_attn.o_proj"), "{message}");
}
