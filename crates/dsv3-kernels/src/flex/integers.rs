//! Activations as whole numbers, per token and group of columns.
//!
//! A group is that of the weight that they meet, so that the products of a group are summed in
//! whole numbers, without rounding and in any order, and scaled once.

use super::team;
use super::wide::wide;
use crate::packed::GroupFormat;
use crate::spec::I8_MAX;

/// 1.5 · 2^23: adding it leaves the nearest integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Fewest values of a task: enough to hide its start.
const LEAST_TASK: usize = 1 << 15;

/// Codes of i8 with a scale for each group: value = code · scale.
pub(super) struct Integers {
    /// `[T, in / 4]`
    words: Vec<[i8; 4]>,
    /// `[T, groups]`
    scales: Vec<f32>,
    /// What a sum over a group begins with, `[T, groups]`, where weights are multiplied without
    /// signs, as `code + zero`, which adds `zero · Σ x`.
    starts: Vec<i32>,
    tokens: usize,
}

/// One token of [`Integers`].
#[derive(Clone, Copy)]
pub(super) struct Token<'a> {
    /// `[in / 4]`
    pub(super) words: &'a [[i8; 4]],
    /// `[groups]`
    pub(super) scales: &'a [f32],
    /// `[groups]`
    pub(super) starts: &'a [i32],
}

impl Integers {
    /// `x [T, in]`, rounded in front of a weight of this format. A group that is not finite comes
    /// out as NaN.
    pub(super) fn new(x: &[f32], tokens: usize, format: &GroupFormat) -> Self {
        let input = x.len() / tokens.max(1);
        let (words, groups) = (input / 4, format.scales(input));
        let mut to = Integers {
            words: vec![[0; 4]; tokens * words],
            scales: vec![0.0; tokens * groups],
            starts: vec![0; tokens * groups],
            tokens,
        };
        let rows = to.words.chunks_mut(words.max(1));
        let rows = rows.zip(to.scales.chunks_mut(groups.max(1)));
        let mut rows: Vec<_> = rows.zip(to.starts.chunks_mut(groups.max(1))).collect();
        let (columns, zero) = (format.columns, format.zero());
        let step = (LEAST_TASK / input.max(1)).max(1);
        let scratch = || ();
        team::for_each_chunk(&mut rows, step, scratch, |(), chunk, rows| {
            let x = x[chunk * step * input..].chunks_exact(input.max(1));
            for (((words, scales), starts), x) in rows.iter_mut().zip(x) {
                wide(|| round(x, columns, zero, words.as_flattened_mut(), scales, starts));
            }
        });
        to
    }

    /// Token `t`.
    #[inline(always)]
    pub(super) fn token(&self, t: usize) -> Token<'_> {
        let (words, groups) = (
            self.words.len() / self.tokens.max(1),
            self.scales.len() / self.tokens.max(1),
        );
        Token {
            words: &self.words[t * words..][..words],
            scales: &self.scales[t * groups..][..groups],
            starts: &self.starts[t * groups..][..groups],
        }
    }
}

/// One token's values, group by group.
#[inline(always)]
fn round(
    x: &[f32],
    columns: usize,
    zero: i32,
    codes: &mut [i8],
    scales: &mut [f32],
    starts: &mut [i32],
) {
    let groups = x.chunks(columns).zip(codes.chunks_mut(columns));
    for (((x, codes), scale), start) in groups.zip(scales).zip(starts) {
        // As bits: those of a NaN lie above all others, which a comparison of floats would lose.
        let bits = |v: &f32| v.to_bits() & 0x7fff_ffff;
        let largest = f32::from_bits(x.iter().map(bits).fold(0, u32::max));
        *scale = match largest.is_finite() {
            true => largest / I8_MAX,
            false => f32::NAN,
        };
        // Numbers so small that their scale is none, or so coarse that a code would pass 127, are
        // zeros.
        if scale.is_subnormal() {
            *scale = 0.0;
        }
        if *scale == 0.0 || scale.is_nan() {
            continue;
        }
        let mut sum = 0;
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (x / *scale + ROUND).to_bits() as i8;
            sum += i32::from(*code);
        }
        *start = -zero * sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::GroupCodes;

    fn format(codes: GroupCodes) -> GroupFormat {
        GroupFormat {
            codes,
            columns: 32,
            row_bytes: 128,
            offset: 0,
        }
    }

    /// Breaks with: ties rounded away from zero, a scale of the group beside, a sum that misses
    /// the weights' zero.
    #[test]
    fn a_group_is_rounded_to_its_largest_value() {
        let mut x = vec![0.0; 96];
        (x[0], x[1], x[2], x[3]) = (-254.0, 3.0, 5.0, 1.0); // scale 2: −127, 1.5, 2.5, 0.5
        (x[32], x[95]) = (1e-3, 0.0);
        let integers = Integers::new(&x, 1, &format(GroupCodes::Int4));
        let token = integers.token(0);
        assert_eq!(token.words[0], [-127, 2, 2, 0]);
        assert_eq!(token.words[8], [127, 0, 0, 0]);
        assert_eq!(token.scales, [2.0, 1e-3 / 127.0, 0.0]);
        assert_eq!(token.starts, [8 * 123, -8 * 127, 0]);
    }

    /// Breaks with: a code of -128, which sums of 16 bits have no room for, or of the other sign: a
    /// subnormal scale is off by up to a half of itself.
    #[test]
    fn the_smallest_numbers_are_zeros() {
        let smallest = (f32::MIN_POSITIVE * I8_MAX).to_bits();
        for bits in [1, 65, 128, 190, smallest - 2, smallest + 2] {
            let mut x = vec![0.0; 32];
            (x[0], x[1]) = (f32::from_bits(bits), -f32::from_bits(bits));
            let integers = Integers::new(&x, 1, &format(GroupCodes::Int8));
            let token = integers.token(0);
            let [plus, minus, ..] = token.words[0];
            let large = if bits > smallest { 127 } else { 0 };
            assert_eq!((plus, minus), (large, -large), "{bits}");
            assert_eq!(token.scales[0] == 0.0, large == 0, "{bits}");
        }
    }

    /// Breaks with: a NaN or an infinity that becomes a number on its way.
    #[test]
    fn what_is_not_finite_makes_its_group_nan() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 64];
            x[40] = bad;
            let integers = Integers::new(&x, 1, &format(GroupCodes::Int8));
            let scales = integers.token(0).scales;
            assert_eq!(scales[0], 1.0 / 127.0);
            assert!(scales[1].is_nan(), "{bad}");
        }
    }
}
