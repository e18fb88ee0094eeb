//! `silu(gate) · up`.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;

use super::wide::{sigmoid, wide};
use super::{dim, floats, round_to, team, tensor};

/// `y = silu(gate) · up`, element by element, to be inlined into [`wide`].
#[inline(always)]
pub(super) fn rows(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
        *y = g * sigmoid(*g) * u;
    }
}

/// `y = sigmoid(gate)`.
#[inline(always)]
fn rows_sigmoid(gate: &[f32], y: &mut [f32]) {
    for (y, g) in y.iter_mut().zip(gate) {
        *y = sigmoid(*g);
    }
}

/// `y = y · factors`.
#[inline(always)]
fn rows_times(factors: &[f32], y: &mut [f32]) {
    for (y, factor) in y.iter_mut().zip(factors) {
        *y *= factor;
    }
}

/// `y = silu(gate) · up`, each step but the last rounded to `dtype`, as the stock operations do it.
pub(super) fn stepwise(gate: &[f32], up: &[f32], y: &mut [f32], dtype: DType) {
    wide(
        #[inline(always)]
        || rows_sigmoid(gate, y),
    );
    for factors in [gate, up] {
        round_to(y, dtype);
        wide(
            #[inline(always)]
            || rows_times(factors, y),
        );
    }
}

/// `gate`, `up` `[T, n]` → `[T, n]`.
pub(super) fn swiglu(gate: FloatTensor<Flex>, up: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
    let (shape, dtype) = ([dim(&gate, 0), dim(&gate, 1)], gate.dtype());
    let (gate, up) = (floats(&gate), floats(&up));
    let mut y = vec![0f32; gate.len()];
    team::for_rows(&mut y, 1, |first, y| {
        let [gate, up] = [&gate, &up].map(|values| &values[first..][..y.len()]);
        stepwise(gate, up, y, dtype);
    });
    tensor(y, &shape, dtype)
}
