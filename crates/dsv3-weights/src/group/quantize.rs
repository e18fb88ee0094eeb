//! Choosing scales and codes.
//!
//! The plain way sets a group's scale by its largest magnitude. The other tries a few dozen scales
//! around that one, takes the one with the least squared error and then alternates: the best scale
//! for the codes, in closed form, and the best codes for that scale. Scales are rounded to f16
//! before codes are chosen or errors counted, so what is compared is what will be read.

use half::f16;
use rayon::prelude::*;

use crate::WeightsError;

use super::{GroupBits, GroupFormat, UNIT, check_columns};

/// Values beyond this cannot be packed: their scale might not be a finite f16 (at most 65,504).
const MAX_PACKABLE: f32 = 65_504.0 * 7.0;

/// Scales tried for int4, as multiples of the plain one. Clipping the largest magnitudes pays for
/// finer steps down to about 0.7 of it; above 1 the largest code is given up.
const INT4_TRIED: (f32, f32, u8) = (0.66, 0.02, 24);
/// Scales tried for int8, where clipping never pays for much.
const INT8_TRIED: (f32, f32, u8) = (0.92, 0.005, 21);
/// Rounds of scale for codes and codes for scale.
const REFITS: usize = 4;

/// Added and subtracted it rounds to the nearest whole number, ties to even, for magnitudes below
/// 2^22; the compiler makes vectors of it, which it does not of `round_ties_even` everywhere.
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
pub(crate) fn pack_rows(
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

fn pack_row(values: &[f32], format: GroupFormat, scales: &Scales<'_>, row: &mut [u8]) {
    let (codes, rest) = row.split_at_mut(format.code_bytes(values.len()));
    let (stored, _) = rest.as_chunks_mut::<2>();
    let groups = values.chunks(format.group);
    let outs = codes.chunks_mut(format.code_bytes(format.group));
    for (i, ((group, out), stored)) in groups.zip(outs).zip(stored).enumerate() {
        let scale = match scales {
            Scales::LargestMagnitude => plain_scale(group, format.bits),
            Scales::LeastError(importance) => {
                let first = i * format.group;
                let importance = importance.and_then(|i| i.get(first..first + group.len()));
                let group = Group {
                    values: group,
                    importance,
                    bits: format.bits,
                };
                group.least_error()
            }
        };
        *stored = scale.to_le_bytes();
        write_codes(group, format.bits, scale.to_f32(), out);
    }
}

/// The scale with which the largest magnitude is the largest code.
fn plain_scale(values: &[f32], bits: GroupBits) -> f16 {
    f16::from_f32(extreme(values, bits) / full_code(bits))
}

/// The value of largest magnitude; with its sign where codes reach further down than up, so that
/// the scale's sign can make up for that.
fn extreme(values: &[f32], bits: GroupBits) -> f32 {
    let larger = |a: f32, b: &f32| if b.abs() > a.abs() { *b } else { a };
    let extreme = values.iter().fold(0.0, larger);
    match bits {
        GroupBits::Int8 => extreme.abs(),
        GroupBits::Int4 => extreme,
    }
}

/// The code of the largest magnitude.
fn full_code(bits: GroupBits) -> f32 {
    match bits {
        GroupBits::Int8 => 127.0,
        GroupBits::Int4 => -8.0,
    }
}

/// The smallest and largest code.
fn code_range(bits: GroupBits) -> (f32, f32) {
    match bits {
        GroupBits::Int8 => (-127.0, 127.0),
        GroupBits::Int4 => (-8.0, 7.0),
    }
}

/// What a value is multiplied by to get its code; zero for a scale of zero, whose codes don't
/// matter.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

#[inline(always)]
fn code(x: f32, inverse: f32, (low, high): (f32, f32)) -> f32 {
    ((x * inverse).clamp(low, high) + ROUNDING) - ROUNDING
}

fn write_codes(values: &[f32], bits: GroupBits, scale: f32, out: &mut [u8]) {
    let (inverse, range) = (inverse(scale), code_range(bits));
    match bits {
        GroupBits::Int8 => {
            for (x, out) in values.iter().zip(out) {
                *out = (code(*x, inverse, range) as i8).cast_unsigned();
            }
        }
        GroupBits::Int4 => {
            for (unit, out) in values.chunks(UNIT).zip(out.chunks_mut(UNIT / 2)) {
                let (low, high) = unit.split_at(UNIT / 2);
                for ((low, high), out) in low.iter().zip(high).zip(out) {
                    let half = |x: f32| (code(x, inverse, range) + 8.0) as u8;
                    *out = half(*low) | half(*high) << 4;
                }
            }
        }
    }
}

/// Values that share a scale.
struct Group<'a> {
    values: &'a [f32],
    importance: Option<&'a [f32]>,
    bits: GroupBits,
}

