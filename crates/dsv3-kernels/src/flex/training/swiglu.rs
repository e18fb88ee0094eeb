//! The gradient of `silu(gate) · up`.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::super::wide::{sigmoid, wide};
use super::super::{dim, floats};
use super::f32_tensor;

/// Elements of one piece of work.
const PIECE: usize = 1 << 15;

/// Gradients of gate and up, in place of `dy` and into `dgate`.
#[inline(always)]
pub(super) fn rows_gradient(gate: &[f32], up: &[f32], dy: &mut [f32], dgate: &mut [f32]) {
    for (((dy, dgate), g), u) in dy.iter_mut().zip(dgate).zip(gate).zip(up) {
        let s = sigmoid(*g);
        let silu = g * s;
        *dgate = *dy * u * (s + silu * (1.0 - s));
        *dy *= silu;
    }
}

pub(super) fn gradient(
    gate: FloatTensor<Flex>,
    up: FloatTensor<Flex>,
    grad: FloatTensor<Flex>,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let (gate, up, grad) = (
        gate.to_contiguous(),
        up.to_contiguous(),
        grad.to_contiguous(),
    );
    let shape = [dim(&gate, 0), dim(&gate, 1)];
    let (gate, up) = (floats(&gate), floats(&up));
    let mut dup = floats(&grad).into_owned();
    let mut dgate = vec![0f32; gate.len()];
    dup.par_chunks_mut(PIECE)
        .zip(dgate.par_chunks_mut(PIECE))
        .zip(gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)))
        .for_each(|((dup, dgate), (gate, up))| {
            wide(
                #[inline(always)]
                || rows_gradient(gate, up, dup, dgate),
            )
        });
    (f32_tensor(dgate, &shape), f32_tensor(dup, &shape))
}
