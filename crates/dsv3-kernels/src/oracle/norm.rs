//! RMSNorm.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use crate::stock::Float;

/// `x [T, n]`, `weight [n]` → `[T, n]`.
pub(crate) fn rms_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f32,
) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let (dtype, n) = (x.dtype(), x.dim(1));
    let x = x.cast(FloatDType::F32);
    let mean = x.clone().mul(x.clone()).mean_dim(1); // [T, 1]
    let weight = Float::<B>(weight).cast(FloatDType::F32).reshape(&[1, n]);
    x.div(mean.add_scalar(eps).sqrt())
        .mul(weight) // [T, n]
        .cast(dtype)
        .0
}
