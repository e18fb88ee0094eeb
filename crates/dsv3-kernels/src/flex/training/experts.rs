//! The routed experts and their gradients: tokens grouped by expert, three products each.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;
use std::borrow::Cow;

use super::super::gemm::{Matrix, MatrixMut, Threads, Write, product};
use super::super::rows::Rows;
use super::super::wide::{dot, wide};
use super::super::{dim, floats, integers, swiglu};
use super::swiglu::rows_gradient;
use super::{ROWS, f32_tensor};
use crate::packed::Packed;
use crate::training::{ExpertMatrices, ExpertsCall, ExpertsGradient, ExpertsSaved};

/// Which places (`token · k + choice`) each expert has, and where each place stands in that order.
struct Groups {
    /// Expert id and its places, by rising id; experts without tokens are left out.
    experts: Vec<(usize, Vec<usize>)>,
    /// Row of each place in the grouped order: `[T · k]`.
    rows: Vec<usize>,
}

impl Groups {
    fn new(ids: &[usize], experts: usize) -> Self {
        let mut places = vec![Vec::new(); experts];
        for (place, id) in ids.iter().enumerate() {
            if let Some(places) = places.get_mut(*id) {
                places.push(place);
            }
        }
        let mut rows = vec![0; ids.len()];
        for (row, place) in places.iter().flatten().enumerate() {
            rows[*place] = row;
        }
        let experts = places.into_iter().enumerate();
        Groups {
            experts: experts.filter(|(_, p)| !p.is_empty()).collect(),
            rows,
        }
    }

    /// `values [T · k, width]` in grouped order, cut by expert.
    fn split<'a>(&self, mut values: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        let mut parts = Vec::with_capacity(self.experts.len());
        for (_, places) in &self.experts {
            let (part, rest) = values.split_at_mut(places.len() * width);
            parts.push(part);
            values = rest;
        }
        parts
    }
}

/// One expert's matrices as floats.
struct Matrices<'a> {
    gate: Cow<'a, [f32]>,
    up: Cow<'a, [f32]>,
    down: Cow<'a, [f32]>,
}

/// All experts, contiguous.
#[allow(clippy::large_enum_variant)] // one a call
enum Held<'a> {
    Stacked([FlexTensor; 3]),
    Frozen(&'a [crate::packed::Expert<Flex>]),
}

impl<'a> Held<'a> {
    fn new(experts: &'a ExpertMatrices<Flex>) -> Self {
        match experts {
            ExpertMatrices::Stacked { gate, up, down } => Held::Stacked([
                gate.to_contiguous(),
                up.to_contiguous(),
                down.to_contiguous(),
            ]),
            ExpertMatrices::Frozen(experts) => Held::Frozen(&experts.0),
        }
    }

    fn len(&self) -> usize {
        match self {
            Held::Stacked([gate, ..]) => dim(gate, 0),
            Held::Frozen(experts) => experts.len(),
        }
    }

    /// `moe_inter`
    fn inter(&self) -> usize {
        match self {
            Held::Stacked([gate, ..]) => dim(gate, 1),
            Held::Frozen(experts) => experts.first().map_or(0, |e| e.gate.shape()[0]),
        }
    }

    fn matrices(&self, id: usize) -> Matrices<'_> {
        match self {
            Held::Stacked(stacks) => {
                let [gate, up, down] = stacks.each_ref().map(|stack| {
                    let size = dim(stack, 1) * dim(stack, 2);
                    Cow::Borrowed(&stack.storage::<f32>()[id * size..][..size])
                });
                Matrices { gate, up, down }
            }
            Held::Frozen(experts) => {
                let decode = |weight: &Packed<Flex>| {
                    let rows = Rows::new(weight);
                    let mut values = vec![0f32; rows.out() * rows.input()];
                    let each = values.chunks_exact_mut(rows.input().max(1)).enumerate();
                    each.for_each(|(row, to)| rows.decode(row, to));
                    Cow::Owned(values)
                };
                let expert = &experts[id];
                Matrices {
                    gate: decode(&expert.gate),
                    up: decode(&expert.up),
                    down: decode(&expert.down),
                }
            }
        }
    }
}

/// Rows `place / k` of `values [T, width]`: `[n, width]`.
fn gather(values: &[f32], places: &[usize], k: usize, width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(places.len() * width);
    for place in places {
        rows.extend_from_slice(&values[place / k * width..][..width]);
    }
    rows
}

