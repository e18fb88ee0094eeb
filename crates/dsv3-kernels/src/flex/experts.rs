//! The routed experts: tokens grouped by expert, so that each chosen expert is read once.

use burn::backend::Flex;
use burn::tensor::DType;
use std::collections::BTreeMap;

use super::activations;
use super::linear::linear;
use super::round_to;
use super::rows::Rows;
use super::vector::add_scaled;
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

impl Call<'_> {
    /// → `[T, hidden]`. Sums in the order of expert ids.
    pub(super) fn run(&self, experts: &Experts<Flex>) -> Vec<f32> {
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new(); // expert → in [T · k]
        for (place, id) in self.ids.iter().enumerate() {
            places.entry(*id).or_default().push(place);
        }
        let mut sum = vec![0f32; self.x.len()]; // [T, hidden]
        for (id, places) in places {
            let Some(expert) = experts.0.get(id) else {
                continue;
            };
            let n = places.len();
            let mut x = Vec::with_capacity(n * self.hidden); // [n, hidden]
            for place in &places {
                x.extend_from_slice(&self.x[place / self.k * self.hidden..][..self.hidden]);
            }
            self.quantize(&mut x, self.hidden, expert.gate.is_fp8());
            let gate = self.rounded(linear(&x, &Rows::new(&expert.gate), n)); // [n, inter]
            let up = self.rounded(linear(&x, &Rows::new(&expert.up), n)); // [n, inter]
            let inner = gate.into_iter().zip(up).map(|(g, u)| {
                let g = g / (1.0 + (-g).exp());
                g * u
            });
            let mut inner = self.rounded(inner.collect()); // [n, inter]
            let width = inner.len() / n.max(1);
            self.quantize(&mut inner, width, expert.down.is_fp8());
            let y = self.rounded(linear(&inner, &Rows::new(&expert.down), n)); // [n, hidden]
            for (place, y) in places.iter().zip(y.chunks_exact(self.hidden)) {
                let to = &mut sum[place / self.k * self.hidden..][..self.hidden];
                add_scaled(to, self.weights[*place], y);
            }
        }
        sum
    }

    fn quantize(&self, x: &mut [f32], n: usize, fp8: bool) {
        if let Activations::Fp8 { ue8m0 } = self.activations
            && fp8
        {
            activations::quantize(x, n, ue8m0);
        }
    }

    fn rounded(&self, mut x: Vec<f32>) -> Vec<f32> {
        round_to(&mut x, self.dtype);
        x
    }
}
