//! The bytes that a pass must read: each weight that it touches once, and the cache.
//!
//! Decoding is bound by memory, so these bytes and the memory's speed say how fast it can be.
//! Nothing here is estimated: weights count as they lie in memory, scales included, and of the
//! routed experts those that were chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use burn::tensor::{Int, Tensor};

use crate::batch::ForwardBatch;
use crate::cache::LatentCache;
use crate::trace::Trace;

/// Bytes of one layer's weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerBytes {
    /// The norms before attention and before the feed-forward part.
    pub norm: u64,
    /// Attention's projections and the norms between them.
    pub attention: u64,
    /// The MLP of a dense layer.
    pub dense: u64,
    /// The router with its correction bias.
    pub router: u64,
    /// The shared experts.
    pub shared: u64,
    /// Each routed expert.
    pub experts: Vec<u64>,
}

/// Bytes of a model's weights. The embedding is not among them: a pass reads one row a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// The layers in their order.
    pub layers: Vec<LayerBytes>,
    /// The final norm.
    pub norm: u64,
    /// The head.
    pub head: u64,
}

/// Bytes that one pass, or several, must read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassBytes {
    /// All norms between the layers.
    pub norm: u64,
    /// Attention's weights.
    pub attention: u64,
    /// The latent cache of each sequence, the new tokens included.
    pub cache: u64,
    /// Dense MLPs.
    pub dense: u64,
    /// Routers.
    pub router: u64,
    /// Shared experts.
    pub shared: u64,
    /// Routed experts that a token chose, each once a pass.
    pub experts: u64,
    /// The head; 0 where no logits are wanted.
    pub head: u64,
}

impl PassBytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        let layers = self.norm + self.attention + self.cache;
        layers + self.dense + self.router + self.shared + self.experts + self.head
    }
}

impl AddAssign for PassBytes {
    fn add_assign(&mut self, other: Self) {
        self.norm += other.norm;
        self.attention += other.attention;
        self.cache += other.cache;
        self.dense += other.dense;
        self.router += other.router;
        self.shared += other.shared;
        self.experts += other.experts;
        self.head += other.head;
    }
}

/// Keeps what the routers of one pass chose.
#[derive(Clone, Debug, Default)]
pub struct ChosenExperts {
    /// By layer: `[T, k]`
    ids: BTreeMap<usize, Tensor<2, Int>>,
}

impl ChosenExperts {
    /// The experts of layer `layer` that any token chose; none in a dense layer.
    pub fn of_layer(&self, layer: usize) -> BTreeSet<usize> {
        let Some(ids) = self.ids.get(&layer) else {
            return BTreeSet::new();
        };
        let ids = ids.clone().into_data();
        ids.iter::<i64>().map(|id| id as usize).collect()
    }
}

impl Trace for ChosenExperts {
    fn router(&mut self, layer: usize, _: &Tensor<2>, ids: &Tensor<2, Int>, _: &Tensor<2>) {
        self.ids.insert(layer, ids.clone());
    }
}

impl WeightBytes {
    /// What the pass over `batch` and `cache` must read that chose `chosen`.
    pub fn of_pass(
        &self,
        batch: &ForwardBatch,
        cache: &LatentCache,
        chosen: &ChosenExperts,
    ) -> PassBytes {
        let tokens: usize = batch.sequences.iter().map(|s| s.context).sum();
        let mut bytes = PassBytes {
            norm: self.norm,
            cache: tokens as u64 * cache.bytes_per_token() as u64,
            head: match batch.logit_rows.is_empty() {
                true => 0,
                false => self.head,
            },
            ..PassBytes::default()
        };
        for (number, layer) in self.layers.iter().enumerate() {
            bytes.norm += layer.norm;
            bytes.attention += layer.attention;
            bytes.dense += layer.dense;
            bytes.router += layer.router;
            bytes.shared += layer.shared;
            let chosen = chosen.of_layer(number).into_iter();
            bytes.experts += chosen.filter_map(|id| layer.experts.get(id)).sum::<u64>();
        }
        bytes
    }
}
