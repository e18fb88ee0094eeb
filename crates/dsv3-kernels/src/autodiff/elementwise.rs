//! Norm, rotation, gated activation, router weights, loss: one node and one gradient kernel each.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend};

use crate::packed::Routed;
use crate::spec::RouteSpec;
use crate::training::Dsv3Training;

/// Hands each parent that wants it its gradient.
macro_rules! register {
    ($backend:ty, $grads:expr, $parents:expr, $values:expr) => {
        for (node, value) in $parents.into_iter().zip($values) {
            if let Some(node) = node {
                $grads.register::<$backend>(node.id, value);
            }
        }
    };
}

#[derive(Debug)]
struct RmsNorm;

impl<B: Backend + Dsv3Training> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, n]
        let (x, weight, eps) = ops.state;
        let Some(kernels) = B::kernels() else { return };
        let (dx, dw) = (kernels.rms_norm)(x, weight, eps, grad);
        register!(B, grads, ops.parents, [dx, dw]);
    }
}

/// `x [T, n]`, `weight [n]` → `[T, n]`.
pub(super) fn rms_norm<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    eps: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let y = B::rms_norm(x.clone(), weight.clone(), eps);
    match RmsNorm
        .prepare::<C>([x_node, weight_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((x, weight, eps), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct Rope;

impl<B: Backend + Dsv3Training> Backward<B, 1> for Rope {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, heads, n]
        let (cos, sin) = ops.state;
        // A rotation's transpose is the rotation back.
        let dx = B::rope(grad, cos, B::float_neg(sin));
        register!(B, grads, ops.parents, [dx]);
    }
}

/// `x [T, heads, n]`, `cos`, `sin` `[T, rope / 2]` → `[T, heads, n]`.
pub(super) fn rope<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    cos: FloatTensor<Autodiff<B, C>>,
    sin: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, x_node) = x.into_parts();
    let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
    let y = B::rope(x, cos.clone(), sin.clone());
    match Rope.prepare::<C>([x_node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((cos, sin), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct Swiglu;

impl<B: Backend + Dsv3Training> Backward<B, 2> for Swiglu {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, n]
        let (gate, up) = ops.state;
        let Some(kernels) = B::kernels() else { return };
        let (dgate, dup) = (kernels.swiglu)(gate, up, grad);
        register!(B, grads, ops.parents, [dgate, dup]);
    }
}

/// `gate`, `up` `[T, n]` → `[T, n]`.
pub(super) fn swiglu<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    gate: FloatTensor<Autodiff<B, C>>,
    up: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (gate, gate_node) = gate.into_parts();
    let (up, up_node) = up.into_parts();
    let y = B::swiglu(gate.clone(), up.clone());
    match Swiglu
        .prepare::<C>([gate_node, up_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((gate, up), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct Route;

impl<B: Backend + Dsv3Training> Backward<B, 1> for Route {
    type State = (FloatTensor<B>, IntTensor<B>, RouteSpec);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, k]
        let (logits, ids, spec) = ops.state;
        let Some(kernels) = B::kernels() else { return };
        let dlogits = (kernels.route)(logits, ids, grad, spec);
        register!(B, grads, ops.parents, [dlogits]);
    }
}

/// `logits [T, experts]`, `bias [experts]` → ids and weights `[T, k]`.
pub(super) fn route<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    logits: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
    spec: RouteSpec,
) -> Routed<Autodiff<B, C>> {
    let (logits, logits_node) = logits.into_parts();
    let routed = B::route(logits.clone(), bias.into_primitive(), spec);
    let weights = match Route.prepare::<C>([logits_node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((logits, routed.ids.clone(), spec), routed.weights),
        OpsKind::UnTracked(prep) => prep.finish(routed.weights),
    };
    Routed {
        ids: routed.ids,
        weights,
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Backend + Dsv3Training> Backward<B, 1> for CrossEntropy {
    type State = (FloatTensor<B>, Vec<u32>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [R]
        let (logits, targets) = ops.state;
        let Some(kernels) = B::kernels() else { return };
        let dlogits = (kernels.cross_entropy)(logits, &targets, grad);
        register!(B, grads, ops.parents, [dlogits]);
    }
}

/// `logits [R, vocab]`, a target a row → `[R]`.
pub(super) fn cross_entropy<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    logits: FloatTensor<Autodiff<B, C>>,
    targets: Vec<u32>,
) -> FloatTensor<Autodiff<B, C>> {
    let (logits, logits_node) = logits.into_parts();
    let losses = B::cross_entropy(logits.clone(), targets.clone());
    match CrossEntropy
        .prepare::<C>([logits_node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((logits, targets), losses),
        OpsKind::UnTracked(prep) => prep.finish(losses),
    }
}
