//! `x · Wᵀ` over the dequantised weight.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use super::{dequantize, quantize_activations};
use crate::packed::{Activations, Packed};
use crate::stock::Float;

/// `x [T, in]`, `w [out, in]` → `[T, out]`.
pub(crate) fn packed_linear<B: Backend>(
    x: FloatTensor<B>,
    weight: &Packed<B>,
    activations: Activations,
) -> FloatTensor<B> {
    let x = match activations {
        Activations::Fp8 { ue8m0 } if weight.is_fp8() => quantize_activations::<B>(x, ue8m0),
        _ => x,
    };
    let x = Float::<B>(x);
    let dtype = x.dtype();
    x.cast(FloatDType::F32)
        .matmul(dequantize(weight).swap(0, 1)) // [T, out]
        .cast(dtype)
        .0
}
