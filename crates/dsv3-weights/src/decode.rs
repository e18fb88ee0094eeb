//! Little-endian bytes of a float format to f32.

use half::{bf16, f16};

use crate::Dtype;
use crate::fp8::{e4m3_to_f32, e8m0_to_f32};

/// All values, or `None` if the dtype is not a float that f32 can hold.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let mut out = vec![0.0; bytes.len() / dtype.size_bytes()];
    into_f32(dtype, bytes, &mut out).then_some(out)
}

/// Fills `out` from as many elements of `bytes`; false if the dtype cannot be read.
pub(crate) fn into_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::F32 => fill(out, bytes, f32::from_le_bytes),
        Dtype::BF16 => fill(out, bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => fill(out, bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::F8E4M3 => fill(out, bytes, |[b]: [u8; 1]| e4m3_to_f32(b)),
        Dtype::F8E8M0 => fill(out, bytes, |[b]: [u8; 1]| e8m0_to_f32(b)),
        _ => return false,
    }
    true
}

/// The first element that is NaN or infinite, looked for in the bytes; `None` within for all
/// finite, without for a dtype that [`into_f32`] does not read.
pub(crate) fn first_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<Option<usize>> {
    Some(match dtype {
        Dtype::F32 => first_with(bytes, |b| u32::from_le_bytes(b) << 1 >= 0xff00_0000),
        Dtype::BF16 => first_with(bytes, |b| u16::from_le_bytes(b) << 1 >= 0xff00),
        Dtype::F16 => first_with(bytes, |b| u16::from_le_bytes(b) << 1 >= 0xf800),
        Dtype::F8E4M3 => first_with(bytes, |[b]: [u8; 1]| b & 0x7f == 0x7f),
        Dtype::F8E8M0 => first_with(bytes, |[b]: [u8; 1]| b == 0xff),
        _ => return None,
    })
}

fn first_with<const N: usize>(bytes: &[u8], is: impl Fn([u8; N]) -> bool) -> Option<usize> {
    /// Looked at without a branch, which vectors are made of.
    const STRIP: usize = 256;
    let (elements, _) = bytes.as_chunks::<N>();
    let strip = elements
        .chunks(STRIP)
        .position(|strip| strip.iter().fold(false, |any, e| any | is(*e)))?;
    let first = strip * STRIP;
    let within = elements[first..].iter().position(|e| is(*e));
    within.map(|at| first + at)
}

fn fill<const N: usize>(out: &mut [f32], bytes: &[u8], read: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (x, element) in out.iter_mut().zip(elements) {
        *x = read(*element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a bit pattern that is taken for a number, or a number for none; an element
    /// counted from the strip's start.
    #[test]
    fn what_is_not_finite_is_found_where_it_is() {
        for dtype in [
            Dtype::F32,
            Dtype::BF16,
            Dtype::F16,
            Dtype::F8E4M3,
            Dtype::F8E8M0,
        ] {
            let size = dtype.size_bytes();
            // The two upper bytes decide; those below make infinity NaN.
            let uppers = if size == 1 { 1 << 8 } else { 1 << 16 };
            for upper in 0..uppers {
                for below in [0u8, 1] {
                    let mut element = vec![below; size];
                    let upper = u16::to_le_bytes(upper as u16);
                    let kept = size.min(2);
                    element[size - kept..].copy_from_slice(&upper[..kept]);
                    let mut value = [0f32];
                    assert!(into_f32(dtype, &element, &mut value));
                    let want = (!value[0].is_finite()).then_some(0);
                    let found = first_not_finite(dtype, &element);
                    assert_eq!(found, Some(want), "{dtype:?} {element:02x?}");
                }
            }
            for at in [0, 1, 255, 256, 700, 999] {
                let mut bytes = vec![0; 1000 * size];
                bytes[at * size..(at + 1) * size].fill(0xff);
                assert_eq!(first_not_finite(dtype, &bytes), Some(Some(at)), "{dtype:?}");
            }
        }
        assert_eq!(first_not_finite(Dtype::I64, &[0xff; 8]), None);
    }
}
