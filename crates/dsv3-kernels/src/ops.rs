//! The contract between the graph and every backend.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use crate::latent::{Fp8Latents, Latents};
use crate::oracle;
use crate::packed::{Activations, Expert, Experts, Packed, Pair, Routed};
use crate::spec::{MlaSpec, RouteSpec, Spans};

/// The operations of DeepSeek-V3 that Burn lacks.
///
/// Every default body is written in stock Burn operations: it runs on any backend, it
/// differentiates through Burn's autodiff, and it is the oracle against which a backend's own
/// kernel is tested. Activations are f32 or bf16 and keep their dtype; what must be exact
/// (statistics, softmax, routing) is computed in f32.
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait Dsv3Ops: Backend {
    /// `lhs · rhs` in no less than the precision of both, whatever a device is quicker at;
    /// `[…, m, k]`, `[…, k, n]` → `[…, m, n]`.
    fn exact_matmul(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(lhs, rhs)
    }

    /// `y = x · dequant(w)ᵀ`; `x [T, in]`, `w [out, in]` → `[T, out]`.
    fn packed_linear(
        x: FloatTensor<Self>,
        #[extension_type] weight: Packed<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        oracle::packed_linear::<Self>(x, &weight, activations)
    }

    /// [`packed_linear`](Self::packed_linear) of two weights that take the same input;
    /// `x [T, in]` → each `[T, out]`.
    fn packed_linear_pair(
        x: FloatTensor<Self>,
        #[extension_type] first: Packed<Self>,
        #[extension_type] second: Packed<Self>,
        activations: Activations,
    ) -> Pair<Self> {
        Pair {
            first: Self::packed_linear(x.clone(), first, activations),
            second: Self::packed_linear(x, second, activations),
        }
    }

    /// `y_t = Σ_j weights[t, j] · down(silu(gate(x_t)) · up(x_t))` over the experts `ids[t, j]`;
    /// `x [T, hidden]`, `ids [T, k]`, `weights [T, k]` f32 → `[T, hidden]`.
    ///
    /// An expert that no token chose is neither computed nor read.
    fn packed_experts(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        weights: FloatTensor<Self>,
        #[extension_type] experts: Experts<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        oracle::packed_experts::<Self>(x, ids, weights, &experts, activations, &|x, w, a| {
            oracle::packed_linear::<Self>(x, w, a)
        })
    }

    /// [`packed_experts`](Self::packed_experts), and added to it what `shared`, which every token
    /// meets, makes of `x`: `down(swiglu(gate(x), up(x)))`, each step in the dtype of `x`.
    fn packed_moe(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        weights: FloatTensor<Self>,
        #[extension_type] experts: Experts<Self>,
        #[extension_type] shared: Expert<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        let routed = Self::packed_experts(x.clone(), ids, weights, experts, activations);
        let Expert { gate, up, down } = shared;
        let inner = Self::packed_linear_pair(x, gate, up, activations); // [T, inter]
        let inner = Self::swiglu(inner.first, inner.second);
        Self::float_add(routed, Self::packed_linear(inner, down, activations))
    }

    /// Router logits `[T, experts]` f32 and correction bias `[experts]` f32 to the experts chosen
    /// and their weights. Ties go to the lower expert id; masked groups count as −∞.
    fn route(logits: FloatTensor<Self>, bias: FloatTensor<Self>, spec: RouteSpec) -> Routed<Self> {
        oracle::route::<Self>(logits, bias, spec)
    }

    /// `x / sqrt(mean(x²) + eps) · weight` over the last dimension, in f32, rounded once;
    /// `x [T, n]`, `weight [n]` → `[T, n]`.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        oracle::rms_norm::<Self>(x, weight, eps)
    }

    /// Rotate the interleaved pairs `(x[2i], x[2i+1])` of the last `rope` values of each head, the
    /// others left as they are;
    /// `x [T, heads, n ≥ rope]`, `cos`, `sin` `[T, rope / 2]` f32 → `[T, heads, n]`.
    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        oracle::rope::<Self>(x, cos, sin)
    }

    /// `silu(gate) · up`; both `[T, n]` → `[T, n]`.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        oracle::swiglu::<Self>(gate, up)
    }

    /// `−log softmax(logits)[target]` of each row, in f32;
    /// `logits [R, vocab]`, one target a row → `[R]`.
    fn cross_entropy(logits: FloatTensor<Self>, targets: Vec<u32>) -> FloatTensor<Self> {
        oracle::cross_entropy::<Self>(logits, &targets)
    }

    /// Write `rows [T, latent + rope]` into the cache `[blocks, block_size, latent + rope]` at
    /// `slots` (block id × block size + offset), one for each row. In place where the cache is
    /// not shared.
    fn append_latent(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        slots: Vec<u32>,
    ) -> FloatTensor<Self> {
        oracle::append_latent::<Self>(cache, rows, &slots)
    }

    /// As [`append_latent`](Self::append_latent), rounded to e4m3 in groups of 128 columns.
    fn append_fp8_latent(
        #[extension_type] cache: Fp8Latents<Self>,
        rows: FloatTensor<Self>,
        slots: Vec<u32>,
    ) -> Fp8Latents<Self> {
        oracle::append_fp8_latent::<Self>(cache, rows, &slots)
    }

    /// Causal attention of queries against the paged latent;
    /// `query [T, heads, nope + rope]`, `cache [blocks, block_size]` tokens,
    /// `kv_b [heads · (nope + value), latent]` → `[T, heads · value]`.
    fn mla_attention(
        query: FloatTensor<Self>,
        #[extension_type] cache: Latents<Self>,
        #[extension_type] kv_b: Packed<Self>,
        spec: MlaSpec,
        spans: Spans,
    ) -> FloatTensor<Self> {
        oracle::mla_attention::<Self>(query, &cache, &kv_b, spec, &spans)
    }

    /// Round `x [T, n]` to e4m3 in groups of 128 along `n` and back (the activation half of W8A8).
    fn quantize_activations(x: FloatTensor<Self>, ue8m0: bool) -> FloatTensor<Self> {
        oracle::quantize_activations::<Self>(x, ue8m0)
    }
}