/// `y_t = Σ_j factor_j · rows[place(t, j)]`, summed in the order of expert ids.
fn scatter(
    rows: &[f32],
    groups: &Groups,
    factors: Option<&[f32]>,
    [tokens, k, width]: [usize; 3],
) -> Vec<f32> {
    let mut y = vec![0f32; tokens * width];
    y.par_chunks_mut((ROWS * width).max(1))
        .enumerate()
        .for_each(|(chunk, y)| {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                let first = (chunk * ROWS + i) * k;
                let mut places: Vec<usize> = (first..first + k).collect();
                places.sort_unstable_by_key(|place| groups.rows[*place]);
                for place in places {
                    let row = &rows[groups.rows[place] * width..][..width];
                    let factor = factors.map_or(1.0, |factors| factors[place]);
                    wide(
                        #[inline(always)]
                        || y.iter_mut().zip(row).for_each(|(y, v)| *y += factor * v),
                    );
                }
            }
        });
    y
}

/// → the experts' weighted sum `[T, hidden]`, and gate and up of every place.
pub(super) fn forward(call: &ExpertsCall<Flex>) -> (FloatTensor<Flex>, ExpertsSaved<Flex>) {
    let (x, weights) = (call.x.to_contiguous(), call.weights.to_contiguous());
    let ([tokens, hidden], k) = ([dim(&x, 0), dim(&x, 1)], dim(&weights, 1));
    let (xs, ws) = (floats(&x), floats(&weights));
    let held = Held::new(&call.experts);
    let inter = held.inter();
    let groups = Groups::new(&integers(&call.ids), held.len());

    let places = tokens * k;
    let mut gate = vec![0f32; places * inter]; // [T · k, inter]
    let mut up = vec![0f32; places * inter]; // [T · k, inter]
    let mut y = vec![0f32; places * hidden]; // [T · k, hidden]
    let parts = groups
        .split(&mut gate, inter)
        .into_iter()
        .zip(groups.split(&mut up, inter))
        .zip(groups.split(&mut y, hidden));
    let parts: Vec<_> = groups.experts.iter().zip(parts).collect();
    parts
        .into_par_iter()
        .for_each(|((id, places), ((gate, up), y))| {
            let n = places.len();
            let w = held.matrices(*id);
            let x = gather(&xs, places, k, hidden); // [n, hidden]
            let x = Matrix::new(&x, n, hidden);
            let set = |to: &mut [f32], columns, a, b| {
                let to = MatrixMut::new(to, n, columns);
                product(to, Write::Replace, 1.0, a, b, Threads::One);
            };
            set(
                gate,
                inter,
                x,
                Matrix::new(&w.gate, inter, hidden).transposed(),
            );
            set(up, inter, x, Matrix::new(&w.up, inter, hidden).transposed());
            let mut inner = vec![0f32; n * inter]; // [n, inter]
            wide(
                #[inline(always)]
                || swiglu::rows(gate, up, &mut inner),
            );
            let inner = Matrix::new(&inner, n, inter);
            set(
                y,
                hidden,
                inner,
                Matrix::new(&w.down, hidden, inter).transposed(),
            );
        });
    let sum = scatter(&y, &groups, Some(&ws), [tokens, k, hidden]);
    let saved = ExpertsSaved {
        gate: f32_tensor(gate, &[places, inter]),
        up: f32_tensor(up, &[places, inter]),
    };
    (f32_tensor(sum, &[tokens, hidden]), saved)
}

/// One expert's share of the gradients.
struct Share {
    id: usize,
    /// Of the weights of its places.
    weights: Vec<f32>,
    /// Of gate, up and down.
    matrices: Option<[Vec<f32>; 3]>,
}

