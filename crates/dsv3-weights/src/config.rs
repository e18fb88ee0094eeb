//! `config.json`: the published fields, under their published names, in possible ranges.

use std::path::Path;

use crate::WeightsError;
use crate::json;

mod check;
mod raw;

/// The longest `config.json` that is read; the published one has 2 kB.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The architecture, as `config.json` gives it. Every value has been checked: sizes are positive
/// and within bounds at which no product of them overflows 64 bits.
///
/// Field names are the published keys. Unknown keys are ignored; a missing or impossible value is
/// refused by name.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ModelArgs {
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of a dense layer's MLP.
    pub intermediate_size: usize,
    /// Width of one routed expert.
    pub moe_intermediate_size: usize,
    /// Layers of the main model, without MTP modules.
    pub num_hidden_layers: usize,
    /// Multi-token-prediction modules behind the main layers; 0 if not given.
    pub num_nextn_predict_layers: usize,
    /// Attention heads (MLA has no smaller count for keys).
    pub num_attention_heads: usize,
    /// Shared experts, stored as one MLP of `n_shared_experts · moe_intermediate_size`.
    pub n_shared_experts: usize,
    /// Routed experts of a MoE layer; 0 if null or not given, then every layer is dense.
    pub n_routed_experts: usize,
    /// Routed experts that a token is sent to.
    pub num_experts_per_tok: usize,
    /// Groups that the routed experts are divided into; 1 means no groups.
    pub n_group: usize,
    /// Groups that a token may choose from.
    pub topk_group: usize,
    /// This many first layers are dense.
    pub first_k_dense_replace: usize,
    /// Behind the first dense layers, every `moe_layer_freq`-th layer is MoE; 1 if not given.
    pub moe_layer_freq: usize,
    /// Whether the chosen experts' weights are made to sum to one.
    pub norm_topk_prob: bool,
    /// Factor on the routed experts' weights.
    pub routed_scaling_factor: f64,
    /// Score function of the router.
    pub scoring_func: ScoringFunc,
    /// How experts are chosen from the scores.
    pub topk_method: TopkMethod,
    /// Rank of the query's low-rank form; `None` (null) for one full `q_proj`.
    pub q_lora_rank: Option<usize>,
    /// Rank of the latent of keys and values.
    pub kv_lora_rank: usize,
    /// Head dimension without rotation.
    pub qk_nope_head_dim: usize,
    /// Head dimension with rotation; even.
    pub qk_rope_head_dim: usize,
    /// Head dimension of values.
    pub v_head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotation frequencies.
    pub rope_theta: f64,
    /// YaRN, or `None` for plain rotation.
    pub rope_scaling: Option<RopeScaling>,
    /// Extent of the rotation table.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Activation of the MLPs.
    pub hidden_act: HiddenAct,
    /// Whether attention projections have biases; always false, others are refused.
    pub attention_bias: bool,
    /// Ids that begin a text; empty if not given.
    pub bos_token_id: Vec<u32>,
    /// Ids that end a text; empty if not given.
    pub eos_token_id: Vec<u32>,
    /// `quantization_config` of fp8 weights, or `None` without them.
    pub quantization: Option<Quantization>,
    /// Whether `quantization_config` is of method `dsv3`: some weights are packed in groups, and
    /// the files' metadata say which ([`crate::PackedTensor`]).
    pub packed: bool,
}

/// `scoring_func`. Only the one that V3 uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScoringFunc {
    /// Each expert's score by itself.
    Sigmoid,
}

/// `topk_method`. Only the one that V3 uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TopkMethod {
    /// Groups by the sum of their two best, a correction bias in the choice only.
    NoauxTc,
}

/// `hidden_act`. Only the one that V3 uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HiddenAct {
    /// x · sigmoid(x).
    Silu,
}

