//! A configuration as the text of a `config.json`.

use serde_json::{Value, json};

use crate::config::{ModelArgs, QuantFmt, Quantization, RopeScaling, ScaleFmt};

impl Quantization {
    /// What V3.1 was published in: e4m3 with a power of two for every 128 × 128 values.
    pub const V3_1: Self = Self {
        weight_block_size: [128, 128],
        scale_fmt: ScaleFmt::Ue8m0,
        fmt: QuantFmt::E4m3,
    };

    fn to_config_json(self) -> Value {
        let mut quantization = json!({
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": self.weight_block_size,
        });
        if self.scale_fmt == ScaleFmt::Ue8m0 {
            quantization["scale_fmt"] = Value::from("ue8m0");
        }
        quantization
    }
}

impl RopeScaling {
    fn to_config_json(self) -> Value {
        json!({
            "type": "yarn",
            "factor": self.factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
            "beta_fast": self.beta_fast,
            "beta_slow": self.beta_slow,
            "mscale": self.mscale,
            "mscale_all_dim": self.mscale_all_dim,
        })
    }
}

impl ModelArgs {
    /// A `config.json` under the published names, with what transformers asks for besides; it reads
    /// back as these values, but for packed weights, which have no published name.
    pub fn to_config_json(&self) -> Value {
        let mut config = json!({
            "architectures": ["DeepseekV3ForCausalLM"],
            "model_type": "deepseek_v3",
            "torch_dtype": "bfloat16",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_nextn_predict_layers": self.num_nextn_predict_layers,
            "num_attention_heads": self.num_attention_heads,
            // MLA has a latent instead of fewer keys.
            "num_key_value_heads": self.num_attention_heads,
            "q_lora_rank": self.q_lora_rank,
            "kv_lora_rank": self.kv_lora_rank,
            "qk_nope_head_dim": self.qk_nope_head_dim,
            "qk_rope_head_dim": self.qk_rope_head_dim,
            "v_head_dim": self.v_head_dim,
            "first_k_dense_replace": self.first_k_dense_replace,
            "moe_layer_freq": self.moe_layer_freq,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.map(RopeScaling::to_config_json),
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "hidden_act": self.hidden_act,
            "attention_bias": self.attention_bias,
            "attention_dropout": 0.0,
            "bos_token_id": ids(&self.bos_token_id),
            "eos_token_id": ids(&self.eos_token_id),
            "use_cache": true,
        });
        // Readers take a field of 0 for a mistake; models without experts leave them out.
        if self.n_routed_experts > 0 {
            config["n_routed_experts"] = Value::from(self.n_routed_experts);
            config["n_shared_experts"] = Value::from(self.n_shared_experts);
            config["num_experts_per_tok"] = Value::from(self.num_experts_per_tok);
            config["n_group"] = Value::from(self.n_group);
            config["topk_group"] = Value::from(self.topk_group);
            config["norm_topk_prob"] = Value::from(self.norm_topk_prob);
            config["scoring_func"] = json!(self.scoring_func);
            config["topk_method"] = json!(self.topk_method);
        }
        if self.n_routed_experts > 0 || self.moe_intermediate_size > 0 {
            config["moe_intermediate_size"] = Value::from(self.moe_intermediate_size);
        }
        config["routed_scaling_factor"] = Value::from(self.routed_scaling_factor);
        if let Some(quantization) = self.quantization {
            config["quantization_config"] = quantization.to_config_json();
        }
        config
    }
}

/// One id as itself, several as a list, none as null.
pub(super) fn ids(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => Value::from(*id),
        ids => json!(ids),
    }
}
