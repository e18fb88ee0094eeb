//! A model of a few thousand parameters, random values, random sequences.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses its part

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use dsv3_model::Checkpoint;
use dsv3_train::data::{PackedBatch, Source, SourcePosition, TrainSequence};
use dsv3_train::report::StepReport;
use dsv3_train::{
    ExportOptions, Observer, ParameterSet, TrainError, TrainOptions, Trainer, initial_values,
    write_checkpoint,
};
use dsv3_weights::ModelArgs;

/// One dense layer, two of experts in groups, an MTP module, YaRN; `fp8` as V3.1 has it.
pub fn config(fp8: bool) -> String {
    let mut config = serde_json::json!({
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "attention_bias": false, "bos_token_id": 0, "eos_token_id": 1, "hidden_act": "silu",
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "num_hidden_layers": 3,
        "num_nextn_predict_layers": 1, "hidden_size": 24, "intermediate_size": 20,
        "moe_intermediate_size": 12, "vocab_size": 40, "n_routed_experts": 8,
        "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
        "norm_topk_prob": true, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "num_attention_heads": 2, "num_key_value_heads": 2,
        "q_lora_rank": 12, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
        "v_head_dim": 6, "rms_norm_eps": 1e-6, "rope_theta": 10000,
        "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 32,
            "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
        "max_position_embeddings": 128, "tie_word_embeddings": false, "torch_dtype": "bfloat16"
    });
    if fp8 {
        config["quantization_config"] = serde_json::json!({
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "scale_fmt": "ue8m0", "weight_block_size": [8, 8]
        });
    }
    config.to_string()
}

/// Options under which every part of the objective weighs in.
pub fn options() -> TrainOptions {
    TrainOptions {
        balance_weight: 0.05,
        round_weights: false,
        ..TrainOptions::default()
    }
}

/// The model's first values as a checkpoint in `dir`.
pub fn start(dir: &Path, config: &str) -> Checkpoint {
    let args = ModelArgs::from_json_bytes(config.as_bytes()).unwrap();
    let f32 = ExportOptions {
        shard_bytes: usize::MAX,
        f32: true,
    };
    write_checkpoint(dir, config, initial_values(&args, 5).map(Ok), &f32).unwrap();
    Checkpoint::open(dir).unwrap()
}

pub fn trainer(dir: &Path, config: &str, options: TrainOptions) -> Trainer {
    Trainer::new(&start(dir, config), options, &Device::flex()).unwrap()
}

/// splitmix64
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// `len` tokens, the later half to be learned.
    pub fn sequence(&mut self, len: usize) -> TrainSequence {
        let tokens = (0..len).map(|_| self.below(40) as u32).collect();
        let mask = (0..len).map(|i| i > 0 && i >= len / 2).collect();
        TrainSequence::new(tokens, mask).unwrap()
    }

    pub fn batch(&mut self, lengths: &[usize]) -> PackedBatch {
        PackedBatch {
            sequences: lengths.iter().map(|len| self.sequence(*len)).collect(),
        }
    }
}

/// The sequence at an index follows from the index.
#[derive(Clone)]
pub struct Endless(pub u64);

impl Source for Endless {
    fn next_sequence(&mut self) -> Result<TrainSequence, TrainError> {
        let mut random = Random(self.0.wrapping_mul(77));
        self.0 += 1;
        let len = 4 + random.below(12);
        Ok(random.sequence(len))
    }

    fn position(&self) -> SourcePosition {
        SourcePosition {
            epoch: 0,
            index: self.0,
        }
    }

    fn seek(&mut self, position: SourcePosition) -> Result<(), TrainError> {
        self.0 = position.index;
        Ok(())
    }
}

/// Asks for a stop after a step, and keeps the losses.
pub struct StopAfter<'a> {
    /// The step.
    pub step: u64,
    /// What it sets.
    pub stop: &'a AtomicBool,
    /// Losses so far.
    pub losses: Vec<f64>,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.loss);
        self.stop.store(report.step == self.step, Ordering::Relaxed);
    }

    fn note(&mut self, _: &str) {}
}

/// The objective with element `at` of parameter `name` moved by `by`.
pub fn objective(
    trainer: &mut Trainer,
    batches: &[PackedBatch],
    name: &str,
    at: usize,
    by: f32,
) -> f64 {
    let original = trainer.parameters().get(name).unwrap().values().unwrap();
    let mut moved = original.clone();
    moved[at] += by;
    let put = |trainer: &mut Trainer, values: Vec<f32>| {
        let change = |p: &mut ParameterSet| {
            p.get_mut(name).unwrap().restore(values, None);
            Ok(())
        };
        trainer.restore(change).unwrap();
    };
    put(trainer, moved);
    let (objective, _) = trainer.gradients(batches).unwrap();
    put(trainer, original);
    objective
}
