//! Kernels that only training needs: gradients, and forward passes that keep what gradients want.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};

use crate::ops::Dsv3Ops;
use crate::packed::{Experts, Packed};
use crate::spec::{MlaSpec, RouteSpec, Spans};

/// A backend whose operations can be trained through.
///
/// Where [`kernels`](Self::kernels) gives none, training differentiates the stock bodies of
/// [`Dsv3Ops`] through Burn's own operations: slower, and the oracle for those kernels.
pub trait Dsv3Training: Dsv3Ops {
    /// The backend's own kernels, if it has them.
    fn kernels() -> Option<TrainingKernels<Self>> {
        None
    }
}

/// The matrices of a layer's routed experts, as training has them.
#[derive(Clone, Debug)]
pub enum ExpertMatrices<B: Backend> {
    /// Float tensors that stack the experts; they have gradients.
    Stacked {
        /// `[experts, moe_inter, hidden]`
        gate: FloatTensor<B>,
        /// `[experts, moe_inter, hidden]`
        up: FloatTensor<B>,
        /// `[experts, hidden, moe_inter]`
        down: FloatTensor<B>,
    },
    /// Each expert as it is stored, frozen.
    Frozen(Experts<B>),
}

/// What the gradient of [`Dsv3Ops::packed_experts`] needs of its forward pass.
#[derive(Clone, Debug)]
pub struct ExpertsSaved<B: Backend> {
    /// `gate(x)` of each place, grouped by expert: `[T · k, moe_inter]`.
    pub gate: FloatTensor<B>,
    /// `up(x)` of each place, grouped by expert: `[T · k, moe_inter]`.
    pub up: FloatTensor<B>,
}

/// Operands of the routed experts, for both directions.
#[derive(Clone, Debug)]
pub struct ExpertsCall<B: Backend> {
    /// `[T, hidden]`
    pub x: FloatTensor<B>,
    /// `[T, k]`
    pub ids: IntTensor<B>,
    /// `[T, k]`
    pub weights: FloatTensor<B>,
    /// The experts.
    pub experts: ExpertMatrices<B>,
}

/// Gradients of the routed experts.
#[derive(Clone, Debug)]
pub struct ExpertsGradient<B: Backend> {
    /// `[T, hidden]`
    pub x: FloatTensor<B>,
    /// `[T, k]`
    pub weights: FloatTensor<B>,
    /// Of gate, up and down, where they are stacked.
    pub matrices: Option<[FloatTensor<B>; 3]>,
}

/// Operands of latent attention, for both directions.
#[derive(Clone, Debug)]
pub struct AttentionCall<B: Backend> {
    /// `[T, heads, nope + rope]`
    pub query: FloatTensor<B>,
    /// `[blocks, block_size, latent + rope]`
    pub cache: FloatTensor<B>,
    /// `[heads · (nope + value), latent]`
    pub kv_b: Packed<B>,
    /// Sizes.
    pub spec: MlaSpec,
    /// Sequences.
    pub spans: Spans,
}

/// Gradients of latent attention.
#[derive(Clone, Debug)]
pub struct AttentionGradient<B: Backend> {
    /// `[T, heads, nope + rope]`
    pub query: FloatTensor<B>,
    /// `[blocks, block_size, latent + rope]`
    pub cache: FloatTensor<B>,
    /// `[heads · (nope + value), latent]`
    pub kv_b: FloatTensor<B>,
}

/// A pair of gradients, in the order of the operation's operands.
type Pair<B> = (FloatTensor<B>, FloatTensor<B>);

/// One backend's kernels. All tensors are f32.
#[allow(clippy::type_complexity)] // operands in a row, each of a type of its own
pub struct TrainingKernels<B: Backend> {
    /// A weight as floats: `[out, in]`.
    pub dequantize: fn(&Packed<B>) -> FloatTensor<B>,
    /// `x`, `weight`, `eps`, gradient of the output → gradients of `x` and `weight`.
    pub rms_norm: fn(FloatTensor<B>, FloatTensor<B>, f32, FloatTensor<B>) -> Pair<B>,
    /// `gate`, `up`, gradient of the output → gradients of `gate` and `up`.
    pub swiglu: fn(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) -> Pair<B>,
    /// Router logits, chosen ids, gradient of the weights → gradient of the logits.
    pub route: fn(FloatTensor<B>, IntTensor<B>, FloatTensor<B>, RouteSpec) -> FloatTensor<B>,
    /// Logits, targets, gradient of the losses → gradient of the logits.
    pub cross_entropy: fn(FloatTensor<B>, &[u32], FloatTensor<B>) -> FloatTensor<B>,
    /// Rows of the gradient of a cache at the given slots: `[T, latent + rope]`.
    pub latent_rows: fn(FloatTensor<B>, &[u32]) -> FloatTensor<B>,
    /// The routed experts' output and what their gradient needs.
    pub experts: fn(&ExpertsCall<B>) -> (FloatTensor<B>, ExpertsSaved<B>),
    /// Gradients of the routed experts from that of their output.
    pub experts_gradient:
        fn(&ExpertsCall<B>, &ExpertsSaved<B>, FloatTensor<B>) -> ExpertsGradient<B>,
    /// Latent attention in its naive form: `[T, heads · value]`.
    pub attention: fn(&AttentionCall<B>) -> FloatTensor<B>,
    /// Gradients of latent attention from that of its output.
    pub attention_gradient: fn(&AttentionCall<B>, FloatTensor<B>) -> AttentionGradient<B>,
}
