//! Rows of integer codes times whole numbers in plain Rust: the oracle of the instructions for them.

use std::ops::Range;

use super::LANES;

/// As [`Lanes::int8_rows`](super::Lanes::int8_rows).
#[inline(always)]
pub(super) fn int8_rows(
    rows: &[&[[u8; 2 * LANES]]; LANES],
    units: Range<usize>,
    x: &[[i8; 2 * LANES]],
    start: i32,
) -> [f32; LANES] {
    let mut sums = [start; LANES];
    for (sum, row) in sums.iter_mut().zip(rows) {
        for (codes, x) in row[units.clone()].iter().zip(x) {
            for (code, x) in codes.iter().zip(x) {
                *sum += i32::from(*code as i8) * i32::from(*x);
            }
        }
    }
    sums.map(|sum| sum as f32)
}

/// As [`Lanes::int4_rows`](super::Lanes::int4_rows).
#[inline(always)]
pub(super) fn int4_rows(
    rows: &[&[[u8; LANES]]; LANES],
    units: Range<usize>,
    x: &[[i8; 2 * LANES]],
    start: i32,
) -> [f32; LANES] {
    let mut sums = [start; LANES];
    for (sum, row) in sums.iter_mut().zip(rows) {
        for (codes, x) in row[units.clone()].iter().zip(x) {
            let (low, high) = x.split_at(LANES);
            for (code, (low, high)) in codes.iter().zip(low.iter().zip(high)) {
                *sum += i32::from(code & 15) * i32::from(*low);
                *sum += i32::from(code >> 4) * i32::from(*high);
            }
        }
    }
    sums.map(|sum| sum as f32)
}
