//! The oracles, on any device: the same operations as the crate's root, always in stock Burn.
//!
//! Slow on purpose. A kernel is right when it agrees with these. An adapter's factors are merged
//! into their weight here.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use crate::latent::{LatentBlocks, Latents};
use crate::oracle;
use crate::packed::{Activations, Expert, Experts, Packed};
use crate::spec::{MlaSpec, RouteSpec, SequenceSpan};
use crate::weight::{ExpertWeights, Weight};

/// The weight as floats `[out, in]`, an adapter's `scale · B · A` added.
pub fn dequantize(weight: &Weight) -> Tensor<2> {
    let base = Tensor::from_dispatch(oracle::dequantize(&weight.packed()).0);
    match weight.adapter() {
        None => base,
        Some(adapter) => base + adapter.product(),
    }
}

/// As the operations take it: with an adapter, the merged weight.
fn merged(weight: &Weight) -> Packed<Dispatch> {
    match weight.adapter() {
        None => weight.packed(),
        Some(_) => Packed::Plain {
            weight: dequantize(weight).into_dispatch(),
        },
    }
}

/// See [`packed_linear`](crate::packed_linear).
pub fn packed_linear(x: Tensor<2>, weight: &Weight, activations: Activations) -> Tensor<2> {
    Tensor::from_dispatch(oracle::packed_linear::<Dispatch>(
        x.into_dispatch(),
        &merged(weight),
        activations,
    ))
}

/// See [`packed_experts`](crate::packed_experts).
pub fn packed_experts(
    x: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    experts: &[ExpertWeights],
    activations: Activations,
) -> Tensor<2> {
    let experts = experts.iter().map(|expert| Expert {
        gate: merged(&expert.gate),
        up: merged(&expert.up),
        down: merged(&expert.down),
    });
    Tensor::from_dispatch(oracle::packed_experts::<Dispatch>(
        x.into_dispatch(),
        ids.into_dispatch(),
        weights.into_dispatch(),
        &Experts(experts.collect()),
        activations,
        &|x, w, a| oracle::packed_linear::<Dispatch>(x, w, a),
    ))
}

/// See [`packed_moe`](crate::packed_moe).
pub fn packed_moe(
    x: Tensor<2>,
    ids: Tensor<2, Int>,
    weights: Tensor<2>,
    experts: &[ExpertWeights],
    shared: &ExpertWeights,
    activations: Activations,
) -> Tensor<2> {
    let linear = |x, weight| packed_linear(x, weight, activations);
    let routed = packed_experts(x.clone(), ids, weights, experts, activations); // [T, hidden]
    let inner = swiglu(linear(x.clone(), &shared.gate), linear(x, &shared.up)); // [T, inter]
    routed + linear(inner, &shared.down)
}

/// See [`route`](crate::route).
pub fn route(logits: Tensor<2>, bias: Tensor<1>, spec: RouteSpec) -> (Tensor<2, Int>, Tensor<2>) {
    let routed = oracle::route::<Dispatch>(logits.into_dispatch(), bias.into_dispatch(), spec);
    (
        Tensor::from_dispatch(routed.ids),
        Tensor::from_dispatch(routed.weights),
    )
}

/// See [`rms_norm`](crate::rms_norm).
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    Tensor::from_dispatch(oracle::rms_norm::<Dispatch>(
        x.into_dispatch(),
        weight.into_dispatch(),
        eps,
    ))
}

/// See [`rope`](crate::rope).
pub fn rope(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    Tensor::from_dispatch(oracle::rope::<Dispatch>(
        x.into_dispatch(),
        cos.into_dispatch(),
        sin.into_dispatch(),
    ))
}

/// See [`swiglu`](crate::swiglu).
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(oracle::swiglu::<Dispatch>(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// See [`cross_entropy`](crate::cross_entropy).
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    Tensor::from_dispatch(oracle::cross_entropy::<Dispatch>(
        logits.into_dispatch(),
        targets,
    ))
}

/// See [`append_latent`](crate::append_latent).
pub fn append_latent(
    cache: impl Into<LatentBlocks>,
    rows: Tensor<2>,
    slots: &[u32],
) -> LatentBlocks {
    let rows = rows.into_dispatch();
    LatentBlocks::new(match cache.into().into_latents() {
        Latents::Floats { rows: cache } => Latents::Floats {
            rows: oracle::append_latent::<Dispatch>(cache, rows, slots),
        },
        Latents::Fp8 { blocks } => Latents::Fp8 {
            blocks: oracle::append_fp8_latent::<Dispatch>(blocks, rows, slots),
        },
    })
}

/// The tokens in `slots` as floats: `[slots, latent + rope]`.
pub fn latent_rows(cache: impl Into<LatentBlocks>, slots: &[u32]) -> Tensor<2> {
    let slots = slots.iter().map(|slot| *slot as usize);
    let rows = oracle::latent_rows::<Dispatch>(&cache.into().into_latents(), slots);
    Tensor::from_dispatch(rows.0)
}

/// See [`mla_attention`](crate::mla_attention).
pub fn mla_attention(
    query: Tensor<3>,
    cache: impl Into<LatentBlocks>,
    kv_b: &Weight,
    spec: MlaSpec,
    spans: &[SequenceSpan],
) -> Tensor<2> {
    Tensor::from_dispatch(oracle::mla_attention::<Dispatch>(
        query.into_dispatch(),
        &cache.into().into_latents(),
        &merged(kv_b),
        spec,
        spans,
    ))
}

/// See [`quantize_activations`](crate::quantize_activations).
pub fn quantize_activations(x: Tensor<2>, ue8m0: bool) -> Tensor<2> {
    Tensor::from_dispatch(oracle::quantize_activations::<Dispatch>(
        x.into_dispatch(),
        ue8m0,
    ))
}
