//! Experts: tokens grouped by expert, so that each one that is chosen is read once.
//!
//! Two rounds. The first computes gate, up and what is between, the second the way down and the
//! weighted sum. Each is cut into stretches of rows of about the same size whatever expert they
//! belong to, so that threads are balanced by bytes. The expert that every token meets is one more
//! in both.

use burn::backend::Flex;
use burn::tensor::DType;
use std::collections::BTreeMap;
use std::ops::Range;

use super::lanes::InstructionSet;
use super::linear::{rows_of_a_task, stretches};
use super::product::{Buffer, Inputs, Product};
use super::rows::Rows;
use super::wide::wide;
use super::{round_to, swiglu, team};
use crate::packed::{Activations, Expert, Experts};

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

/// An expert and its tokens.
struct Chosen {
    gate: Rows,
    up: Rows,
    down: Rows,
    tokens: Vec<usize>,
    /// Where its id stands in `[T · k]`, for each of its tokens; none where every token meets it.
    places: Option<Vec<usize>>,
}

impl Chosen {
    fn new(expert: &Expert<Flex>, tokens: Vec<usize>, places: Option<Vec<usize>>) -> Self {
        Chosen {
            gate: Rows::new(&expert.gate),
            up: Rows::new(&expert.up),
            down: Rows::new(&expert.down),
            tokens,
            places,
        }
    }
}

impl Call<'_> {
    /// → `[T, hidden]`. Sums in the order of expert ids; what `shared` makes of each token is added
    /// to the rounded sum.
    pub(super) fn run(&self, experts: &Experts<Flex>, shared: Option<&Expert<Flex>>) -> Vec<f32> {
        let chosen = self.chosen(experts, shared);
        let inner = self.inner(&chosen); // each [n, inter]
        let set = InstructionSet::best();
        let inputs = inner.iter().zip(&chosen);
        let inputs: Vec<_> = inputs
            .map(|(inner, chosen)| Inputs::new(set, inner, chosen.tokens.len(), self.activations))
            .collect();
        let products = inputs.iter().zip(&chosen);
        let products: Vec<_> = products
            .map(|(inputs, chosen)| inputs.product(&chosen.down))
            .collect();
        let width = chosen.first().map_or(1, |c| c.down.input());
        // By the rows of one expert: what lies in one piece is read faster than many short ones.
        let rows = rows_of_a_task(width, self.hidden);
        let mut sum = vec![0f32; self.tokens() * self.hidden]; // [T, hidden]
        let mut tasks = stretches(&mut sum, self.hidden, rows);
        team::for_each_chunk(&mut tasks, 1, Scratch::default, |scratch, _, tasks| {
            for task in tasks {
                for (chosen, product) in chosen.iter().zip(&products) {
                    let y = scratch.dots(product, task.range.clone()); // [n, rows]
                    round_to(y, self.dtype);
                    self.add(chosen, y, task.range.len(), &mut task.y);
                }
            }
        });
        sum
    }

    fn tokens(&self) -> usize {
        self.x.len() / self.hidden.max(1)
    }

    /// `y [n, rows]` of an expert to `sums [T, rows]`.
    fn add(&self, chosen: &Chosen, y: &[f32], rows: usize, sums: &mut [&mut [f32]]) {
        for (n, (token, y)) in chosen.tokens.iter().zip(y.chunks_exact(rows)).enumerate() {
            let sums = &mut *sums[*token];
            let weight = match &chosen.places {
                Some(places) => self.weights[places[n]],
                None => {
                    round_to(sums, self.dtype);
                    1.0
                }
            };
            sums.iter_mut()
                .zip(y)
                .for_each(|(sum, y)| *sum += weight * y);
        }
    }

    /// The experts that any token chose, in the order of their ids, and the one that all meet.
    fn chosen(&self, experts: &Experts<Flex>, shared: Option<&Expert<Flex>>) -> Vec<Chosen> {
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, id) in self.ids.iter().enumerate() {
            places.entry(*id).or_default().push(place);
        }
        let routed = places.into_iter().filter_map(|(id, places)| {
            let tokens = places.iter().map(|place| place / self.k).collect();
            Some(Chosen::new(experts.0.get(id)?, tokens, Some(places)))
        });
        let all = || (0..self.tokens()).collect();
        let shared = shared.map(|expert| Chosen::new(expert, all(), None));
        routed.chain(shared).collect()
    }

    /// `silu(gate(x)) · up(x)` of each expert, `[n, inter]`.
    fn inner(&self, chosen: &[Chosen]) -> Vec<Vec<f32>> {
        let set = InstructionSet::best();
        let inputs = Inputs::new(set, self.x, self.tokens(), self.activations);
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
            tasks.extend(stretches.map(|stretch| (products, chosen, stretch)));
        }
        let scratch = <(Scratch, Scratch)>::default;
        team::for_each_chunk(&mut tasks, 1, scratch, |(gates, ups), _, tasks| {
            for ([gate, up], chosen, task) in tasks {
                let gate = gates.dots(gate, task.range.clone()); // [n, rows]
                let up = ups.dots(up, task.range.clone());
                round_to(gate, self.dtype);
                round_to(up, self.dtype);
                let width = task.range.len();
                let values = gate.chunks_exact(width).zip(up.chunks_exact(width));
                for (y, (gate, up)) in task.y.iter_mut().zip(values) {
                    match chosen.places {
                        Some(_) => wide(
                            #[inline(always)]
                            || swiglu::rows(gate, up, y),
                        ),
                        None => swiglu::stepwise(gate, up, y, self.dtype),
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
