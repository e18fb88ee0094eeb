//! Weights and activations that are bf16 numbers, as pairs of them.
//!
//! bf16 weights are, and e4m3 codes whose scales are powers of two; activations are where the model
//! computes in bf16, or rounds them to e4m3 the same way. A pair's two columns lie where the two
//! halves of a unit of f32 have them, and are added in the same order, so a sum has the same bits
//! (numbers below 2^-126, which pairs take for zero, aside).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::decode::{AHEAD_BYTES, Decode, UNIT, prefetch_behind, with_scales, without_scales};
use super::formats::{Fp8, first_scales};
use super::lanes::{LANES, Lanes, paired};
use super::rows::Row;
use super::team;
use super::wide::wide;

/// Columns of a unit.
pub(super) const COLUMNS: usize = 2 * UNIT;

/// Largest exponent of a scale, and its smallest negated: what is multiplied stays far from the
/// ends of the range.
const LARGEST_EXPONENT: i32 = 40;

/// Whether all scales are powers of two, of no absurd size.
pub(super) fn are_powers(scales: &[f32]) -> bool {
    let exponents = 127 - LARGEST_EXPONENT..=127 + LARGEST_EXPONENT;
    let is_power = |scale: &f32| {
        let bits = scale.to_bits();
        bits & 0x807f_ffff == 0 && exponents.contains(&((bits >> 23) as i32))
    };
    scales
        .chunks(64)
        .all(|scales| scales.iter().fold(true, |all, scale| all & is_power(scale)))
}

/// Units of f32 as half as many of pairs, if all are bf16 numbers and none is below 2^-126.
pub(super) fn pairs_of(units: &[[f32; UNIT]]) -> Option<Vec<[f32; UNIT]>> {
    let (twos, []) = units.as_chunks::<2>() else {
        return None;
    };
    // What is not exact is mostly found at once.
    let first = twos.first()?;
    if !first.as_flattened().iter().all(|v| is_exact(*v)) {
        return None;
    }
    let mut to = vec![[0f32; UNIT]; twos.len()];
    let are_exact = AtomicBool::new(true);
    team::for_rows(to.as_flattened_mut(), UNIT, |first, to| {
        if !pair(&twos[first..], to.as_chunks_mut().0) {
            are_exact.store(false, Ordering::Relaxed);
        }
    });
    are_exact.into_inner().then_some(to)
}

/// The same to where they go; says whether they are exact.
fn pair(twos: &[[[f32; UNIT]; 2]], to: &mut [[f32; UNIT]]) -> bool {
    wide(
        #[inline(always)]
        || {
            let mut inexact = 0;
            for (two, to) in twos.iter().zip(to) {
                for (to, from) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(two) {
                    let (first, second) = from.split_at(LANES);
                    for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
                        *to = paired(*first, *second);
                        inexact |= u32::from(!is_exact(*first)) | u32::from(!is_exact(*second));
                    }
                }
            }
            inexact == 0
        },
    )
}

/// Whether it is a bf16 number, and not below 2^-126.
#[inline(always)]
fn is_exact(v: f32) -> bool {
    let bits = v.to_bits();
    bits & 0xffff == 0 && (bits & 0x7fff_ffff == 0 || bits & 0x7f80_0000 != 0)
}

/// bf16 as pairs.
#[derive(Clone, Copy)]
pub(super) struct Bf16Pairs<'a>(&'a [[u8; 2 * COLUMNS]]);

impl<'a> Bf16Pairs<'a> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
        let bytes: &[u8] = match row {
            Row::Bf16(bytes) => bytes,
            _ => &[],
        };
        Bf16Pairs(bytes.as_chunks().0)
    }
}

impl Decode for Bf16Pairs<'_> {
    const PAIRS: bool = true;
    const AHEAD: usize = AHEAD_BYTES / (2 * COLUMNS);
    /// Decoding is one instruction, which a buffer would cost as well.
    const WIDE_BUFFERED_FROM: usize = 65;

    without_scales!(Bf16Pairs);

    #[inline(always)]
    fn prefetch<L: Lanes>(&self, unit: usize, count: usize, distance: usize) {
        prefetch_behind::<L, _>(self.0.as_ptr(), unit, count, distance);
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, (): ()) -> [L::F; 2] {
        let (halves, _) = self.0[unit].as_chunks();
        [lanes.bf16_pairs(&halves[0]), lanes.bf16_pairs(&halves[1])]
    }

    #[inline(always)]
    fn multiply<L: Lanes>(lanes: L, values: L::F, x: L::F, sum: L::F) -> L::F {
        lanes.dot_pairs(values, x, sum)
    }
}

/// e4m3 with powers of two for scales, as pairs of bf16.
pub(super) type Fp8Pairs<'a> = Fp8<'a, COLUMNS>;

impl Decode for Fp8Pairs<'_> {
    const PAIRS: bool = true;
    const AHEAD: usize = AHEAD_BYTES / COLUMNS;
    const WIDE_BUFFERED_FROM: usize = 26;
    const PREFERS_FIVE: bool = true;
    const SHARED: bool = true;
    type Factor<L: Lanes> = [L::F; 5];

    with_scales!(Fp8);

    #[inline(always)]
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> [L::F; 5] {
        lanes.e4m3_scale(scale)
    }

    #[inline(always)]
    fn scales<L: Lanes>(&self, _: L, first: usize) -> [f32; LANES] {
        first_scales(&self.scales[first..])
    }

    #[inline(always)]
    fn scale<L: Lanes>(&self, _: L, at: usize) -> f32 {
        self.scales[at]
    }

    #[inline(always)]
    fn largest<L: Lanes>(&self, lanes: L, unit: usize, so_far: L::I) -> L::I {
        lanes.larger_all(so_far, &self.codes[unit])
    }

    #[inline(always)]
    fn are_normal<L: Lanes, const R: usize>(lanes: L, rows: &[Self; R], unit: usize) -> bool {
        let mut codes = [&rows[0].codes[unit]; R];
        for (codes, row) in codes.iter_mut().zip(rows) {
            *codes = &row.codes[unit];
        }
        lanes.e4m3_are_normal(codes)
    }

    #[inline(always)]
    fn normal_factor<L: Lanes>(lanes: L, scale: f32) -> L::F {
        lanes.e4m3_normal_scale(scale)
    }

    #[inline(always)]
    fn normal_unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2] {
        lanes.e4m3_normal_pairs(&self.codes[unit], scale)
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: [L::F; 5]) -> [L::F; 2] {
        lanes.e4m3_pairs(&self.codes[unit], &scale)
    }

    #[inline(always)]
    fn multiply<L: Lanes>(lanes: L, values: L::F, x: L::F, sum: L::F) -> L::F {
        lanes.dot_pairs(values, x, sum)
    }
}

#[cfg(test)]
mod tests;
