//! The e4m3 number format and the block scales around it.
//!
//! e4m3fn as in the OCP 8-bit floating point specification: exponent bias 7, largest value 448
//! (`0x7E`), no infinity, NaN at `0x7F` and `0xFF`, smallest normal 2⁻⁶, smallest subnormal 2⁻⁹.
//! Scale rules follow DeepSeek's `inference/kernel.py` (`act_quant`, `weight_dequant`) and, for
//! power-of-two scales, DeepGEMM's `ceil_to_ue8m0`.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{ScaleFmt, WeightsError};

/// The largest finite e4m3 value.
pub const E4M3_MAX: f32 = 448.0;

/// A group's largest magnitude counts as at least this much, so that no scale is zero
/// (DeepSeek's `act_quant`).
pub const AMAX_FLOOR: f32 = 1e-4;

/// How many activations of a row share one scale in DeepSeek's W8A8 arithmetic.
pub const ACTIVATION_GROUP: usize = 128;

/// The value of every e4m3 byte; NaN at `0x7F` and `0xFF`.
pub const E4M3_TO_F32: [f32; 256] = e4m3_table();

const fn e4m3_table() -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        let sign = (code as u32 & 0x80) << 24;
        let exponent = (code as u32 >> 3) & 15;
        let mantissa = code as u32 & 7;
        let magnitude = if exponent == 15 && mantissa == 7 {
            f32::NAN.to_bits()
        } else if exponent == 0 {
            // Subnormal: mantissa counts units of 2^-9, exactly representable in f32.
            (mantissa as f32 * 0.001_953_125).to_bits()
        } else {
            ((exponent + 120) << 23) | (mantissa << 20)
        };
        table[code] = f32::from_bits(sign | magnitude);
        code += 1;
    }
    table
}

/// The value of one e4m3 byte.
#[inline]
pub fn e4m3_to_f32(code: u8) -> f32 {
    E4M3_TO_F32[code as usize]
}

/// The e4m3 byte nearest to `x`: ties to even, magnitudes above 448 (infinity too) saturate,
/// NaN gives `0x7F`, the sign of zero is kept.
#[inline]
pub fn f32_to_e4m3(x: f32) -> u8 {
    let bits = x.to_bits();
    let sign = ((bits >> 24) & 0x80) as u8;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return 0x7f;
    }
    let code = if magnitude >= 0x43e0_0000 {
        0x7e // 448 and above
    } else if magnitude < 0x3c80_0000 {
        // Below 2^-6: adding 2^14 leaves units of 2^-9 in the mantissa, rounded to even by the
        // addition itself. A count of 8 is the code of the smallest normal.
        (f32::from_bits(magnitude) + 16384.0).to_bits() - 16384f32.to_bits()
    } else {
        // Round to 3 mantissa bits, carrying into the exponent where it must, then rebias.
        let rounded = magnitude + 0x7_ffff + ((magnitude >> 20) & 1);
        ((rounded >> 20) - (120 << 3)).min(0x7e)
    };
    sign | code as u8
}

/// The smallest power of two that is at least `scale`, for a positive scale; bit for bit what
/// DeepGEMM's `ceil_to_ue8m0` gives. Exact powers of two stay. The result's exponent is kept
/// within 2⁻¹²⁶..2¹²⁷.
#[inline]
pub fn ceil_to_ue8m0(scale: f32) -> f32 {
    let bits = scale.to_bits();
    let exponent = ((bits >> 23) & 255) + u32::from(bits & 0x7f_ffff != 0);
    f32::from_bits(exponent.clamp(1, 254) << 23)
}

/// Whether `x` is a positive, finite, exact power of two.
#[inline]
pub fn is_power_of_two(x: f32) -> bool {
    let bits = x.to_bits();
    match bits >> 23 {
        0 => (bits & 0x7f_ffff).count_ones() == 1, // subnormal powers of two
        1..=254 => bits & 0x7f_ffff == 0,
        _ => false, // negative, infinite or NaN
    }
}

