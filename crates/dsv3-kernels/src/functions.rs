//! The operations over Burn's `Tensor`, for code that has no backend parameter.
//!
//! Here adapters join in: a backend's kernel takes the weight alone, and the factors beside it are
//! two more products. Everything composed here differentiates.

use std::collections::BTreeSet;

use burn::backend::Dispatch;
use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::latent::{LatentBlocks, Latents};
use crate::ops::Dsv3Ops;
use crate::oracle;
use crate::packed::{Activations, Experts};
use crate::spec::{MlaSpec, RouteSpec, Spans};
use crate::weight::{ExpertWeights, Weight, is_cpu};

/// `x · Wᵀ`, and what an adapter adds to it; see [`Dsv3Ops::packed_linear`]. `x [T, in]` →
/// `[T, out]`.
pub fn packed_linear(x: Tensor<2>, weight: &Weight, activations: Activations) -> Tensor<2> {
    let base = |x: Tensor<2>| {
        let x = x.into_dispatch();
        let y = <Dispatch as Dsv3Ops>::packed_linear(x, weight.packed(), activations);
        Tensor::<2>::from_dispatch(y)
    };
    if let Some(watcher) = weight.watcher() {
        watcher.add(&x);
    }
    let Some(adapter) = weight.adapter() else {
        return base(x);
    };
    let dtype = x.dtype();
    let change = adapter.apply(x.clone()); // [T, out]
    (base(x).cast(DType::F32) + change).cast(dtype)
}

/// Two weights that take the same input; see [`Dsv3Ops::packed_linear_pair`]. `x [T, in]` → each
/// `[T, out]`.
pub fn packed_linear_pair(
    x: Tensor<2>,
    [first, second]: [&Weight; 2],
    activations: Activations,
) -> [Tensor<2>; 2] {
    if first.is_plain_product() && second.is_plain_product() {
        let (x, [first, second]) = (x.into_dispatch(), [first, second].map(Weight::packed));
        let y = <Dispatch as Dsv3Ops>::packed_linear_pair(x, first, second, activations);
        return [y.first, y.second].map(Tensor::from_dispatch);
    }
    [first, second].map(|weight| packed_linear(x.clone(), weight, activations))
}

/// The routed experts, with their adapters; see [`Dsv3Ops::packed_experts`].
/// `x [T, hidden]`, `ids`, `weights` `[T, k]` → `[T, hidden]`.
pub fn packed_experts(
    x: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    experts: &[ExpertWeights],
    activations: Activations,
) -> Tensor<2> {
    let (ids, experts) = chosen(&x, ids, experts);
    routed(x, ids, weights, &experts, activations)
}

/// The routed experts and the one that every token meets, with their adapters; see
/// [`Dsv3Ops::packed_moe`]. `x [T, hidden]`, `ids`, `weights` `[T, k]` → `[T, hidden]`.
pub fn packed_moe(
    x: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    experts: &[ExpertWeights],
    shared: &ExpertWeights,
    activations: Activations,
) -> Tensor<2> {
    let (ids, experts) = chosen(&x, ids, experts);
    if !shared.is_plain_product() || !experts.iter().all(|e| e.is_plain_product()) {
        let routed = routed(x.clone(), ids, weights, &experts, activations); // [T, hidden]
        let [gate, up] = packed_linear_pair(x, [&shared.gate, &shared.up], activations);
        return routed + packed_linear(swiglu(gate, up), &shared.down, activations);
    }
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::packed_moe(
        x.into_dispatch(),
        ids.into_dispatch(),
        weights.into_dispatch(),
        Experts(experts.iter().map(|e| e.packed()).collect()),
        shared.packed(),
        activations,
    ))
}

/// The experts that some token chose, in the order of their ids, and `ids [T, k]` counted among
/// them: a handle of a layer's few hundred experts for each token is work that grows with what
/// is not used. All of them where ids would have to be fetched from a device, or where those
/// that were not chosen get gradients of zero.
fn chosen<'a>(
    x: &Tensor<2>,
    ids: Tensor<2, Int>,
    experts: &'a [ExpertWeights],
) -> (Tensor<2, Int>, Vec<&'a ExpertWeights>) {
    let device = ids.device();
    let all = |ids| (ids, experts.iter().collect());
    if !is_cpu(&device) || x.is_autodiff() {
        return all(ids);
    }
    let (shape, data) = (ids.dims(), ids.to_data());
    let of_tokens: Vec<usize> = data.iter::<i64>().map(|id| id as usize).collect();
    let some: BTreeSet<usize> = of_tokens.iter().copied().collect();
    // Ids that no expert has stay such.
    let some: Vec<usize> = some.into_iter().filter(|id| *id < experts.len()).collect();
    let rank = |id| some.binary_search(id).unwrap_or(some.len()) as i32;
    let ranks: Vec<i32> = of_tokens.iter().map(rank).collect();
    let ids = Tensor::from_data(TensorData::new(ranks, shape), (&device, DType::I32));
    (ids, some.iter().map(|id| &experts[*id]).collect())
}

