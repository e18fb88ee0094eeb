//! Adapters for `golden/base` and its like, made up and written in PEFT's files.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part

use std::path::Path;

use dsv3_weights::adapter::{ADAPTER_CONFIG, ADAPTER_MODEL, factor_names};
use dsv3_weights::{Adapter, Checkpoint, Dtype, Layout, WeightsError};
use serde_json::{Value, json};

use crate::common::{Raw, safetensors_bytes};

/// Weights of `golden/base` and `golden/fp8_ue8m0`, one of each kind that can be changed.
pub const WEIGHTS: [&str; 5] = [
    "model.layers.0.self_attn.q_a_proj.weight",
    "model.layers.1.self_attn.kv_b_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.1.mlp.shared_experts.up_proj.weight",
    "model.layers.1.mlp.experts.3.gate_proj.weight",
];

/// Values in (−1, 1) that follow from a seed.
pub fn values(seed: u64, count: usize) -> Vec<f32> {
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

pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn shape_of(checkpoint: &Checkpoint, weight: &str) -> [usize; 2] {
    let layout = Layout::new(checkpoint.args());
    let shape = layout.spec_of(weight).unwrap().shape;
    [shape[0], shape[1]]
}

/// The two factors of a weight.
pub fn pair(checkpoint: &Checkpoint, weight: &str, rank: usize, seed: u64) -> [Raw; 2] {
    let [out, input] = shape_of(checkpoint, weight);
    let [a, b] = factor_names(weight).unwrap();
    let raw = |name: &str, shape: [usize; 2], seed| {
        let data = bytes(&values(seed, shape[0] * shape[1]));
        Raw::new(name, Dtype::F32, &shape.map(|d| d as u64), data)
    };
    [
        raw(&a, [rank, input], seed),
        raw(&b, [out, rank], seed + 1000),
    ]
}

pub fn config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "bias": "none",
        "target_modules": ["q_a_proj"], "fan_in_fan_out": false, "lora_dropout": 0.05,
        "base_model_name_or_path": "base", "use_dora": false, "use_rslora": false,
        "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": true,
        "peft_version": "0.18.0", "megatron_core": "megatron.core", "a_field_of_next_year": 7,
    })
}

pub fn write(dir: &Path, config: &Value, tensors: &[Raw]) {
    std::fs::write(dir.join(ADAPTER_CONFIG), config.to_string()).unwrap();
    std::fs::write(dir.join(ADAPTER_MODEL), safetensors_bytes(tensors)).unwrap();
}

/// An adapter on [`WEIGHTS`].
pub fn honest(checkpoint: &Checkpoint) -> Vec<Raw> {
    let pairs = WEIGHTS
        .iter()
        .zip(1..)
        .map(|(weight, seed)| pair(checkpoint, weight, 4, seed));
    pairs.flatten().collect()
}

pub fn open(
    checkpoint: &Checkpoint,
    config: &Value,
    tensors: &[Raw],
) -> Result<Adapter, WeightsError> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), config, tensors);
    Adapter::open(dir.path(), checkpoint.args())
}
