//! `x · Wᵀ`: the rows of a weight shared out to the threads.

use super::integer_dots::PANEL_ROWS;
use super::lanes::InstructionSet;
use super::product::{Buffer, Product};
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
    linear_with(InstructionSet::best(), x, rows, tokens, activations)
}

fn linear_with(
    set: InstructionSet,
    x: &[f32],
    rows: &Rows,
    tokens: usize,
    activations: Activations,
) -> Vec<f32> {
    let (out, input) = (rows.out(), rows.input());
    let product = &Product::new(x, tokens, rows, activations);
    let mut columns = vec![0f32; out * tokens]; // [out, T]
    let task = rows_of_a_task(input, out);
    team::for_each_chunk(
        &mut columns,
        task * tokens,
        Buffer::default,
        |buffer, chunk, y| {
            let first = chunk * task;
            let range = first..first + y.len() / tokens.max(1);
            product.dots(set, range, y, buffer);
        },
    );
    transpose(columns, out, tokens)
}

/// Rows of one task, where a row costs `weights` and there are `out` of them.
pub(super) fn rows_of_a_task(weights: usize, out: usize) -> usize {
    let share = weights * out / (TASKS_A_THREAD * rayon::current_num_threads());
    (share.clamp(LEAST_TASK, LARGEST_TASK) / weights.max(1))
        .next_multiple_of(PANEL_ROWS)
        .clamp(1, out.max(1))
}

/// Columns that are turned together: as many as a line of memory holds.
const TURNED: usize = 16;

/// `[rows, columns]` → `[columns, rows]`.
pub(super) fn transpose(values: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    if columns == 1 {
        return values;
    }
    let mut to = vec![0f32; values.len()];
    let scratch = || ();
    team::for_each_chunk(&mut to, TURNED * rows, scratch, |(), chunk, to| {
        let first = chunk * TURNED;
        let width = to.len() / rows.max(1);
        for (r, row) in values.chunks_exact(columns.max(1)).enumerate() {
            for (c, v) in row[first..first + width].iter().enumerate() {
                to[c * rows + r] = *v;
            }
        }
    });
    to
}

#[cfg(test)]
mod tests;
