//! Linear layers: both gradients are products.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use super::inner;
use crate::packed::Packed;
use crate::training::{Dsv3Training, TrainingKernels};

/// `y = x · Wᵀ` with a weight that may be trained.
#[derive(Debug)]
struct Trained;

impl<B: Backend> Backward<B, 2> for Trained {
    /// `x [T, in]`, `w [out, in]`
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, out]
        let (x, weight) = ops.state;
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = weight_node {
            let dw = B::float_matmul(B::float_transpose(grad.clone()), x); // [out, in]
            grads.register::<B>(node.id, dw);
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::float_matmul(grad, weight)); // [T, in]
        }
    }
}

/// `y = x · Wᵀ` with a packed weight, which stays as it is.
#[derive(Debug)]
struct Frozen;

impl<B: Backend + Dsv3Training> Backward<B, 1> for Frozen {
    type State = Packed<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, out]
        let [x_node] = ops.parents;
        if let (Some(node), Some(kernels)) = (x_node, B::kernels()) {
            // Unpacked again rather than kept: a model's weights as floats would not fit.
            let weight = (kernels.dequantize)(&ops.state); // [out, in]
            grads.register::<B>(node.id, B::float_matmul(grad, weight));
        }
    }
}

/// `x [T, in]`, weight `[out, in]` → `[T, out]`.
pub(super) fn packed_linear<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: Packed<Autodiff<B, C>>,
    kernels: TrainingKernels<B>,
) -> FloatTensor<Autodiff<B, C>> {
    let multiply = |x: FloatTensor<B>, weight| B::float_matmul(x, B::float_transpose(weight));
    match weight {
        Packed::Plain { weight } if super::is_f32(&weight) => {
            let (x, x_node) = x.into_parts();
            let (weight, weight_node) = weight.into_parts();
            let y = multiply(x.clone(), weight.clone());
            match Trained
                .prepare::<C>([x_node, weight_node])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => prep.finish((x, weight), y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }
        weight => {
            let weight = inner::<B, C>(weight);
            let (x, x_node) = x.into_parts();
            let y = multiply(x, (kernels.dequantize)(&weight));
            match Frozen.prepare::<C>([x_node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(weight, y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            }
        }
    }
}
