//! One layer.

use burn::tensor::Tensor;

use crate::cache::LatentCache;
use crate::error::ModelError;
use crate::loader::Loader;
use crate::mla::{Context, Mla};
use crate::mlp::Mlp;
use crate::moe::Moe;
use crate::norm::RMSNorm;
use crate::parameters::{ParameterVisitor, norm};
use crate::reads::LayerBytes;
use crate::trace::Trace;

/// The feed-forward part: dense in the first layers, experts after.
#[allow(clippy::large_enum_variant)] // one a layer, and nearly all are the large one
#[derive(Clone, Debug)]
enum FeedForward {
    Dense(Mlp),
    Moe(Moe),
}

/// DeepSeek's `Block`: attention and feed-forward, each normalised before and added after.
#[derive(Clone, Debug)]
pub struct Block {
    attention_norm: RMSNorm,
    pub(crate) attention: Mla,
    feed_forward_norm: RMSNorm,
    feed_forward: FeedForward,
}

impl Block {
    /// Load `model.layers.{layer}`.
    pub(crate) fn load(loader: &Loader<'_>, layer: usize) -> Result<Self, ModelError> {
        let args = loader.args();
        let prefix = format!("model.layers.{layer}");
        let mlp = format!("{prefix}.mlp");
        // A multi-token prediction layer lies behind the others and is always one of experts.
        let is_moe = args.is_moe_layer(layer);
        let feed_forward = match is_moe {
            true => FeedForward::Moe(Moe::load(loader, &mlp)?),
            false => FeedForward::Dense(Mlp::load(loader, &mlp, args.intermediate_size)?),
        };
        Ok(Block {
            attention_norm: loader.norm(&format!("{prefix}.input_layernorm"), args.hidden_size)?,
            attention: Mla::load(loader, &format!("{prefix}.self_attn"))?,
            feed_forward_norm: loader.norm(
                &format!("{prefix}.post_attention_layernorm"),
                args.hidden_size,
            )?,
            feed_forward,
        })
    }

    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> LayerBytes {
        let feed_forward = match &self.feed_forward {
            FeedForward::Dense(mlp) => LayerBytes {
                dense: mlp.bytes(),
                ..LayerBytes::default()
            },
            FeedForward::Moe(moe) => moe.bytes(),
        };
        LayerBytes {
            norm: self.attention_norm.bytes() + self.feed_forward_norm.bytes(),
            attention: self.attention.bytes(),
            ..feed_forward
        }
    }

    /// Shows `visitor` the parameters of `model.layers.{layer}`.
    pub(crate) fn visit_parameters(&mut self, layer: usize, visitor: &mut ParameterVisitor<'_>) {
        let prefix = format!("model.layers.{layer}");
        norm(
            visitor,
            &format!("{prefix}.input_layernorm"),
            &mut self.attention_norm,
        );
        norm(
            visitor,
            &format!("{prefix}.post_attention_layernorm"),
            &mut self.feed_forward_norm,
        );
        self.attention
            .visit_parameters(&format!("{prefix}.self_attn"), visitor);
        let mlp = format!("{prefix}.mlp");
        match &mut self.feed_forward {
            FeedForward::Dense(dense) => dense.visit_parameters(&mlp, visitor),
            FeedForward::Moe(moe) => moe.visit_parameters(&mlp, visitor),
        }
    }

    /// `x [T, hidden]` → `[T, hidden]`; `layer` is its number in the cache and in the trace.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        cache: &mut LatentCache,
        layer: usize,
        trace: &mut dyn Trace,
    ) -> Result<Tensor<2>, ModelError> {
        let normed = self.attention_norm.forward(x.clone()); // [T, hidden]
        let attended = self.attention.forward(normed, context, cache, layer)?; // [T, hidden]
        trace.attention(layer, &attended);
        let x = x + attended; // [T, hidden]
        let normed = self.feed_forward_norm.forward(x.clone()); // [T, hidden]
        let y = match &self.feed_forward {
            FeedForward::Dense(mlp) => mlp.forward(normed),
            FeedForward::Moe(moe) => {
                let (y, routing) = moe.forward(normed);
                trace.router(layer, &routing.logits, &routing.ids, &routing.weights);
                y
            }
        }; // [T, hidden]
        trace.feed_forward(layer, &y);
        let x = x + y; // [T, hidden]
        trace.hidden(layer, &x);
        Ok(x)
    }
}
