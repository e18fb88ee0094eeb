//! Weighted sums of a weight's rows: the transposed product, `factorsᵀ · W`.

use std::ops::Range;

use super::decode::{Decoded, UNIT};
use super::lanes::{Kernel, LANES, Lanes};
use super::rows::Rows;

/// Rows that are added in one pass over the sums.
const ROWS: usize = 4;

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
        let units = self.rows.input().div_ceil(UNIT).max(1);
        let mut rows = vec![[0f32; UNIT]; ROWS * units];
        for at in self.range.clone().step_by(ROWS) {
            let count = (self.range.end - at).min(ROWS);
            for (i, to) in rows.chunks_exact_mut(units).enumerate().take(count) {
                Decoded {
                    row: self.rows.row(at + i),
                    to,
                }
                .run(l);
            }
            let first = at - self.range.start;
            for (sums, factors) in self.to.chunks_exact_mut(units).zip(self.factors) {
                match factors[first..].first_chunk::<ROWS>() {
                    Some(factors) => add(l, &rows, factors, sums),
                    None => {
                        for (row, factor) in rows.chunks_exact(units).zip(&factors[first..]) {
                            add(l, row, &[*factor], sums);
                        }
                    }
                }
            }
        }
    }
}

/// `sums += Σ_r factors[r] · rows[r]`, one after the other; `rows [R, units]`.
#[inline(always)]
fn add<L: Lanes, const R: usize>(
    l: L,
    rows: &[[f32; UNIT]],
    factors: &[f32; R],
    sums: &mut [[f32; UNIT]],
) {
    let units = sums.len();
    let mut lanes = [l.splat(0.0); R];
    for r in 0..R {
        lanes[r] = l.splat(factors[r]);
    }
    for (unit, sums) in sums.iter_mut().enumerate() {
        let (sums, _) = sums.as_chunks_mut::<LANES>();
        for (half, sum) in sums.iter_mut().enumerate() {
            let mut total = l.load(sum);
            for r in 0..R {
                let (values, _) = rows[r * units + unit].as_chunks::<LANES>();
                total = l.mul_add(lanes[r], l.load(&values[half]), total);
            }
            *sum = l.store(total);
        }
    }
}