/// The value of one E8M0 byte: 2^(code − 127), NaN at `0xFF`.
#[inline]
pub fn e8m0_to_f32(code: u8) -> f32 {
    match code {
        255 => f32::NAN,
        0 => f32::from_bits(0x0040_0000), // 2^-127, subnormal in f32
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// The scale for a group whose largest magnitude is `amax`.
#[inline]
fn scale_for(amax: f32, ue8m0: bool) -> f32 {
    let scale = amax.max(AMAX_FLOOR) / E4M3_MAX;
    if ue8m0 { ceil_to_ue8m0(scale) } else { scale }
}

/// A matrix in fp8 with one scale per block: `value = e4m3(code) · scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fp8Matrix {
    /// Codes, row-major, `[rows, cols]`.
    pub data: Vec<u8>,
    /// Scales, row-major, `[ceil(rows / block[0]), ceil(cols / block[1])]`.
    pub scale: Vec<f32>,
}

/// Quantises a weight `[rows, cols]` by blocks, as the published checkpoints are:
/// `scale = max(amax, 1e-4) / 448`, rounded up to a power of two for [`ScaleFmt::Ue8m0`], and the
/// codes are `e4m3(w / scale)` with the *rounded* scale. Blocks at the edges may be partial.
///
/// # Errors
/// [`WeightsError::WrongLength`] if `w` does not have `rows · cols` values or a block side is 0.
/// NaN is not refused here: it becomes `0x7F`.
pub fn quantize_block(
    w: &[f32], // [rows, cols]
    shape: [usize; 2],
    block: [usize; 2],
    fmt: ScaleFmt,
) -> Result<Fp8Matrix, WeightsError> {
    let [rows, cols] = shape;
    let [block_rows, block_cols] = block;
    let expected = rows.saturating_mul(cols);
    if w.len() != expected {
        let what = "weight to quantise";
        return Err(WeightsError::WrongLength {
            what,
            expected,
            given: w.len(),
        });
    }
    if block_rows == 0 || block_cols == 0 {
        return Err(WeightsError::WrongLength {
            what: "block side",
            expected: 1,
            given: 0,
        });
    }
    let mut data = vec![0; w.len()];
    let across = cols.div_ceil(block_cols);
    let mut scale = vec![0.0; rows.div_ceil(block_rows) * across];
    if w.is_empty() {
        return Ok(Fp8Matrix { data, scale });
    }
    let strip = block_rows * cols;
    data.par_chunks_mut(strip)
        .zip(scale.par_chunks_mut(across))
        .zip(w.par_chunks(strip))
        .for_each(|((codes, scales), values)| {
            quantize_strip(
                values,
                cols,
                block_cols,
                fmt == ScaleFmt::Ue8m0,
                codes,
                scales,
            );
        });
    Ok(Fp8Matrix { data, scale })
}

/// One row of blocks: `values` and `codes` `[≤ block rows, cols]`, one scale per block.
fn quantize_strip(
    values: &[f32],
    cols: usize,
    block_cols: usize,
    ue8m0: bool,
    codes: &mut [u8],
    scales: &mut [f32],
) {
    scales.fill(0.0);
    for row in values.chunks_exact(cols) {
        for (amax, group) in scales.iter_mut().zip(row.chunks(block_cols)) {
            *amax = group.iter().fold(*amax, |m, x| m.max(x.abs()));
        }
    }
    for scale in scales.iter_mut() {
        *scale = scale_for(*scale, ue8m0);
    }
    for (row, out) in values.chunks_exact(cols).zip(codes.chunks_exact_mut(cols)) {
        let groups = row.chunks(block_cols).zip(out.chunks_mut(block_cols));
        for ((group, out), scale) in groups.zip(scales.iter()) {
            for (x, code) in group.iter().zip(out) {
                *code = f32_to_e4m3(x / scale);
            }
        }
    }
}

/// Quantises one group of activations that share a scale (128 of them in DeepSeek's arithmetic);
/// returns the codes and the scale: `x ≈ e4m3(code) · scale`.
pub fn quantize_row_group(x: &[f32], ue8m0: bool) -> (Vec<u8>, f32) {
    let mut codes = vec![0; x.len()];
    let scale = quantize_row_group_into(x, ue8m0, &mut codes);
    (codes, scale)
}

/// As [`quantize_row_group`], writing the codes into `codes`, which should be as long as `x`.
pub fn quantize_row_group_into(x: &[f32], ue8m0: bool, codes: &mut [u8]) -> f32 {
    debug_assert_eq!(x.len(), codes.len());
    let amax = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let scale = scale_for(amax, ue8m0);
    for (v, code) in x.iter().zip(codes) {
        *code = f32_to_e4m3(v / scale);
    }
    scale
}

/// The inverse of [`quantize_block`], into `out` `[rows, cols]`; the slow, obvious form.
///
/// # Errors
/// [`WeightsError::WrongLength`] if codes or scales do not fit shape and block.
pub fn dequantize_block(
    codes: &[u8],  // [rows, cols]
    scale: &[f32], // [ceil(rows / block[0]), ceil(cols / block[1])]
    shape: [usize; 2],
    block: [usize; 2],
) -> Result<Vec<f32>, WeightsError> {
    let [rows, cols] = shape;
    let expected = rows.saturating_mul(cols);
    if codes.len() != expected {
        return Err(WeightsError::WrongLength {
            what: "fp8 codes",
            expected,
            given: codes.len(),
        });
    }
    if block[0] == 0 || block[1] == 0 {
        return Err(WeightsError::WrongLength {
            what: "block side",
            expected: 1,
            given: 0,
        });
    }
    let across = cols.div_ceil(block[1]);
    let expected = rows.div_ceil(block[0]) * across;
    if scale.len() != expected {
        return Err(WeightsError::WrongLength {
            what: "block scales",
            expected,
            given: scale.len(),
        });
    }
    let mut out = vec![0.0; codes.len()];
    if out.is_empty() {
        return Ok(out);
    }
    let strip = block[0] * cols;
    out.par_chunks_mut(strip)
        .zip(codes.par_chunks(strip))
        .zip(scale.par_chunks(across))
        .for_each(|((out, codes), scales)| {
            for (out, codes) in out.chunks_exact_mut(cols).zip(codes.chunks_exact(cols)) {
                let blocks = out.chunks_mut(block[1]).zip(codes.chunks(block[1]));
                for ((out, codes), scale) in blocks.zip(scales) {
                    for (y, code) in out.iter_mut().zip(codes) {
                        *y = e4m3_to_f32(*code) * scale;
                    }
                }
            }
        });
    Ok(out)
}

/// One row of the same, into as many `out`, by the machine's vectors; `block` is not 0.
pub(crate) fn dequantize_row(codes: &[u8], scales: &[f32], block: usize, out: &mut [f32]) {
    Arch::new().dispatch(Row {
        codes,
        scales,
        block,
        out,
    });
}

struct Row<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    block: usize,
    out: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let blocks = self.out.chunks_mut(self.block);
        let blocks = blocks.zip(self.codes.chunks(self.block));
        for ((out, codes), scale) in blocks.zip(self.scales) {
            for (y, code) in out.iter_mut().zip(codes) {
                *y = computed(*code) * scale;
            }
        }
    }
}

/// The value of one e4m3 byte, in instructions that make vectors.
#[inline(always)]
fn computed(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7f);
    let normal = (magnitude << 20) + (120 << 23);
    // Units of 2^-9. Shifted into place they would be f32's subnormals, which are slow.
    let subnormal = (magnitude as i32 as f32 * 0.001_953_125).to_bits();
    let mut bits = if magnitude < 8 { subnormal } else { normal };
    if magnitude == 0x7f {
        bits = f32::NAN.to_bits();
    }
    f32::from_bits(bits | u32::from(code & 0x80) << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a code whose value a conversion takes for another's.
    #[test]
    fn rows_have_the_values_of_the_table() {
        let codes: Vec<u8> = (0..=255).collect();
        let scales = [1.0, 0.75, -3.0];
        let mut row = [0f32; 256];
        dequantize_row(&codes, &scales, 100, &mut row);
        for (i, value) in row.into_iter().enumerate() {
            let want = E4M3_TO_F32[i] * scales[i / 100];
            let same = value.to_bits() == want.to_bits() || value.is_nan() && want.is_nan();
            assert!(same, "{i:#x}: {value} for {want}");
        }
    }
}