/// `rope_scaling` of type `yarn`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RopeScaling {
    /// By how much the context was extended.
    pub factor: f64,
    /// The context before the extension.
    pub original_max_position_embeddings: usize,
    /// Rotations over the original context above which a frequency stays; 32 if not given.
    pub beta_fast: f64,
    /// Rotations under which a frequency is divided by `factor`; 1 if not given.
    pub beta_slow: f64,
    /// Numerator of the scale on cos and sin; 1 if not given.
    pub mscale: f64,
    /// Denominator of that scale, and the softmax temperature; 0 (no effect) if not given, as in
    /// DeepSeek's modelling code.
    pub mscale_all_dim: f64,
}

/// `quantization_config` of method `fp8`, or what one of method `dsv3` says of its fp8 weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Quantization {
    /// Rows and columns that share a scale; [128, 128] in the published checkpoints.
    pub weight_block_size: [usize; 2],
    /// What values scales may take.
    pub scale_fmt: ScaleFmt,
    /// The element format.
    pub fmt: QuantFmt,
}

/// `quantization_config.scale_fmt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleFmt {
    /// Any positive f32 (V3, R1; the field is missing there).
    F32,
    /// Powers of two (V3.1). Single tensors may break the rule: Terminus' `o_proj` does.
    Ue8m0,
}

/// `quantization_config.fmt`. Only the one that V3 uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum QuantFmt {
    /// 4 exponent bits, 3 mantissa bits.
    E4m3,
}

impl ModelArgs {
    /// Reads and checks the text of a `config.json`.
    ///
    /// # Errors
    /// [`WeightsError::ConfigJson`] if it is not JSON or nests without end,
    /// [`WeightsError::ConfigField`] naming the first field that is missing or impossible,
    /// [`WeightsError::FileTooLarge`] beyond [`MAX_CONFIG_BYTES`].
    pub fn from_json_bytes(json: &[u8]) -> Result<Self, WeightsError> {
        Self::from_named(Path::new("config.json"), json)
    }

    /// Reads and checks a `config.json` on disk.
    ///
    /// # Errors
    /// As [`ModelArgs::from_json_bytes`], and [`WeightsError::Io`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        Self::from_named(path, &json::read_bounded(path, MAX_CONFIG_BYTES)?)
    }

    fn from_named(file: &Path, text: &[u8]) -> Result<Self, WeightsError> {
        let (size, limit) = (text.len() as u64, MAX_CONFIG_BYTES);
        if size > limit {
            return Err(WeightsError::FileTooLarge {
                path: file.into(),
                size,
                limit,
            });
        }
        let raw: raw::RawConfig = json::check_depth(text)
            .and_then(|()| serde_json::from_slice(text).map_err(|e| json::problem(&e)))
            .map_err(|problem| WeightsError::ConfigJson {
                file: file.into(),
                problem,
            })?;
        check::model_args(&raw).map_err(|(field, problem)| WeightsError::ConfigField {
            file: file.into(),
            field,
            problem,
        })
    }

    /// Query and key head dimension: `qk_nope_head_dim + qk_rope_head_dim`.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// What the cache keeps of a token in one layer: `kv_lora_rank + qk_rope_head_dim`.
    pub fn latent_dim(&self) -> usize {
        self.kv_lora_rank + self.qk_rope_head_dim
    }

    /// Whether layer `i` has experts. MTP modules count on behind the main layers.
    pub fn is_moe_layer(&self, i: usize) -> bool {
        self.n_routed_experts > 0
            && i >= self.first_k_dense_replace
            && i.is_multiple_of(self.moe_layer_freq)
    }

    /// Experts of one group.
    pub fn experts_per_group(&self) -> usize {
        self.n_routed_experts / self.n_group
    }

    /// Width of the shared experts' common MLP; 0 without shared experts.
    pub fn shared_intermediate_size(&self) -> usize {
        self.n_shared_experts * self.moe_intermediate_size
    }

    /// Layers with tensors: the main ones and the MTP modules.
    pub fn num_stored_layers(&self) -> usize {
        self.num_hidden_layers + self.num_nextn_predict_layers
    }
}
