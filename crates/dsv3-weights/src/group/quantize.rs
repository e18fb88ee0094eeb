//! Choosing scales and codes.
//!
//! The plain way sets a group's scale by its largest magnitude; the other searches for the one of
//! least squared error ([`fit`](super::fit)). Scales are rounded to f16 before codes are chosen or
//! errors counted, so what is compared is what will be read.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::WeightsError;

use super::f16_bits::half_bits;
use super::fit::{Groups, LANES, Lanes};
use super::{GroupBits, GroupFormat, UNIT, check_columns};

/// Values beyond this cannot be packed: their scale might not be a finite f16 (at most 65,504).
const MAX_PACKABLE: f32 = 65_504.0 * 7.0;

/// Added and subtracted it rounds to the nearest whole number, ties to even, for magnitudes below
/// 2^22. The sum's lowest bits are that number.
const ROUNDING: f32 = 12_582_912.0; // 1.5 · 2^23

/// Packs `w` with each group's scale from its largest magnitude: `[out, row_bytes]`.
///
/// # Errors
/// [`WeightsError::WrongLength`] if `w` does not have the values of `shape` or the input dimension
/// is no multiple of 32; [`WeightsError::CannotPack`] for a value that is NaN, infinite or beyond
/// what an f16 scale can reach.
pub fn quantize_group(
    w: &[f32], // [out, in]
    shape: [usize; 2],
    format: GroupFormat,
) -> Result<Vec<u8>, WeightsError> {
    check(w, shape)?;
    Ok(pack_rows(w, shape[1], format, &Scales::LargestMagnitude))
}

/// Packs `w` with the scales that make `Σ importance[column] · (w − ŵ)²` small; without
/// `importance` all columns count the same. Never worse than [`quantize_group`].
///
/// # Errors
/// As [`quantize_group`]; [`WeightsError::WrongLength`] if `importance` does not have a value for
/// each column, [`WeightsError::CannotPack`] if one is negative or not finite.
pub fn quantize_group_fitted(
    w: &[f32], // [out, in]
    shape: [usize; 2],
    format: GroupFormat,
    importance: Option<&[f32]>, // [in]
) -> Result<Vec<u8>, WeightsError> {
    check(w, shape)?;
    if let Some(importance) = importance {
        if importance.len() != shape[1] {
            return Err(WeightsError::WrongLength {
                what: "importance of columns",
                expected: shape[1],
                given: importance.len(),
            });
        }
        check_importance(importance)?;
    }
    Ok(pack_rows(
        w,
        shape[1],
        format,
        &Scales::LeastError(importance),
    ))
}

/// An error can't count for less than nothing.
pub(crate) fn check_importance(importance: &[f32]) -> Result<(), WeightsError> {
    let bad = |i: &f32| !(i.is_finite() && *i >= 0.0);
    match importance.iter().position(bad) {
        Some(index) => Err(WeightsError::CannotPack {
            what: "importance",
            index,
            value: importance[index],
        }),
        None => Ok(()),
    }
}

fn check(w: &[f32], [out, columns]: [usize; 2]) -> Result<(), WeightsError> {
    check_columns(columns)?;
    let expected = out.saturating_mul(columns);
    if w.len() != expected {
        return Err(WeightsError::WrongLength {
            what: "weight to quantise",
            expected,
            given: w.len(),
        });
    }
    match w.iter().position(|x| !packable(*x)) {
        Some(index) => Err(WeightsError::CannotPack {
            what: "value",
            index,
            value: w[index],
        }),
        None => Ok(()),
    }
}

/// Finite, and within the reach of an f16 scale.
pub(crate) fn packable(x: f32) -> bool {
    x.abs() <= MAX_PACKABLE
}

/// How a group's scale is chosen.
pub(crate) enum Scales<'a> {
    LargestMagnitude,
    /// With an importance for each column, or all the same.
    LeastError(Option<&'a [f32]>),
}

/// Packs whole rows of packable values; `columns` is a multiple of 32.
fn pack_rows(
    w: &[f32], // [out, in]
    columns: usize,
    format: GroupFormat,
    scales: &Scales<'_>,
) -> Vec<u8> {
    let row_bytes = format.row_bytes(columns);
    let mut rows = vec![0; w.len() / columns * row_bytes]; // [out, row_bytes]
    rows.par_chunks_mut(row_bytes)
        .zip(w.par_chunks_exact(columns))
        .for_each(|(row, values)| pack_row(values, format, scales, row));
    rows
}

/// Packs one row of packable values, with the best instructions that the machine has: the bits
/// don't depend on them.
pub(crate) fn pack_row(values: &[f32], format: GroupFormat, scales: &Scales<'_>, row: &mut [u8]) {
    Arch::new().dispatch(PackRow {
        values,
        format,
        scales,
        row,
    });
}

struct PackRow<'a> {
    values: &'a [f32],
    format: GroupFormat,
    scales: &'a Scales<'a>,
    row: &'a mut [u8],
}

