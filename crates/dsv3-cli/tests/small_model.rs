//! The trained model that ships, against what transformers computes from the same files
//! (fixtures/dsv3-tiny/reference).
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{dsv3, fixture, json, text};
use safetensors::SafeTensors;
use serde_json::Value;

fn reference() -> Value {
    let file = fixture("dsv3-tiny/reference/outputs.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn joined(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    ids.join(",")
}

/// What `generate` writes behind the reference's prompt on a device.
fn written(device: &str) -> Vec<u64> {
    let reference = reference();
    let answer = json(dsv3(&[
        "generate",
        "--model",
        &fixture("dsv3-tiny").display().to_string(),
        "--input-ids",
        &joined(&ids(&reference["prompt"])),
        "--temperature",
        "0",
        "--max-new-tokens",
        "80",
        "--device",
        device,
        "--json",
    ]));
    ids(&answer["tokens"])
}

fn logits(file: &std::path::Path) -> (usize, Vec<f32>) {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor("logits").unwrap();
    let (values, _) = view.data().as_chunks::<4>();
    let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (view.shape()[1], values)
}

/// Breaks with: a checkpoint that is written in a form which the reference reads otherwise, any
/// drift of the graph on trained weights.
#[test]
fn it_writes_what_the_reference_writes() {
    assert_eq!(written("cpu"), ids(&reference()["greedy"]));
}

/// Breaks with: numbers that drift from the reference's by more than rounding.
#[test]
fn its_logits_are_the_reference_s() {
    let reference = reference();
    let mut all = ids(&reference["prompt"]);
    all.extend(ids(&reference["greedy"]));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("logits.safetensors");
    text(dsv3(&[
        "score",
        "--model",
        &fixture("dsv3-tiny").display().to_string(),
        "--input-ids",
        &joined(&all),
        "--logits-out",
        &out.display().to_string(),
    ]));
    let (vocab, ours) = logits(&out);
    let (_, theirs) = logits(&fixture("dsv3-tiny/reference/logits.safetensors"));
    assert_eq!(ours.len(), all.len() * vocab);
    let last = &ours[ours.len() - theirs.len()..];
    for (i, (a, b)) in last.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() < 1e-4, "logit {i}: {a}, the reference {b}");
    }
}

/// Breaks with: a device that writes another text. Needs a build with wgpu and an adapter.
#[cfg(feature = "wgpu")]
#[test]
fn wgpu_writes_the_same() {
    if let Err(error) = dsv3_kernels::DeviceSpec::Wgpu(None).open() {
        println!("skipped: no wgpu adapter ({error})");
        return;
    }
    assert_eq!(written("wgpu"), ids(&reference()["greedy"]));
}
