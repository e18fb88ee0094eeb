//! The routed experts as one node.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

use super::inner;
use crate::packed::{Expert, Experts, Packed};
use crate::training::{Dsv3Training, ExpertMatrices, ExpertsCall, ExpertsSaved, TrainingKernels};

#[derive(Debug)]
struct Trained;

impl<B: Backend + Dsv3Training> Backward<B, 5> for Trained {
    type State = (ExpertsCall<B>, ExpertsSaved<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, hidden]
        let (call, saved) = ops.state;
        let Some(kernels) = B::kernels() else { return };
        let gradient = (kernels.experts_gradient)(&call, &saved, grad);
        let values = [gradient.x, gradient.weights].into_iter();
        let values = values.chain(gradient.matrices.into_iter().flatten());
        for (node, value) in ops.parents.into_iter().zip(values) {
            if let Some(node) = node {
                grads.register::<B>(node.id, value);
            }
        }
    }
}

#[derive(Debug)]
struct Frozen;

impl<B: Backend + Dsv3Training> Backward<B, 2> for Frozen {
    type State = (ExpertsCall<B>, ExpertsSaved<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, hidden]
        let (call, saved) = ops.state;
        let Some(kernels) = B::kernels() else { return };
        let gradient = (kernels.experts_gradient)(&call, &saved, grad);
        let values = [gradient.x, gradient.weights];
        for (node, value) in ops.parents.into_iter().zip(values) {
            if let Some(node) = node {
                grads.register::<B>(node.id, value);
            }
        }
    }
}

/// The experts' plain f32 matrices, if that is what all of them are.
#[allow(clippy::type_complexity)] // three lists of the same tensors
fn plain<B: Backend>(experts: &Experts<B>) -> Option<[Vec<FloatTensor<B>>; 3]> {
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    for expert in &experts.0 {
        for (list, weight) in lists
            .iter_mut()
            .zip([&expert.gate, &expert.up, &expert.down])
        {
            match weight {
                Packed::Plain { weight } if super::is_f32(weight) => list.push(weight.clone()),
                _ => return None,
            }
        }
    }
    (!experts.0.is_empty()).then_some(lists)
}

/// `[a, b]` each → `[n, a, b]`.
fn stack<B: Backend>(list: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    let rows = list.into_iter().map(|t| {
        let shape = t.shape();
        B::float_reshape(t, Shape::from(vec![1, shape[0], shape[1]]))
    });
    B::float_cat(rows.collect(), 0)
}

/// `x [T, hidden]`, `ids`, `weights` `[T, k]` → `[T, hidden]`.
pub(super) fn packed_experts<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    ids: IntTensor<B>,
    weights: FloatTensor<Autodiff<B, C>>,
    experts: Experts<Autodiff<B, C>>,
    kernels: TrainingKernels<B>,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, x_node) = x.into_parts();
    let (weights, weights_node) = weights.into_parts();
    if let Some(lists) = plain(&experts) {
        // One tensor a kind of matrix: a node has a fixed number of parents.
        let [gate, up, down] = lists.map(|list| stack::<Autodiff<B, C>>(list).into_parts());
        let call = ExpertsCall {
            x,
            ids,
            weights,
            experts: ExpertMatrices::Stacked {
                gate: gate.0,
                up: up.0,
                down: down.0,
            },
        };
        let (y, saved) = (kernels.experts)(&call);
        let nodes = [x_node, weights_node, gate.1, up.1, down.1];
        return match Trained.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((call, saved), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
    }
    let experts = experts.0.into_iter().map(|expert| Expert {
        gate: inner::<B, C>(expert.gate),
        up: inner::<B, C>(expert.up),
        down: inner::<B, C>(expert.down),
    });
    let call = ExpertsCall {
        x,
        ids,
        weights,
        experts: ExpertMatrices::Frozen(Experts(experts.collect())),
    };
    let (y, saved) = (kernels.experts)(&call);
    match Frozen
        .prepare::<C>([x_node, weights_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((call, saved), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}
