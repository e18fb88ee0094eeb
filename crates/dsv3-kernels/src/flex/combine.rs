//! Weighted sums of a weight's rows: the transposed product, `factorsᵀ · W`.

use std::ops::Range;

use super::decode::{Decoded, UNIT};
use super::lanes::{Kernel, LANES, Lanes};
use super::rows::Rows;

/// `to[n] += Σ_i factors[n, i] · rows[range.start + i]`, row by row in their order.
pub(super) struct Combine<'a> {
    pub(super) rows: &'a Rows,
    pub(super) range: Range<usize>,
    /// Each `[rows of the range]`.
    pub(super) factors: &'a [&'a [f32]],
    /// `[n, units]`
    pub(super) to: &'a mut [[f32; UNIT]],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let units = self.rows.input().div_ceil(UNIT);
        let mut row = vec![[0f32; UNIT]; units];
        for (i, r) in self.range.enumerate() {
            Decoded {
                row: self.rows.row(r),
                to: &mut row,
            }
            .run(l);
            let sums = self.to.chunks_exact_mut(units.max(1));
            for (sums, factors) in sums.zip(self.factors) {
                let factor = l.splat(factors[i]);
                for (sums, values) in sums.iter_mut().zip(&row) {
                    let (sums, _) = sums.as_chunks_mut::<LANES>();
                    let (values, _) = values.as_chunks::<LANES>();
                    for (sum, values) in sums.iter_mut().zip(values) {
                        *sum = l.store(l.mul_add(factor, l.load(values), l.load(sum)));
                    }
                }
            }
        }
    }
}
