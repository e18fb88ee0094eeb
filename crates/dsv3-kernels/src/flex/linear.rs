//! `x · Wᵀ`: each thread decodes a weight row once and meets it with every token.

use rayon::prelude::*;

use super::rows::Rows;
use super::vector::dot;

/// Weight bytes of one task: small enough to balance, large enough to hide its start.
const TASK_WEIGHTS: usize = 1 << 15;

/// `x [T, in]`, rows `[out, in]` → `[T, out]`.
pub(super) fn linear(x: &[f32], rows: &Rows, tokens: usize) -> Vec<f32> {
    let (out, input) = (rows.out(), rows.input());
    let mut columns = vec![0f32; out * tokens]; // [out, T]
    let task = (TASK_WEIGHTS / input.max(1)).clamp(1, out.max(1));
    columns
        .par_chunks_mut((task * tokens).max(1))
        .enumerate()
        .for_each_init(
            || vec![0f32; input],
            |row, (chunk, columns)| {
                for (i, y) in columns.chunks_exact_mut(tokens).enumerate() {
                    rows.decode(chunk * task + i, row);
                    y.iter_mut()
                        .zip(x.chunks_exact(input))
                        .for_each(|(y, x)| *y = dot(row, x));
                }
            },
        );
    transpose(columns, out, tokens)
}

/// `[rows, columns]` → `[columns, rows]`.
fn transpose(values: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    if columns == 1 {
        return values;
    }
    let mut to = vec![0f32; values.len()];
    for (r, row) in values.chunks_exact(columns.max(1)).enumerate() {
        for (c, v) in row.iter().enumerate() {
            to[c * rows + r] = *v;
        }
    }
    to
}
