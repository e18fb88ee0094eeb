//! The CPU: operations over f32 slices, weights read where they lie.
//!
//! Every output element is computed by the same sequence of roundings however many rows the call
//! has and however many threads share it, so a token's numbers don't depend on its neighbours.

mod activations;
mod attend;
mod attention;
mod blocks;
mod codes;
mod combine;
mod decode;
mod dense;
mod dots;
mod experts;
mod formats;
mod gemm;
mod group;
mod integer_dots;
mod integer_rows;
mod integers;
mod lanes;
mod latents;
mod linear;
mod norm;
mod pairs;
mod product;
mod rounding;
mod route;
mod rows;
mod sweep;
mod swiglu;
mod team;
mod training;
mod vector;
mod wide;

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use half::f16;
use std::borrow::Cow;

use crate::latent::{Fp8Latents, Latents};
use crate::ops::Dsv3Ops;
use crate::oracle;
use crate::packed::{Activations, Expert, Experts, Packed, Pair, Routed};
use crate::spec::{MlaSpec, RouteSpec, Spans};
use lanes::InstructionSet;
use rows::Rows;

pub use dense::{DenseProduct, Elements};

/// A contiguous float tensor's values as f32: borrowed where they are f32 already.
fn floats(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.dtype() {
        DType::F32 => Cow::Borrowed(tensor.storage::<f32>()),
        DType::BF16 => rounding::from_bf16(tensor.storage()).into(),
        DType::F16 => tensor.storage::<f16>().iter().map(|v| v.to_f32()).collect(),
        _ => tensor.storage::<f64>().iter().map(|v| *v as f32).collect(),
    }
}

/// f32 values as a tensor of `dtype`, rounded to nearest even.
fn tensor(values: Vec<f32>, shape: &[usize], dtype: DType) -> FlexTensor {
    let bytes = match dtype {
        DType::BF16 => Bytes::from_elems(rounding::to_bf16(&values)),
        DType::F16 => Bytes::from_elems(values.into_iter().map(f16::from_f32).collect()),
        DType::F64 => Bytes::from_elems(values.into_iter().map(f64::from).collect::<Vec<_>>()),
        _ => Bytes::from_elems(values),
    };
    let dtype = match dtype {
        DType::BF16 | DType::F16 | DType::F64 => dtype,
        _ => DType::F32,
    };
    FlexTensor::new(
        bytes,
        Layout::contiguous(Shape::from(shape.to_vec())),
        dtype,
    )
}

/// Round in place to what a tensor of `dtype` can hold.
fn round_to(values: &mut [f32], dtype: DType) {
    match dtype {
        DType::BF16 => rounding::round_to_bf16(values),
        DType::F16 => values
            .iter_mut()
            .for_each(|v| *v = f16::from_f32(*v).to_f32()),
        _ => {}
    }
}

/// Any integer tensor's values.
fn integers(tensor: &FlexTensor) -> Vec<usize> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor
            .storage::<i32>()
            .iter()
            .map(|v| *v as usize)
            .collect(),
        DType::U32 => tensor
            .storage::<u32>()
            .iter()
            .map(|v| *v as usize)
            .collect(),
        DType::U8 => tensor.storage::<u8>().iter().map(|v| *v as usize).collect(),
        _ => tensor
            .storage::<i64>()
            .iter()
            .map(|v| *v as usize)
            .collect(),
    }
}

fn dim(tensor: &FlexTensor, d: usize) -> usize {
    tensor.layout().shape()[d]
}

/// The routed experts and a shared one: `x [T, hidden]`, `ids`, `weights` `[T, k]` → `[T, hidden]`.
fn run_experts(
    x: FlexTensor,
    ids: FlexTensor,
    weights: FlexTensor,
    experts: &Experts<Flex>,
    shared: Option<&Expert<Flex>>,
    activations: Activations,
) -> FlexTensor {
    let x = x.to_contiguous(); // [T, hidden]
    let (dtype, hidden) = (x.dtype(), dim(&x, 1));
    let (tokens, k) = (dim(&ids, 0), dim(&ids, 1));
    let ids = integers(&ids); // [T, k]
    let weights = weights.to_contiguous();
    let weights = floats(&weights); // [T, k]
    let call = experts::Call {
        x: &floats(&x),
        ids: &ids,
        weights: &weights,
        hidden,
        k,
        activations,
        dtype,
    };
    tensor(call.run(experts, shared), &[tokens, hidden], dtype)
}

impl Dsv3Ops for Flex {
    fn packed_linear(
        x: FloatTensor<Self>,
        weight: Packed<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        let x = x.to_contiguous(); // [T, in]
        let (tokens, dtype) = (dim(&x, 0), x.dtype());
        let rows = Rows::new(&weight);
        let out = rows.out();
        let y = linear::linear(&floats(&x), &rows, tokens, activations); // [T, out]
        tensor(y, &[tokens, out], dtype)
    }

