//! Cross-entropy of each row and its gradient.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::super::wide::{exp, wide};
use super::super::{dim, floats};
use super::f32_tensor;

/// The row's maximum and the sum of `e^(x − maximum)`.
#[inline(always)]
fn normalizer(row: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            tops[i] = if chunk[i] > tops[i] {
                chunk[i]
            } else {
                tops[i]
            };
        }
    }
    let max = tops
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            sums[i] += exp(chunk[i] - max);
        }
    }
    let sum = sums.iter().sum::<f32>() + rest.iter().map(|x| exp(x - max)).sum::<f32>();
    (max, sum)
}

/// `logits [R, vocab]`, a target a row → `−log softmax(logits)[target]`, `[R]`.
pub(in super::super) fn forward(logits: FloatTensor<Flex>, targets: &[u32]) -> FloatTensor<Flex> {
    let logits = logits.to_contiguous();
    let (rows, vocab) = (dim(&logits, 0), dim(&logits, 1));
    let values = floats(&logits);
    let losses = values
        .par_chunks(vocab.max(1))
        .zip(targets)
        .map(|(row, target)| {
            let (max, sum) = wide(
                #[inline(always)]
                || normalizer(row),
            );
            sum.ln() + max - row.get(*target as usize).copied().unwrap_or(f32::NAN)
        })
        .collect();
    f32_tensor(losses, &[rows])
}

/// `(softmax(logits) − [target]) · g`
pub(super) fn gradient(
    logits: FloatTensor<Flex>,
    targets: &[u32],
    grad: FloatTensor<Flex>,
) -> FloatTensor<Flex> {
    let (logits, grad) = (logits.to_contiguous(), grad.to_contiguous());
    let (rows, vocab) = (dim(&logits, 0), dim(&logits, 1));
    let gs = floats(&grad);
    let mut values = floats(&logits).into_owned();
    values
        .par_chunks_mut(vocab.max(1))
        .zip(targets.par_iter().zip(gs.par_iter()))
        .for_each(|(row, (target, g))| {
            wide(
                #[inline(always)]
                || {
                    let (max, sum) = normalizer(row);
                    let factor = g / sum;
                    row.iter_mut().for_each(|x| *x = exp(*x - max) * factor);
                },
            );
            if let Some(x) = row.get_mut(*target as usize) {
                *x -= g;
            }
        });
    f32_tensor(values, &[rows, vocab])
}
