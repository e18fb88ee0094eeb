//! The routed experts: tokens grouped by expert, so that each chosen expert is read once.
//!
//! Two rounds. The first computes gate, up and what is between, the second the way down and the
//! weighted sum. Each is cut into stretches of rows of about the same size whatever expert they
//! belong to, so that threads are balanced by bytes.

use burn::backend::Flex;
use burn::tensor::DType;
use std::collections::BTreeMap;
use std::ops::Range;

use super::lanes::InstructionSet;
use super::linear::{rows_of_a_task, transpose};
use super::product::{Buffer, Product};
use super::round_to;
use super::rows::Rows;
use super::team;
use crate::packed::{Activations, Experts};

/// One call's operands.
pub(super) struct Call<'a> {
    /// `[T, hidden]`
    pub(super) x: &'a [f32],
    /// `[T, k]`
    pub(super) ids: &'a [usize],
    /// `[T, k]`
    pub(super) weights: &'a [f32],
    pub(super) hidden: usize,
    pub(super) k: usize,
    pub(super) activations: Activations,
    /// What the activations are rounded to between the matrices.
    pub(super) dtype: DType,
}

/// A chosen expert and its tokens.
struct Chosen {
    gate: Rows,
    up: Rows,
    down: Rows,
    /// Where its id stands in `[T · k]`.
    places: Vec<usize>,
    /// `[n, hidden]`
    x: Vec<f32>,
}

impl Call<'_> {
    /// → `[T, hidden]`. Sums in the order of expert ids.
    pub(super) fn run(&self, experts: &Experts<Flex>) -> Vec<f32> {
        let chosen = self.chosen(experts);
        let inner = self.inner(&chosen); // each [n, inter]
        let tokens = self.x.len() / self.hidden.max(1);
        let inner: Vec<Product<'_>> = inner
            .iter()
            .zip(&chosen)
            .map(|(inner, chosen)| {
                Product::new(inner, chosen.places.len(), &chosen.down, self.activations)
            })
            .collect();
        let inputs = chosen.first().map_or(1, |c| c.down.input());
        // By the rows of one expert: what lies in one piece is read faster than many short ones.
        let task = rows_of_a_task(inputs, self.hidden);
        let mut sum = vec![0f32; tokens * self.hidden]; // [hidden, T]
        team::for_each_chunk(
            &mut sum,
            task * tokens,
            Scratch::default,
            |scratch, chunk, sum| {
                let first = chunk * task;
                let range = first..first + sum.len() / tokens.max(1);
                for (chosen, inner) in chosen.iter().zip(&inner) {
                    let n = chosen.places.len();
                    let y = scratch.dots(inner, range.clone()); // [rows, n]
                    round_to(y, self.dtype);
                    for (sum, y) in sum.chunks_exact_mut(tokens).zip(y.chunks_exact(n)) {
                        for (place, y) in chosen.places.iter().zip(y) {
                            sum[place / self.k] += self.weights[*place] * y;
                        }
                    }
                }
            },
        );
        transpose(sum, self.hidden, tokens)
    }

    /// The experts that any token chose, in the order of their ids.
    fn chosen(&self, experts: &Experts<Flex>) -> Vec<Chosen> {
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, id) in self.ids.iter().enumerate() {
            places.entry(*id).or_default().push(place);
        }
        let chosen = places.into_iter().filter_map(|(id, places)| {
            let expert = experts.0.get(id)?;
            let mut x = Vec::with_capacity(places.len() * self.hidden); // [n, hidden]
            for place in &places {
                x.extend_from_slice(&self.x[place / self.k * self.hidden..][..self.hidden]);
            }
            Some(Chosen {
                gate: Rows::new(&expert.gate),
                up: Rows::new(&expert.up),
                down: Rows::new(&expert.down),
                places,
                x,
            })
        });
        chosen.collect()
    }

    /// `silu(gate(x)) · up(x)` of each chosen expert, `[n, inter]`.
    fn inner(&self, chosen: &[Chosen]) -> Vec<Vec<f32>> {
        let products: Vec<[Product<'_>; 2]> = chosen
            .iter()
            .map(|chosen| {
                let rows = [&chosen.gate, &chosen.up];
                Product::pair(&chosen.x, chosen.places.len(), rows, self.activations)
            })
            .collect();
        let mut tasks = Vec::new();
        for (which, chosen) in chosen.iter().enumerate() {
            let out = chosen.gate.out();
            let step = rows_of_a_task(2 * chosen.gate.input(), out);
            let starts = (0..out).step_by(step);
            tasks.extend(starts.map(|start| (which, start..(start + step).min(out))));
        }
        let parts: Vec<Vec<f32>> = team::map(
            tasks.len(),
            <(Scratch, Scratch)>::default,
            |(gates, ups), task| {
                let (which, range) = &tasks[task];
                let [gate, up] = &products[*which];
                let gate = gates.dots(gate, range.clone()); // [rows, n]
                let up = ups.dots(up, range.clone());
                round_to(gate, self.dtype);
                round_to(up, self.dtype);
                let inner = gate
                    .iter()
                    .zip(up)
                    .map(|(g, u)| g / (1.0 + (-*g).exp()) * *u);
                inner.collect()
            },
        );
        let mut inner: Vec<Vec<f32>> = chosen.iter().map(|_| Vec::new()).collect(); // [inter, n]
        for ((which, _), part) in tasks.iter().zip(parts) {
            inner[*which].extend(part);
        }
        inner
            .into_iter()
            .zip(chosen)
            .map(|(inner, chosen)| {
                let width = chosen.gate.out();
                let mut inner = transpose(inner, width, chosen.places.len()); // [n, inter]
                round_to(&mut inner, self.dtype);
                inner
            })
            .collect()
    }
}

/// What a thread keeps from one stretch of rows to the next.
#[derive(Default)]
struct Scratch {
    y: Vec<f32>,
    buffer: Buffer,
}

impl Scratch {
    /// The products of some rows, `[rows of the range, n]`.
    fn dots(&mut self, product: &Product<'_>, range: Range<usize>) -> &mut [f32] {
        self.y.clear();
        self.y.resize(range.len() * product.tokens(), 0.0);
        let set = InstructionSet::best();
        product.dots(set, range, &mut self.y, &mut self.buffer);
        &mut self.y
    }
}