impl Group<'_> {
    fn least_error(&self) -> f16 {
        let plain = plain_scale(self.values, self.bits);
        let (first, step, count) = match self.bits {
            GroupBits::Int8 => INT8_TRIED,
            GroupBits::Int4 => INT4_TRIED,
        };
        let mut best = (self.error(plain), plain);
        let mut consider = |scale: f16| {
            let error = self.error(scale);
            if scale.is_finite() && error < best.0 {
                best = (error, scale);
            }
        };
        let extreme = extreme(self.values, self.bits);
        // For int4 the extreme as the lowest code, and as the highest.
        let ends: &[f32] = match self.bits {
            GroupBits::Int8 => &[127.0],
            GroupBits::Int4 => &[-8.0, 7.0],
        };
        for end in ends {
            for i in 0..count {
                consider(f16::from_f32(extreme / end * (first + step * f32::from(i))));
            }
        }
        for _ in 0..REFITS {
            let refitted = self.scale_for_codes(best.1);
            if refitted == best.1 || !refitted.is_finite() {
                break;
            }
            let error = self.error(refitted);
            if error >= best.0 {
                break;
            }
            best = (error, refitted);
        }
        // In f32 a sum may lie; between the two that matter f64 decides.
        if self.exact_error(best.1) < self.exact_error(plain) {
            best.1
        } else {
            plain
        }
    }

    /// `Σ importance · (w − ŵ)²` with this scale, in f32 over sixteen lanes.
    fn error(&self, scale: f16) -> f32 {
        let scale = scale.to_f32();
        let (inverse, range) = (inverse(scale), code_range(self.bits));
        let mut lanes = [0f32; 16];
        let (values, _) = self.values.as_chunks::<16>();
        match self.importance {
            None => {
                for x in values {
                    for (lane, x) in lanes.iter_mut().zip(x) {
                        let off = x - code(*x, inverse, range) * scale;
                        *lane += off * off;
                    }
                }
            }
            Some(importance) => {
                let (importance, _) = importance.as_chunks::<16>();
                for (x, importance) in values.iter().zip(importance) {
                    for ((lane, x), importance) in lanes.iter_mut().zip(x).zip(importance) {
                        let off = x - code(*x, inverse, range) * scale;
                        *lane += importance * off * off;
                    }
                }
            }
        }
        lanes.iter().sum()
    }

    fn exact_error(&self, scale: f16) -> f64 {
        let scale = scale.to_f32();
        let (inverse, range) = (inverse(scale), code_range(self.bits));
        self.sum(|x| {
            let off = f64::from(x) - f64::from(code(x, inverse, range) * scale);
            off * off
        })
    }

    /// The scale of least error for the codes that `scale` gives: `Σ i·w·c / Σ i·c²`.
    fn scale_for_codes(&self, scale: f16) -> f16 {
        let (inverse, range) = (inverse(scale.to_f32()), code_range(self.bits));
        let code = |x: f32| f64::from(code(x, inverse, range));
        let squares = self.sum(|x| code(x) * code(x));
        if squares == 0.0 {
            return scale;
        }
        f16::from_f64(self.sum(|x| f64::from(x) * code(x)) / squares)
    }

    /// `Σ importance · of(w)`
    fn sum(&self, of: impl Fn(f32) -> f64) -> f64 {
        match self.importance {
            None => self.values.iter().map(|x| of(*x)).sum(),
            Some(importance) => {
                let pairs = self.values.iter().zip(importance);
                pairs.map(|(x, i)| f64::from(*i) * of(*x)).sum()
            }
        }
    }
}