/// The routed experts alone.
fn routed(
    x: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    experts: &[&ExpertWeights],
    activations: Activations,
) -> Tensor<2> {
    if !experts.iter().all(|expert| expert.is_plain_product()) {
        return experts_apart(x, ids, weights, experts, activations);
    }
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::packed_experts(
        x.into_dispatch(),
        ids.into_dispatch(),
        weights.into_dispatch(),
        Experts(experts.iter().map(|e| e.packed()).collect()),
        activations,
    ))
}

/// One expert at a time, its linear layers as any others: slower than a backend's kernel.
fn experts_apart(
    x: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    experts: &[&ExpertWeights],
    activations: Activations,
) -> Tensor<2> {
    let dtype = x.dtype();
    Tensor::from_dispatch(oracle::grouped_experts::<Dispatch>(
        x.into_dispatch(),
        ids.into_dispatch(),
        weights.into_dispatch(),
        &|id, x| {
            let expert = experts.get(id)?;
            let x = Tensor::<2>::from_dispatch(x); // [n, hidden]
            let both = [&expert.gate, &expert.up];
            let [gate, up] = packed_linear_pair(x, both, activations); // [n, inter]
            // In f32, as the CPU's kernel has it: factors of zero then change no bit.
            let inner = swiglu(gate.cast(DType::F32), up.cast(DType::F32)).cast(dtype);
            let y = packed_linear(inner, &expert.down, activations); // [n, hidden]
            Some(y.into_dispatch())
        },
    ))
}

/// The router's choice; see [`Dsv3Ops::route`].
/// `logits [T, experts]`, `bias [experts]` → ids and weights `[T, k]`.
pub fn route(logits: Tensor<2>, bias: Tensor<1>, spec: RouteSpec) -> (Tensor<2, Int>, Tensor<2>) {
    let routed = <Dispatch as Dsv3Ops>::route(logits.into_dispatch(), bias.into_dispatch(), spec);
    (
        Tensor::from_dispatch(routed.ids),
        Tensor::from_dispatch(routed.weights),
    )
}

/// RMSNorm; see [`Dsv3Ops::rms_norm`]. `x [T, n]`, `weight [n]` → `[T, n]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::rms_norm(
        x.into_dispatch(),
        weight.into_dispatch(),
        eps,
    ))
}

/// Rotary embedding; see [`Dsv3Ops::rope`].
/// `x [T, heads, n ≥ rope]`, `cos`, `sin` `[T, rope / 2]` → `[T, heads, n]`.
pub fn rope(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::rope(
        x.into_dispatch(),
        cos.into_dispatch(),
        sin.into_dispatch(),
    ))
}

/// The gated activation; see [`Dsv3Ops::swiglu`]. `gate`, `up` `[T, n]` → `[T, n]`.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::swiglu(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// Cross-entropy of each row; see [`Dsv3Ops::cross_entropy`]. `logits [R, vocab]` → `[R]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Vec<u32>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::cross_entropy(
        logits.into_dispatch(),
        targets,
    ))
}

/// Write latent rows; see [`Dsv3Ops::append_latent`]. Hand the cache over by value: it is then
/// written in place. `rows [T, latent + rope]` → the cache.
pub fn append_latent(
    cache: impl Into<LatentBlocks>,
    rows: Tensor<2>,
    slots: Vec<u32>,
) -> LatentBlocks {
    let rows = rows.into_dispatch();
    LatentBlocks::new(match cache.into().into_latents() {
        Latents::Floats { rows: cache } => Latents::Floats {
            rows: <Dispatch as Dsv3Ops>::append_latent(cache, rows, slots),
        },
        Latents::Fp8 { blocks } => Latents::Fp8 {
            blocks: <Dispatch as Dsv3Ops>::append_fp8_latent(blocks, rows, slots),
        },
    })
}

/// Latent attention; see [`Dsv3Ops::mla_attention`]. With an adapter on `kv_b` it runs in stock
/// Burn, which is slower. `query [T, heads, nope + rope]` → `[T, heads · value]`.
pub fn mla_attention(
    query: Tensor<3>,
    cache: impl Into<LatentBlocks>,
    kv_b: &Weight,
    spec: MlaSpec,
    spans: Spans,
) -> Tensor<2> {
    let (query, cache) = (query.into_dispatch(), cache.into().into_latents());
    Tensor::from_dispatch(match kv_b.adapter() {
        None => <Dispatch as Dsv3Ops>::mla_attention(query, cache, kv_b.packed(), spec, spans),
        Some(adapter) => {
            let factors = oracle::Factors {
                a: adapter.a.clone().into_dispatch(),
                b: adapter.b.clone().into_dispatch(),
                scale: adapter.scale,
            };
            let kv_b = kv_b.packed();
            oracle::adapted_mla_attention::<Dispatch>(
                query,
                &cache,
                &kv_b,
                Some(factors),
                spec,
                &spans,
            )
        }
    })
}

/// Activations through e4m3 and back; see [`Dsv3Ops::quantize_activations`]. `x [T, n]`.
pub fn quantize_activations(x: Tensor<2>, ue8m0: bool) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Dsv3Ops>::quantize_activations(
        x.into_dispatch(),
        ue8m0,
    ))
}
