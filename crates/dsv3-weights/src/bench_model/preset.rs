//! The configurations that benchmarks run.

use crate::{ModelArgs, WeightsError};

/// Layers of DeepSeek-V3.1, without its MTP module.
const LAYERS: usize = 61;
/// Its dense layers.
const DENSE: usize = 3;
/// Its routed experts.
const EXPERTS: usize = 256;
/// How many of them a token is sent to.
const CHOSEN: usize = 8;
/// Its groups of experts.
const GROUPS: usize = 8;

/// A model that other engines run too, on a machine of a few gigabytes: DeepSeek-V3's architecture
/// with 1,695 million parameters, 8 layers (the first dense) and 64 experts of 512, in bf16.
///
/// Latent, rope and head dimensions are V3's: kernels that are written for them must serve.
///
/// # Errors
/// None in practice: the configuration is a constant, checked as any other.
pub fn small() -> Result<ModelArgs, WeightsError> {
    let mut args = v3_1()?;
    args.vocab_size = 32_768;
    args.hidden_size = 2048;
    args.intermediate_size = 6144;
    args.moe_intermediate_size = 512;
    args.num_hidden_layers = 8;
    args.num_attention_heads = 16;
    args.n_routed_experts = 64;
    args.first_k_dense_replace = 1;
    args.q_lora_rank = Some(768);
    Ok(args)
}

/// So many layers of DeepSeek-V3.1 with so many routed experts, every matrix in its real shape, in
/// bf16, without the MTP module.
///
/// Three layers are dense as published, or one where there are fewer than four, or none where
/// there is one: a MoE layer is always left. Groups are as published where the experts can be
/// divided so, else fewer.
///
/// # Errors
/// [`WeightsError::BadOption`] for no layers, for more than the model has, and for fewer experts
/// than a token is sent to.
pub fn slice(layers: usize, experts: usize) -> Result<ModelArgs, WeightsError> {
    let bad = |option, problem| Err(WeightsError::BadOption { option, problem });
    if !(1..=LAYERS).contains(&layers) {
        let problem = format!("is {layers}; a slice of DeepSeek-V3.1 has 1 to {LAYERS}");
        return bad("layers", problem);
    }
    if experts < CHOSEN {
        let problem = format!("is {experts}, but each token is sent to {CHOSEN}; ask for more");
        return bad("experts", problem);
    }
    if experts > EXPERTS {
        let problem = format!("is {experts}; DeepSeek-V3.1 has {EXPERTS} at most");
        return bad("experts", problem);
    }
    let mut args = v3_1()?;
    args.num_hidden_layers = layers;
    args.first_k_dense_replace = match layers {
        1 => 0,
        2..=DENSE => 1,
        _ => DENSE,
    };
    args.n_routed_experts = experts;
    (args.n_group, args.topk_group) = groups(experts);
    Ok(args)
}

/// Groups of experts and how many a token chooses from: as many groups as divide the experts with
/// two in each (a group is ranked by its two best), half of them kept or as many more as hold
/// enough experts.
fn groups(experts: usize) -> (usize, usize) {
    let fits = |n: &usize| experts.is_multiple_of(*n) && experts / n >= 2;
    let halves = std::iter::successors(Some(GROUPS), |n| (*n > 1).then_some(n / 2));
    let n_group = halves.into_iter().find(fits).unwrap_or(1);
    let holding = CHOSEN.div_ceil(experts / n_group);
    (n_group, (n_group / 2).max(holding))
}

/// DeepSeek-V3.1 in bf16 and without its MTP module.
fn v3_1() -> Result<ModelArgs, WeightsError> {
    ModelArgs::from_json_bytes(V3_1.as_bytes())
}

/// What its published `config.json` says of the main model.
const V3_1: &str = r#"{
    "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "n_shared_experts": 1, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "norm_topk_prob": true, "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc",
    "rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 163840,
    "rope_scaling": {
        "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0
    },
    "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": false,
    "bos_token_id": 0, "eos_token_id": 1
}"#;
