//! `x · Wᵀ` over the dequantised weight.

use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use super::{dequantize, rounded};
use crate::ops::Dsv3Ops;
use crate::packed::{Activations, Packed};
use crate::stock::Float;

/// `x [T, in]`, `w [out, in]` → `[T, out]`.
pub(crate) fn packed_linear<B: Dsv3Ops>(
    x: FloatTensor<B>,
    weight: &Packed<B>,
    activations: Activations,
) -> FloatTensor<B> {
    let dtype = Float::<B>(x.clone()).dtype();
    Float::<B>(rounded::<B>(x, weight, activations))
        .cast(FloatDType::F32)
        .matmul(dequantize(weight).swap(0, 1)) // [T, out]
        .cast(dtype)
        .0
}
