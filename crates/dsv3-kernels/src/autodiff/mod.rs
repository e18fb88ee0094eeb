//! Training through the operations.
//!
//! Where the backend has kernels of its own for it ([`Dsv3Training`]), each operation is one node
//! of the graph with one gradient kernel. Elsewhere, and in other formats than f32, the stock
//! bodies differentiate through Burn's own operations. A packed weight has no gradient (its bytes
//! are integers); what flows through it has.

mod attention;
mod elementwise;
mod experts;
mod linear;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::DType;

use crate::latent::Latents;
use crate::ops::Dsv3Ops;
use crate::oracle;
use crate::packed::{Activations, Experts, Packed, Routed};
use crate::spec::{MlaSpec, RouteSpec, Spans};
use crate::training::Dsv3Training;

/// A weight without its graph, and the tensor that has one, if it is plain.
fn inner<B: Backend, C: CheckpointStrategy>(weight: Packed<Autodiff<B, C>>) -> Packed<B> {
    match weight {
        Packed::Plain { weight } => Packed::Plain {
            weight: weight.into_primitive(),
        },
        Packed::Half {
            data,
            format,
            shape,
        } => Packed::Half {
            data,
            format,
            shape,
        },
        Packed::Fp8Block {
            data,
            scale,
            block,
            shape,
        } => Packed::Fp8Block {
            data,
            scale: scale.into_primitive(),
            block,
            shape,
        },
        Packed::Group {
            data,
            format,
            shape,
        } => Packed::Group {
            data,
            format,
            shape,
        },
    }
}

/// Whether a float tensor is what the training kernels take.
fn is_f32<T: TensorMetadata>(tensor: &T) -> bool {
    tensor.dtype() == DType::F32
}

impl<B: Backend + Dsv3Training, C: CheckpointStrategy> Dsv3Ops for Autodiff<B, C> {
    fn packed_linear(
        x: FloatTensor<Self>,
        weight: Packed<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        match B::kernels() {
            Some(kernels) if is_f32(&x) && activations == Activations::Full => {
                linear::packed_linear::<B, C>(x, weight, kernels)
            }
            _ => oracle::packed_linear::<Self>(x, &weight, activations),
        }
    }

    fn packed_experts(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        weights: FloatTensor<Self>,
        experts: Experts<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        match B::kernels() {
            Some(kernels) if is_f32(&x) && activations == Activations::Full => {
                experts::packed_experts::<B, C>(x, ids, weights, experts, kernels)
            }
            _ => oracle::packed_experts::<Self>(
                x,
                ids,
                weights,
                &experts,
                activations,
                &|x, w, a| oracle::packed_linear::<Self>(x, w, a),
            ),
        }
    }

    fn route(logits: FloatTensor<Self>, bias: FloatTensor<Self>, spec: RouteSpec) -> Routed<Self> {
        match B::kernels() {
            Some(_) if is_f32(&logits) => elementwise::route::<B, C>(logits, bias, spec),
            _ => oracle::route::<Self>(logits, bias, spec),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        match B::kernels() {
            Some(_) if is_f32(&x) && is_f32(&weight) => {
                elementwise::rms_norm::<B, C>(x, weight, eps)
            }
            _ => oracle::rms_norm::<Self>(x, weight, eps),
        }
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        match B::kernels() {
            Some(_) if is_f32(&x) => elementwise::rope::<B, C>(x, cos, sin),
            _ => oracle::rope::<Self>(x, cos, sin),
        }
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        match B::kernels() {
            Some(_) if is_f32(&gate) => elementwise::swiglu::<B, C>(gate, up),
            _ => oracle::swiglu::<Self>(gate, up),
        }
    }

    fn cross_entropy(logits: FloatTensor<Self>, targets: Vec<u32>) -> FloatTensor<Self> {
        match B::kernels() {
            Some(_) if is_f32(&logits) => elementwise::cross_entropy::<B, C>(logits, targets),
            _ => oracle::cross_entropy::<Self>(logits, &targets),
        }
    }

    fn append_latent(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        slots: Vec<u32>,
    ) -> FloatTensor<Self> {
        match B::kernels() {
            // With a cache that has a gradient of its own the stock body knows what to keep.
            Some(_) if is_f32(&rows) && is_f32(&cache) && !cache.is_tracked() => {
                attention::append_latent::<B, C>(cache, rows, slots)
            }
            _ => oracle::append_latent::<Self>(cache, rows, &slots),
        }
    }

    fn mla_attention(
        query: FloatTensor<Self>,
        cache: Latents<Self>,
        kv_b: Packed<Self>,
        spec: MlaSpec,
        spans: Spans,
    ) -> FloatTensor<Self> {
        match (B::kernels(), cache) {
            (Some(kernels), Latents::Floats { rows }) if is_f32(&query) && is_f32(&rows) => {
                attention::mla_attention::<B, C>(query, rows, kv_b, spec, spans, kernels)
            }
            (_, cache) => oracle::mla_attention::<Self>(query, &cache, &kv_b, spec, &spans),
        }
    }
}
