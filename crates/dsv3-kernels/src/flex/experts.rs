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
use super::linear::{rows_of_a_task, stretches};
use super::product::{Buffer, Inputs, Product};
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
    /// Whose ids these are.
    tokens: Vec<usize>,
}

impl Call<'_> {
    /// → `[T, hidden]`. Sums in the order of expert ids.
    pub(super) fn run(&self, experts: &Experts<Flex>) -> Vec<f32> {
        let chosen = self.chosen(experts);
        let inner = self.inner(&chosen); // each [n, inter]
        let tokens = self.x.len() / self.hidden.max(1);
        let set = InstructionSet::best();
        let inputs = inner.iter().zip(&chosen);
        let inputs: Vec<_> = inputs
            .map(|(inner, chosen)| Inputs::new(set, inner, chosen.places.len(), self.activations))
            .collect();
        let products = inputs.iter().zip(&chosen);
        let products: Vec<_> = products
            .map(|(inputs, chosen)| inputs.product(&chosen.down))
            .collect();
        let width = chosen.first().map_or(1, |c| c.down.input());
        // By the rows of one expert: what lies in one piece is read faster than many short ones.
        let rows = rows_of_a_task(width, self.hidden);
        let mut sum = vec![0f32; tokens * self.hidden]; // [T, hidden]
        let mut tasks = stretches(&mut sum, self.hidden, rows);
        team::for_each_chunk(&mut tasks, 1, Scratch::default, |scratch, _, tasks| {
            for task in tasks {
                for (chosen, product) in chosen.iter().zip(&products) {
                    let y = scratch.dots(product, task.range.clone()); // [n, rows]
                    round_to(y, self.dtype);
                    let y = y.chunks_exact(task.range.len());
                    for ((place, token), y) in chosen.places.iter().zip(&chosen.tokens).zip(y) {
                        let weight = self.weights[*place];
                        for (sum, y) in task.y[*token].iter_mut().zip(y) {
                            *sum += weight * y;
                        }
                    }
                }
            }
        });
        sum
    }

    /// The experts that any token chose, in the order of their ids.
    fn chosen(&self, experts: &Experts<Flex>) -> Vec<Chosen> {
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, id) in self.ids.iter().enumerate() {
            places.entry(*id).or_default().push(place);
        }
        let chosen = places.into_iter().filter_map(|(id, places)| {
            let expert = experts.0.get(id)?;
            Some(Chosen {
                gate: Rows::new(&expert.gate),
                up: Rows::new(&expert.up),
                down: Rows::new(&expert.down),
                tokens: places.iter().map(|place| place / self.k).collect(),
                places,
            })
        });
        chosen.collect()
    }

    /// `silu(gate(x)) · up(x)` of each chosen expert, `[n, inter]`.
    fn inner(&self, chosen: &[Chosen]) -> Vec<Vec<f32>> {
        let tokens = self.x.len() / self.hidden.max(1);
        let inputs = Inputs::new(InstructionSet::best(), self.x, tokens, self.activations);
        let products: Vec<[Product<'_>; 2]> = chosen
            .iter()
            .map(|c| [&c.gate, &c.up].map(|rows| inputs.product_of(&c.tokens, rows)))
            .collect();
        let mut inner: Vec<Vec<f32>> = chosen
            .iter()
            .map(|chosen| vec![0.0; chosen.tokens.len() * chosen.gate.out()])
            .collect();
        let mut tasks = Vec::new();
        for ((inner, products), chosen) in inner.iter_mut().zip(&products).zip(chosen) {
            let out = chosen.gate.out();
            let rows = rows_of_a_task(2 * chosen.gate.input(), out);
            let stretches = stretches(inner, out, rows).into_iter();
            tasks.extend(stretches.map(|stretch| (products, stretch)));
        }
        let scratch = <(Scratch, Scratch)>::default;
        team::for_each_chunk(&mut tasks, 1, scratch, |(gates, ups), _, tasks| {
            for ([gate, up], task) in tasks {
                let gate = gates.dots(gate, task.range.clone()); // [n, rows]
                let up = ups.dots(up, task.range.clone());
                round_to(gate, self.dtype);
                round_to(up, self.dtype);
                let width = task.range.len();
                let values = gate.chunks_exact(width).zip(up.chunks_exact(width));
                for (y, (gate, up)) in task.y.iter_mut().zip(values) {
                    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                        *y = g / (1.0 + (-*g).exp()) * *u;
                    }
                    round_to(y, self.dtype);
                }
            }
        });
        inner
    }
}

/// What a thread keeps from one stretch of rows to the next.
#[derive(Default)]
struct Scratch {
    y: Vec<f32>,
    buffer: Buffer,
}

impl Scratch {
    /// The products of some rows, `[n, rows of the range]`.
    fn dots(&mut self, product: &Product<'_>, range: Range<usize>) -> &mut [f32] {
        self.y.resize(range.len() * product.tokens(), 0.0);
        let mut y: Vec<&mut [f32]> = self.y.chunks_mut(range.len().max(1)).collect();
        product.dots(InstructionSet::best(), range, &mut y, &mut self.buffer);
        &mut self.y
    }
}
