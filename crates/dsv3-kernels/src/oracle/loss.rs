//! Cross-entropy of each row.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use crate::stock::{Float, Ints};

/// `logits [R, vocab]`, a target a row → `log Σ e^x − x[target]`, `[R]`.
pub(crate) fn cross_entropy<B: Backend>(logits: FloatTensor<B>, targets: &[u32]) -> FloatTensor<B> {
    let logits = Float::<B>(logits).cast(FloatDType::F32); // [R, vocab]
    let rows = logits.dim(0);
    let device = logits.device();
    let ids = targets.iter().map(|t| *t as i32).collect();
    let ids = Ints::<B>::from_vec(ids, &device).reshape(&[rows, 1]);
    // Detached: the shift cancels out of the value and of the gradient alike.
    let shift = Float::<B>(B::float_detach(logits.clone().max_dim(1).0)); // [R, 1]
    let sum = logits.clone().sub(shift.clone()).exp().sum_dim(1); // [R, 1]
    let normalizer = Float::<B>(B::float_log(sum.0)).add(shift); // [R, 1]
    normalizer
        .sub(logits.gather(1, ids)) // [R, 1]
        .reshape(&[rows])
        .0
}