pub(super) fn gradient(
    call: &ExpertsCall<Flex>,
    saved: &ExpertsSaved<Flex>,
    grad: FloatTensor<Flex>,
) -> ExpertsGradient<Flex> {
    let (x, weights) = (call.x.to_contiguous(), call.weights.to_contiguous());
    let grad = grad.to_contiguous();
    let ([tokens, hidden], k) = ([dim(&x, 0), dim(&x, 1)], dim(&weights, 1));
    let (xs, ws, gs) = (floats(&x), floats(&weights), floats(&grad));
    let (gate, up) = (floats(&saved.gate), floats(&saved.up));
    let held = Held::new(&call.experts);
    let (experts, inter) = (held.len(), held.inter());
    let trained = matches!(held, Held::Stacked(_));
    let groups = Groups::new(&integers(&call.ids), experts);

    let mut dx = vec![0f32; tokens * k * hidden]; // [T · k, hidden], grouped
    let mut first = 0;
    let parts: Vec<_> = groups
        .experts
        .iter()
        .zip(groups.split(&mut dx, hidden))
        .map(|((id, places), dx)| {
            let start = first;
            first += places.len();
            (*id, places, start, dx)
        })
        .collect();
    let shares: Vec<Share> = parts
        .into_par_iter()
        .map(|(id, places, start, dx)| {
            let n = places.len();
            let w = held.matrices(id);
            let saved =
                |values: &'_ [f32]| -> Vec<f32> { values[start * inter..][..n * inter].to_vec() };
            let (gate, up) = (saved(&gate), saved(&up)); // [n, inter]
            let mut inner = vec![0f32; n * inter]; // [n, inter]
            wide(
                #[inline(always)]
                || swiglu::rows(&gate, &up, &mut inner),
            );
            let g = gather(&gs, places, k, hidden); // [n, hidden]
            let mut dinner = vec![0f32; n * inter]; // [n, inter]
            product(
                MatrixMut::new(&mut dinner, n, inter),
                Write::Replace,
                1.0,
                Matrix::new(&g, n, hidden),
                Matrix::new(&w.down, hidden, inter),
                Threads::One,
            );
            // The output is linear in its weight, and that weight's factor is g · down(inner).
            let mut dweights = Vec::with_capacity(n);
            let rows = dinner
                .chunks_exact_mut(inter.max(1))
                .zip(inner.chunks_exact_mut(inter.max(1)));
            for ((dinner, inner), place) in rows.zip(places) {
                let weight = ws[*place];
                wide(
                    #[inline(always)]
                    || {
                        dweights.push(dot(dinner, inner));
                        dinner.iter_mut().for_each(|v| *v *= weight);
                        inner.iter_mut().for_each(|v| *v *= weight);
                    },
                );
            }
            let ddown = trained.then(|| {
                outer(&g, &inner, [n, hidden, inter]) // [hidden, inter]
            });
            let mut dgate = vec![0f32; n * inter]; // [n, inter]
            let mut dup = dinner; // [n, inter]
            wide(
                #[inline(always)]
                || rows_gradient(&gate, &up, &mut dup, &mut dgate),
            );
            for (write, d, w) in [(Write::Replace, &dgate, &w.gate), (Write::Add, &dup, &w.up)] {
                product(
                    MatrixMut::new(dx, n, hidden),
                    write,
                    1.0,
                    Matrix::new(d, n, inter),
                    Matrix::new(w, inter, hidden),
                    Threads::One,
                );
            }
            let matrices = ddown.map(|ddown| {
                let x = gather(&xs, places, k, hidden); // [n, hidden]
                let shape = [n, inter, hidden];
                [outer(&dgate, &x, shape), outer(&dup, &x, shape), ddown]
            });
            Share {
                id,
                weights: dweights,
                matrices,
            }
        })
        .collect();

    let mut dweights = vec![0f32; tokens * k]; // [T, k]
    for (share, (_, places)) in shares.iter().zip(&groups.experts) {
        for (place, value) in places.iter().zip(&share.weights) {
            dweights[*place] = *value;
        }
    }
    let matrices = trained.then(|| {
        let size = inter * hidden;
        let mut stacks = [(); 3].map(|()| vec![0f32; experts * size]);
        for share in &shares {
            for (stack, part) in stacks.iter_mut().zip(share.matrices.iter().flatten()) {
                stack[share.id * size..][..size].copy_from_slice(part);
            }
        }
        let [gate, up, down] = stacks;
        [
            f32_tensor(gate, &[experts, inter, hidden]),
            f32_tensor(up, &[experts, inter, hidden]),
            f32_tensor(down, &[experts, hidden, inter]),
        ]
    });
    let dx = scatter(&dx, &groups, None, [tokens, k, hidden]);
    ExpertsGradient {
        x: f32_tensor(dx, &[tokens, hidden]),
        weights: f32_tensor(dweights, &[tokens, k]),
        matrices,
    }
}

/// `aᵀ · b`; `a [n, rows]`, `b [n, columns]` → `[rows, columns]`.
fn outer(a: &[f32], b: &[f32], [n, rows, columns]: [usize; 3]) -> Vec<f32> {
    let mut c = vec![0f32; rows * columns];
    product(
        MatrixMut::new(&mut c, rows, columns),
        Write::Replace,
        1.0,
        Matrix::new(a, n, rows).transposed(),
        Matrix::new(b, n, columns),
        Threads::One,
    );
    c
}
