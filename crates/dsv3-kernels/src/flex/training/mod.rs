//! The CPU's training kernels, f32.
//!
//! Work is cut into pieces that don't depend on the number of threads, and partial sums are added
//! in order, so that the same batch gives the same gradients.

mod attention;
mod experts;
mod loss;
mod norm;
mod route;
mod swiglu;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{dim, floats, rows::Rows, tensor};
use crate::packed::Packed;
use crate::training::{Dsv3Training, TrainingKernels};
use burn::tensor::DType;

pub(super) use loss::forward as cross_entropy_forward;

/// Rows of one piece of work in row-wise operations.
const ROWS: usize = 128;

impl Dsv3Training for Flex {
    fn kernels() -> Option<TrainingKernels<Self>> {
        Some(TrainingKernels {
            dequantize,
            rms_norm: norm::gradient,
            swiglu: swiglu::gradient,
            route: route::gradient,
            cross_entropy: loss::gradient,
            latent_rows,
            experts: experts::forward,
            experts_gradient: experts::gradient,
            attention: attention::forward,
            attention_gradient: attention::gradient,
        })
    }
}

/// `values` as an f32 tensor.
fn f32_tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    tensor(values, shape, DType::F32)
}

/// A weight's values `[out, in]`.
fn decoded(rows: &Rows) -> Vec<f32> {
    let (out, input) = (rows.out(), rows.input());
    let mut values = vec![0f32; out * input];
    values
        .par_chunks_mut((input * ROWS).max(1))
        .enumerate()
        .for_each(|(chunk, values)| {
            for (i, to) in values.chunks_exact_mut(input).enumerate() {
                rows.decode(chunk * ROWS + i, to);
            }
        });
    values
}

fn dequantize(weight: &Packed<Flex>) -> FloatTensor<Flex> {
    if let Packed::Plain { weight } = weight
        && weight.dtype() == DType::F32
    {
        return weight.clone();
    }
    f32_tensor(decoded(&Rows::new(weight)), &weight.shape())
}

fn latent_rows(grad: FloatTensor<Flex>, slots: &[u32]) -> FloatTensor<Flex> {
    let grad = grad.to_contiguous(); // [blocks, block_size, width]
    let width = dim(&grad, 2);
    let values = floats(&grad);
    let mut rows = Vec::with_capacity(slots.len() * width);
    for slot in slots {
        rows.extend_from_slice(&values[*slot as usize * width..][..width]);
    }
    f32_tensor(rows, &[slots.len(), width])
}
