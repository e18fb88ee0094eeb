//! What an operation needs to know beside its tensors: plain numbers on the host.

use std::ops::Range;
use std::sync::Arc;

/// How the router turns scores into a choice (DeepSeek-V3 report §2.1.2; config keys in brackets).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteSpec {
    /// Groups that the experts form, each of consecutive ids (`n_group`).
    pub groups: usize,
    /// Groups that stay eligible for a token (`topk_group`).
    pub top_groups: usize,
    /// Experts for a token (`num_experts_per_tok`).
    pub top_k: usize,
    /// Whether the chosen weights are made to sum to one (`norm_topk_prob`).
    pub normalize: bool,
    /// Factor on the weights (`routed_scaling_factor`).
    pub scaling: f32,
}

/// The sizes of multi-head latent attention (config keys in brackets).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MlaSpec {
    /// `num_attention_heads`
    pub heads: usize,
    /// `qk_nope_head_dim`: the part of a query that meets the latent.
    pub nope: usize,
    /// `qk_rope_head_dim`: the part that carries the position.
    pub rope: usize,
    /// `v_head_dim`
    pub value: usize,
    /// `kv_lora_rank`: the width of the latent.
    pub latent: usize,
    /// Factor on the scores: `(nope + rope)^-0.5`, times YaRN's correction.
    pub softmax_scale: f32,
}

/// The two equal ways to compute latent attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlaForm {
    /// Expand keys and values of every head from the latent: least work for many queries.
    Naive,
    /// Move queries into the latent space and never expand: least memory for few queries.
    Absorbed,
}

/// One sequence's share of an attention call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSpan {
    /// Its rows among the batch's tokens: its newest ones, in order of position.
    pub rows: Range<usize>,
    /// Tokens of it in the cache, those rows included. Row `i` of the span sees
    /// `context - rows.len() + i + 1` of them.
    pub context: usize,
    /// Cache blocks that hold them, in order.
    pub blocks: Vec<u32>,
    /// How to compute it.
    pub form: MlaForm,
}

impl SequenceSpan {
    /// Cache slots of the first `context` tokens: block id × block size + offset.
    pub(crate) fn slots(&self, block_size: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.context).map(move |i| {
            let block = self.blocks.get(i / block_size).copied().unwrap_or_default();
            block as usize * block_size + i % block_size
        })
    }

    /// How many cached tokens row `i` of the span sees.
    pub(crate) fn visible(&self, i: usize) -> usize {
        self.context - self.rows.len() + i + 1
    }
}

/// All sequences of one attention call. Shared, since every layer uses the same.
pub type Spans = Arc<Vec<SequenceSpan>>;

/// Columns that share one activation scale in a W8A8 run (DeepSeek's `act_quant`, block 128).
pub(crate) const ACTIVATION_GROUP: usize = 128;

/// The smallest amplitude that a group of activations is scaled for (DeepSeek's `act_quant`).
pub(crate) const ACTIVATION_AMAX_FLOOR: f32 = 1e-4;

/// The largest i8 that activations are rounded to: -128 has no counterpart.
pub(crate) const I8_MAX: f32 = 127.0;

/// The largest finite e4m3 value.
pub(crate) const E4M3_MAX: f32 = 448.0;
