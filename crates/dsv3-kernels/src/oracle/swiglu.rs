//! The gated activation of a feed-forward layer.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use crate::stock::Float;

/// `silu(gate) · up`, both `[T, n]`.
pub(crate) fn swiglu<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    Float::<B>(gate).silu().mul(Float(up)).0
}