impl WithSimd for PackRow<'_> {
    type Output = ();

    /// All that this calls is compiled for the instructions if it is inlined.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (values, format) = (self.values, self.format);
        let (codes, rest) = self.row.split_at_mut(format.code_bytes(values.len()));
        let (stored, _) = rest.as_chunks_mut::<2>();
        let stored = &mut stored[..format.scales(values.len())]; // what follows is padding
        // Groups that are looked at side by side, and room for them as lanes.
        let strips = values.chunks(format.group * LANES);
        let outs = codes.chunks_mut(format.code_bytes(format.group) * LANES);
        let mut lanes = vec![[0f32; LANES]; format.group];
        let mut weights = match self.scales {
            Scales::LeastError(Some(_)) => lanes.clone(),
            _ => Vec::new(),
        };
        for (i, ((values, out), stored)) in
            strips.zip(outs).zip(stored.chunks_mut(LANES)).enumerate()
        {
            spread(values, format.group, &mut lanes);
            let evenly = Groups::<false> {
                values: &lanes,
                importance: &lanes,
                bits: format.bits,
            };
            let scales = match self.scales {
                Scales::LargestMagnitude => evenly.plain_scales(),
                Scales::LeastError(None) => evenly.least_errors(),
                Scales::LeastError(Some(importance)) => {
                    let first = i * format.group * LANES;
                    let importance = importance.get(first..first + values.len());
                    spread(importance.unwrap_or_default(), format.group, &mut weights);
                    let weighed = Groups::<true> {
                        values: &lanes,
                        importance: &weights,
                        bits: format.bits,
                    };
                    weighed.least_errors()
                }
            };
            for (stored, scale) in stored.iter_mut().zip(scales) {
                *stored = half_bits(scale).to_le_bytes();
            }
            let groups = values.chunks(format.group);
            let outs = out.chunks_mut(format.code_bytes(format.group));
            for ((values, out), scale) in groups.zip(outs).zip(scales) {
                write_codes(values, format.bits, scale, out);
            }
        }
    }
}

/// A lane for each group; zeros behind a shorter one and in lanes without one, which change no sum.
#[inline(always)]
fn spread(values: &[f32], group: usize, lanes: &mut [Lanes]) {
    if values.len() < group * LANES {
        lanes.fill([0.0; LANES]);
    }
    for (lane, values) in values.chunks(group).enumerate().take(LANES) {
        for (to, value) in lanes.iter_mut().zip(values) {
            to[lane] = *value;
        }
    }
}

/// The smallest and largest code.
#[inline(always)]
pub(super) fn code_range(bits: GroupBits) -> (f32, f32) {
    match bits {
        GroupBits::Int8 => (-127.0, 127.0),
        GroupBits::Int4 => (-8.0, 7.0),
    }
}

/// What a value is multiplied by to get its code; zero for a scale of zero, whose codes don't
/// matter.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// A value's code, and [`ROUNDING`].
#[inline(always)]
fn rounded(x: f32, inverse: f32, (low, high): (f32, f32)) -> f32 {
    x.mul_add(inverse, ROUNDING)
        .clamp(ROUNDING + low, ROUNDING + high)
}

/// A value's code.
#[inline(always)]
pub(super) fn code(x: f32, inverse: f32, range: (f32, f32)) -> f32 {
    rounded(x, inverse, range) - ROUNDING
}

/// Codes of whole units.
#[inline(always)]
fn write_codes(values: &[f32], bits: GroupBits, scale: f32, out: &mut [u8]) {
    const HALF: usize = UNIT / 2;
    let (inverse, range) = (inverse(scale), code_range(bits));
    let (units, _) = values.as_chunks::<UNIT>();
    match bits {
        GroupBits::Int8 => {
            for (unit, out) in units.iter().zip(out.as_chunks_mut::<UNIT>().0) {
                for i in 0..UNIT {
                    out[i] = rounded(unit[i], inverse, range).to_bits() as u8;
                }
            }
        }
        GroupBits::Int4 => {
            for (unit, out) in units.iter().zip(out.as_chunks_mut::<HALF>().0) {
                for i in 0..HALF {
                    let low = rounded(unit[i], inverse, range).to_bits() as u8;
                    let high = rounded(unit[HALF + i], inverse, range).to_bits() as u8;
                    out[i] = low.wrapping_add(8) | high.wrapping_add(8) << 4;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Breaks with: an operation that rounds otherwise on some machine; the same conversion
        /// would give other files there, and could not be gone on with.
        #[test]
        fn plain_instructions_give_the_same_bits(
            values in prop::collection::vec((-1f32..1.0, -20i32..4), 96),
            importance in prop::collection::vec(0f32..9.0, 96),
            is_int4 in any::<bool>(),
            group in prop_oneof![Just(32usize), Just(64), Just(96)],
            kind in 0..3,
        ) {
            let bits = if is_int4 { GroupBits::Int4 } else { GroupBits::Int8 };
            let format = GroupFormat::new(bits, group).unwrap();
            let values: Vec<f32> = values.iter().map(|(x, e)| x * 2f32.powi(*e)).collect();
            let scales = match kind {
                0 => Scales::LargestMagnitude,
                1 => Scales::LeastError(None),
                _ => Scales::LeastError(Some(&importance)),
            };
            let mut best = vec![0; format.row_bytes(values.len())];
            pack_row(&values, format, &scales, &mut best);
            let mut plain = vec![0; best.len()];
            let row = PackRow { values: &values, format, scales: &scales, row: &mut plain };
            row.with_simd(pulp::Scalar::new());
            prop_assert_eq!(best, plain);
        }
    }
}
