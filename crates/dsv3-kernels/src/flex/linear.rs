//! `x · Wᵀ`: the rows of a weight shared out to the threads.

use std::ops::Range;

use super::integer_dots::PANEL_ROWS;
use super::lanes::InstructionSet;
use super::product::{Buffer, Inputs};
use super::rows::Rows;
use super::team;
use crate::packed::Activations;

/// Fewest weights of a task: enough to hide its start.
const LEAST_TASK: usize = 1 << 15;
/// Most weights of a task. Beyond that nothing is gained by length.
const LARGEST_TASK: usize = 1 << 20;
/// Tasks for each thread, so that one that was held up leaves work to the others.
const TASKS_A_THREAD: usize = 2;

/// `x [T, in]`, rows `[out, in]` → `[T, out]`.
pub(super) fn linear(x: &[f32], rows: &Rows, tokens: usize, activations: Activations) -> Vec<f32> {
    let [y] = linears(InstructionSet::best(), x, [rows], tokens, activations);
    y
}

/// Several weights that take the same input, in one round of the threads:
/// `x [T, in]`, each `[out, in]` → each `[T, out]`.
pub(super) fn linears<const N: usize>(
    set: InstructionSet,
    x: &[f32],
    weights: [&Rows; N],
    tokens: usize,
    activations: Activations,
) -> [Vec<f32>; N] {
    let inputs = Inputs::new(set, x, tokens, activations);
    let products = weights.map(|rows| inputs.product(rows));
    let mut y = weights.map(|rows| vec![0f32; tokens * rows.out()]); // [T, out]
    let mut tasks = Vec::new();
    for ((y, rows), product) in y.iter_mut().zip(weights).zip(&products) {
        let stretches = stretches(y, rows.out(), rows_of_a_task(rows.input(), rows.out()));
        tasks.extend(stretches.into_iter().map(|stretch| (product, stretch)));
    }
    team::for_each_chunk(&mut tasks, 1, Buffer::default, |buffer, _, tasks| {
        for (product, task) in tasks {
            product.dots(set, task.range.clone(), &mut task.y, buffer);
        }
    });
    drop(tasks);
    y
}

/// Some rows of a weight, and where their products go.
pub(super) struct Stretch<'a> {
    pub(super) range: Range<usize>,
    /// For each token, `[rows of the range]`.
    pub(super) y: Vec<&'a mut [f32]>,
}

/// `y [T, out]` cut into stretches of `rows`, each of which has its part of every token.
pub(super) fn stretches(y: &mut [f32], out: usize, rows: usize) -> Vec<Stretch<'_>> {
    let tokens = y.len() / out.max(1);
    let starts = (0..out).step_by(rows);
    let mut to: Vec<_> = starts
        .map(|start| Stretch {
            range: start..(start + rows).min(out),
            y: Vec::with_capacity(tokens),
        })
        .collect();
    for y in y.chunks_exact_mut(out.max(1)) {
        for (stretch, y) in to.iter_mut().zip(y.chunks_mut(rows)) {
            stretch.y.push(y);
        }
    }
    to
}

/// Rows of one task, where a row costs `weights` and there are `out` of them.
pub(super) fn rows_of_a_task(weights: usize, out: usize) -> usize {
    let share = weights * out / (TASKS_A_THREAD * rayon::current_num_threads());
    (share.clamp(LEAST_TASK, LARGEST_TASK) / weights.max(1))
        .next_multiple_of(PANEL_ROWS)
        .clamp(1, out.max(1))
}

#[cfg(test)]
mod tests;
