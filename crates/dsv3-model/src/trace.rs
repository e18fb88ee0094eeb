//! Looking inside a forward pass.

use burn::tensor::{Int, Tensor};

/// Receives what the graph computes between embedding and logits. Every method does nothing
/// unless overridden.
pub trait Trace {
    /// Output of layer `layer`'s attention, before it is added: `[T, hidden]`.
    fn attention(&mut self, layer: usize, output: &Tensor<2>) {
        let _ = (layer, output);
    }

    /// Output of layer `layer`'s feed-forward part, before it is added: `[T, hidden]`.
    fn feed_forward(&mut self, layer: usize, output: &Tensor<2>) {
        let _ = (layer, output);
    }

    /// The residual stream after layer `layer`: `[T, hidden]`.
    fn hidden(&mut self, layer: usize, stream: &Tensor<2>) {
        let _ = (layer, stream);
    }

    /// The router of layer `layer`: logits `[T, experts]`, ids and weights `[T, k]`.
    fn router(
        &mut self,
        layer: usize,
        logits: &Tensor<2>,
        ids: &Tensor<2, Int>,
        weights: &Tensor<2>,
    ) {
        let _ = (layer, logits, ids, weights);
    }
}

/// Looks at nothing.
impl Trace for () {}
