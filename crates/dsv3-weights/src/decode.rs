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

fn fill<const N: usize>(out: &mut [f32], bytes: &[u8], read: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (x, element) in out.iter_mut().zip(elements) {
        *x = read(*element);
    }
}