    fn packed_linear_pair(
        x: FloatTensor<Self>,
        first: Packed<Self>,
        second: Packed<Self>,
        activations: Activations,
    ) -> Pair<Self> {
        let x = x.to_contiguous(); // [T, in]
        let (tokens, dtype) = (dim(&x, 0), x.dtype());
        let weights = [&first, &second].map(Rows::new);
        let set = InstructionSet::best();
        let y = linear::linears(set, &floats(&x), weights.each_ref(), tokens, activations);
        let [a, b] = y; // [T, out]
        Pair {
            first: tensor(a, &[tokens, weights[0].out()], dtype),
            second: tensor(b, &[tokens, weights[1].out()], dtype),
        }
    }

    fn packed_experts(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        weights: FloatTensor<Self>,
        experts: Experts<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        run_experts(x, ids, weights, &experts, None, activations)
    }

    fn packed_moe(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        weights: FloatTensor<Self>,
        experts: Experts<Self>,
        shared: Expert<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        run_experts(x, ids, weights, &experts, Some(&shared), activations)
    }

    fn route(logits: FloatTensor<Self>, bias: FloatTensor<Self>, spec: RouteSpec) -> Routed<Self> {
        let (logits, bias) = (logits.to_contiguous(), bias.to_contiguous());
        let (tokens, k) = (dim(&logits, 0), spec.top_k);
        let (ids, weights) = route::route(&floats(&logits), &floats(&bias), &spec);
        Routed {
            ids: FlexTensor::new(
                Bytes::from_elems(ids),
                Layout::contiguous(Shape::from(vec![tokens, k])),
                DType::I32,
            ),
            weights: tensor(weights, &[tokens, k], DType::F32),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let (tokens, n, dtype) = (dim(&x, 0), dim(&x, 1), x.dtype());
        let y = norm::rms_norm(&floats(&x), &floats(&weight), eps);
        tensor(y, &[tokens, n], dtype)
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, cos, sin) = (x.to_contiguous(), cos.to_contiguous(), sin.to_contiguous());
        let (shape, dtype) = ([dim(&x, 0), dim(&x, 1), dim(&x, 2)], x.dtype());
        let half = dim(&cos, 1);
        let y = norm::rope(
            floats(&x).into_owned(),
            &floats(&cos),
            &floats(&sin),
            shape,
            half,
        );
        tensor(y, &shape, dtype)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        match gate.dtype() {
            DType::F32 | DType::BF16 | DType::F16 => swiglu::swiglu(gate, up),
            _ => oracle::swiglu::<Self>(gate, up),
        }
    }

    fn cross_entropy(logits: FloatTensor<Self>, targets: Vec<u32>) -> FloatTensor<Self> {
        training::cross_entropy_forward(logits, &targets)
    }

    fn append_latent(
        cache: FloatTensor<Self>,
        rows: FloatTensor<Self>,
        slots: Vec<u32>,
    ) -> FloatTensor<Self> {
        let rows = rows.to_contiguous(); // [T, latent + rope]
        latents::append(cache, &floats(&rows), &slots)
    }

    fn append_fp8_latent(
        cache: Fp8Latents<Self>,
        rows: FloatTensor<Self>,
        slots: Vec<u32>,
    ) -> Fp8Latents<Self> {
        let rows = rows.to_contiguous(); // [T, latent + rope]
        latents::append_fp8(cache, &floats(&rows), &slots)
    }

    fn mla_attention(
        query: FloatTensor<Self>,
        cache: Latents<Self>,
        kv_b: Packed<Self>,
        spec: MlaSpec,
        spans: Spans,
    ) -> FloatTensor<Self> {
        let query = query.to_contiguous();
        let cache = latents::contiguous(cache);
        let (tokens, dtype) = (dim(&query, 0), query.dtype());
        let rows = Rows::new(&kv_b);
        let call = attention::Call {
            query: &floats(&query),
            block_size: cache.block_size(),
            cache: latents::Stored::new(&cache, spec.latent, spec.rope),
            kv_b: &rows,
            spec,
        };
        let out = call.run(&spans, tokens); // [T, heads · value]
        tensor(out, &[tokens, spec.heads * spec.value], dtype)
    }

    fn quantize_activations(x: FloatTensor<Self>, ue8m0: bool) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let (tokens, n, dtype) = (dim(&x, 0), dim(&x, 1), x.dtype());
        let mut values = floats(&x).into_owned();
        activations::quantize(&mut values, n, ue8m0);
        tensor(values, &[tokens, n], dtype)
    }
}
