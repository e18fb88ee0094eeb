//! Writing the latent and attending to it.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

use super::inner;
use crate::packed::Packed;
use crate::spec::{MlaSpec, Spans};
use crate::training::{AttentionCall, Dsv3Training, TrainingKernels};

#[derive(Debug)]
struct Append;

impl<B: Backend + Dsv3Training> Backward<B, 1> for Append {
    type State = Vec<u32>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [blocks, block_size, latent + rope]
        let [rows_node] = ops.parents;
        if let (Some(node), Some(kernels)) = (rows_node, B::kernels()) {
            let rows = (kernels.latent_rows)(grad, &ops.state); // [T, latent + rope]
            grads.register::<B>(node.id, rows);
        }
    }
}

/// `cache [blocks, block_size, d]` without a gradient, `rows [T, d]` → the cache.
pub(super) fn append_latent<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    cache: FloatTensor<Autodiff<B, C>>,
    rows: FloatTensor<Autodiff<B, C>>,
    slots: Vec<u32>,
) -> FloatTensor<Autodiff<B, C>> {
    let (rows, rows_node) = rows.into_parts();
    let cache = B::append_latent(cache.into_primitive(), rows, slots.clone());
    match Append.prepare::<C>([rows_node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(slots, cache),
        OpsKind::UnTracked(prep) => prep.finish(cache),
    }
}

/// Attention with a plain `kv_b`, which may be trained.
#[derive(Debug)]
struct Trained;

impl<B: Backend + Dsv3Training> Backward<B, 3> for Trained {
    type State = AttentionCall<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, heads · value]
        let Some(kernels) = B::kernels() else { return };
        let gradient = (kernels.attention_gradient)(&ops.state, grad);
        let values = [gradient.query, gradient.cache, gradient.kv_b];
        for (node, value) in ops.parents.into_iter().zip(values) {
            if let Some(node) = node {
                grads.register::<B>(node.id, value);
            }
        }
    }
}

/// Attention with a packed `kv_b`.
#[derive(Debug)]
struct Frozen;

impl<B: Backend + Dsv3Training> Backward<B, 2> for Frozen {
    type State = AttentionCall<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node); // [T, heads · value]
        let Some(kernels) = B::kernels() else { return };
        let gradient = (kernels.attention_gradient)(&ops.state, grad);
        let values = [gradient.query, gradient.cache];
        for (node, value) in ops.parents.into_iter().zip(values) {
            if let Some(node) = node {
                grads.register::<B>(node.id, value);
            }
        }
    }
}

/// `query [T, heads, nope + rope]`, `cache [blocks, block_size, latent + rope]` →
/// `[T, heads · value]`.
pub(super) fn mla_attention<B: Backend + Dsv3Training, C: CheckpointStrategy>(
    query: FloatTensor<Autodiff<B, C>>,
    cache: FloatTensor<Autodiff<B, C>>,
    kv_b: Packed<Autodiff<B, C>>,
    spec: MlaSpec,
    spans: Spans,
    kernels: TrainingKernels<B>,
) -> FloatTensor<Autodiff<B, C>> {
    let (query, query_node) = query.into_parts();
    let (cache, cache_node) = cache.into_parts();
    let call = |kv_b| AttentionCall {
        query,
        cache,
        kv_b,
        spec,
        spans,
    };
    match kv_b {
        Packed::Plain { weight } if super::is_f32(&weight) => {
            let (weight, weight_node) = weight.into_parts();
            let call = call(Packed::Plain { weight });
            let out = (kernels.attention)(&call);
            let nodes = [query_node, cache_node, weight_node];
            match Trained.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(call, out),
                OpsKind::UnTracked(prep) => prep.finish(out),
            }
        }
        kv_b => {
            let call = call(inner::<B, C>(kv_b));
            let out = (kernels.attention)(&call);
            let nodes = [query_node, cache_node];
            match Frozen.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(call, out),
                OpsKind::UnTracked(prep) => prep.finish(out),
            }
        }
    }
}
