//! Activations rounded to 8 bits. e4m3 in comparisons and multiplications by two: exact, where
//! `log2` is not.

use crate::packed::{Activations, Packed};
use crate::spec::{ACTIVATION_AMAX_FLOOR, ACTIVATION_GROUP, E4M3_MAX, I8_MAX};
use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use crate::stock::{Float, Ints};

/// The power of two between `2^low` and `2^high` that `v` reaches: the largest not above `v`, or
/// with `ceil` the smallest not below it. `2^low · Π (1 + [v reaches the next])`.
fn power_of_two<B: Backend>(v: Float<B>, low: i32, high: i32, ceil: bool) -> Float<B> {
    let device = v.device();
    let one = Float::<B>::zeros(&v.shape(), &device, v.dtype()).add_scalar(1.0);
    let mut power = one.clone().scale(2f32.powi(low));
    for j in low..high {
        // Rounded up, 2^(j+1) is needed past 2^j; rounded down, from 2^(j+1) on.
        let edge = one.clone().scale(2f32.powi(if ceil { j } else { j + 1 }));
        // v > edge, or v ≥ edge as 1 − [edge > v]
        let reached = match ceil {
            true => v.clone().greater(edge),
            false => one.clone().sub(edge.greater(v.clone())),
        };
        power = power.mul(reached.add_scalar(1.0));
    }
    power
}

/// Round to the nearest e4m3 value, ties to even. `|v| ≤ 448`.
fn round_e4m3<B: Backend>(v: Float<B>) -> Float<B> {
    // Exponents −6 to 8; below 2^−5 the step is that of the smallest normal number and of the
    // subnormal ones, 2^−9.
    let reached = power_of_two(v.clone().abs(), -6, 8, false); // 2^(exponent), from 2^-6 up
    let step = reached.scale(0.125);
    v.div(step.clone()).round().mul(step)
}

/// The e4m3 code nearest to each value, ties to even. `|v| ≤ 448`, and not NaN.
pub(super) fn e4m3_codes<B: Backend>(v: Float<B>) -> Ints<B> {
    let device = v.device();
    let one = Float::<B>::zeros(&v.shape(), &device, v.dtype()).add_scalar(1.0);
    let magnitude = v.clone().abs();
    // How many of the powers of two from 2^-5 to 2^8 are reached: exponents above the smallest.
    let reached = (-5..=8).map(|j| {
        let edge = one.clone().scale(2f32.powi(j));
        one.clone().sub(edge.greater(magnitude.clone()))
    });
    let exponents = reached.reduce(Float::add).unwrap_or_else(|| one.clone());
    let step = power_of_two(magnitude.clone(), -6, 8, false).scale(0.125);
    // Eighths of the power of two: 8 to 16, or 0 to 7 where the number is subnormal. 16 carries.
    let eighths = magnitude.div(step).round();
    let negative = v.below(0.0).scale(128.0);
    exponents.scale(8.0).add(eighths).add(negative).into_ints()
}

/// `x [T, n]` as `activations` has it in front of `weight`.
pub(crate) fn rounded<B: Backend>(
    x: FloatTensor<B>,
    weight: &Packed<B>,
    activations: Activations,
) -> FloatTensor<B> {
    match (activations, weight) {
        (Activations::EightBits { ue8m0 }, Packed::Fp8Block { .. }) => {
            quantize_activations::<B>(x, ue8m0)
        }
        (Activations::EightBits { .. }, Packed::Group { format, .. }) => {
            whole_activations::<B>(x, format.columns)
        }
        _ => x,
    }
}

/// `x [T, n]` → the same in f32, as i8 with one scale per `columns` would hold it.
fn whole_activations<B: Backend>(x: FloatTensor<B>, columns: usize) -> FloatTensor<B> {
    /// Groups whose scale would be no number are zeros.
    const FLOOR: f32 = 1e-30;
    let x = Float::<B>(x);
    let n = x.dim(1);
    let x = x.cast(burn::tensor::FloatDType::F32); // [T, n]
    let groups = (0..n).step_by(columns).map(|start| {
        let v = x.clone().narrow(1, start, columns.min(n - start)); // [T, columns]
        let amax = v.clone().abs().max_dim(1).clamp_min(FLOOR); // [T, 1]
        let scale = amax.scale_down(I8_MAX); // [T, 1]
        v.div(scale.clone()).round().mul(scale) // [T, columns]
    });
    Float::<B>::cat(groups.collect(), 1).0
}

/// `x [T, n]` → the same, as e4m3 with one scale per 128 columns would hold it.
pub(crate) fn quantize_activations<B: Backend>(x: FloatTensor<B>, ue8m0: bool) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let (dtype, n) = (x.dtype(), x.dim(1));
    let x = x.cast(burn::tensor::FloatDType::F32); // [T, n]
    let groups = (0..n).step_by(ACTIVATION_GROUP).map(|start| {
        let len = ACTIVATION_GROUP.min(n - start);
        let v = x.clone().narrow(1, start, len); // [T, len]
        let amax = v.clone().abs().max_dim(1).clamp_min(ACTIVATION_AMAX_FLOOR); // [T, 1]
        let scale = amax.scale_down(E4M3_MAX); // [T, 1]
        let scale = match ue8m0 {
            true => power_of_two(scale, -22, 40, true),
            false => scale,
        };
        round_e4m3(v.div(scale.clone())).mul(scale) // [T, len]
    });
    Float::<B>::cat(groups.collect(), 1).cast(dtype).0
}
