//! Bytes to floats through tables: Burn has no bit casts.

use burn::backend::tensor::Device;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType};
use dsv3_weights::fp8::E4M3_TO_F32;
use half::{bf16, f16};

use crate::packed::{GROUP_UNIT, GroupCodes, HalfFormat, Packed};
use crate::stock::{Float, Ints};

/// The stored bytes as integers `[out, row_bytes]`, padding cut off.
pub(super) fn bytes<B: Backend>(data: Ints<B>, out: usize, row_bytes: usize) -> Ints<B> {
    if data.0.dtype() == DType::U8 {
        return data.cast(burn::tensor::IntDType::I32);
    }
    let words = data.shape()[1];
    let quarters = (0..4)
        .map(|i| {
            data.clone()
                .shift_right(8 * i)
                .and(0xff)
                .cast(burn::tensor::IntDType::I32)
                .reshape(&[out, words, 1])
        })
        .collect();
    Ints::cat(quarters, 2)
        .reshape(&[out, words * 4])
        .narrow(1, 0, row_bytes)
}

/// The weight as f32 `[out, in]`.
pub(crate) fn dequantize<B: Backend>(weight: &Packed<B>) -> Float<B> {
    let [out, input] = weight.shape();
    match weight {
        Packed::Plain { weight } => Float::<B>(weight.clone()).cast(FloatDType::F32),
        Packed::Half { data, format, .. } => {
            let device = data.device();
            let b = bytes(Ints::<B>(data.clone()), out, input * 2).reshape(&[out * input, 2]);
            half_values(b, *format, &device).reshape(&[out, input])
        }
        Packed::Fp8Block {
            data, scale, block, ..
        } => {
            let device = data.device();
            let codes = bytes(Ints::<B>(data.clone()), out, input).reshape(&[out * input]);
            let values = Float::<B>::from_vec(E4M3_TO_F32.to_vec(), &[256], &device)
                .select(0, codes)
                .reshape(&[out, input]);
            values.mul(expand_blocks(Float(scale.clone()), *block, out, input))
        }
        Packed::Group { data, format, .. } => {
            let device = data.device();
            let rows = bytes(Ints::<B>(data.clone()), out, format.row_bytes);
            let (code_bytes, groups) = (format.code_bytes(input), format.scales(input));
            let codes = rows.clone().narrow(1, format.offset, code_bytes); // [out, code_bytes]
            let (codes, values): (_, Vec<f32>) = match format.codes {
                GroupCodes::Int8 => (codes, (0..=u8::MAX).map(|c| f32::from(c as i8)).collect()),
                GroupCodes::Int4 => {
                    let units = input / GROUP_UNIT;
                    let halves = [codes.clone().and(15), codes.shift_right(4)];
                    let halves = halves.map(|h| h.reshape(&[out, units, 1, GROUP_UNIT / 2]));
                    let codes = Ints::cat(halves.into(), 2).reshape(&[out, input]);
                    (codes, (0..16).map(|c| c as f32 - 8.0).collect())
                }
            };
            let values = Float::<B>::from_vec(values.clone(), &[values.len()], &device)
                .select(0, codes.reshape(&[out * input]))
                .reshape(&[out, input]);
            let scales = rows.narrow(1, format.offset + code_bytes, 2 * groups); // [out, 2 · groups]
            let scales = half_values(scales.reshape(&[out * groups, 2]), HalfFormat::F16, &device);
            let scales = scales.reshape(&[out, groups]);
            values.mul(expand_blocks(scales, [1, format.columns], out, input))
        }
    }
}

/// 16-bit floats `[n, 2]`, the lower byte first, as f32 `[n]`.
fn half_values<B: Backend>(bytes: Ints<B>, format: HalfFormat, device: &Device<B>) -> Float<B> {
    let n = bytes.shape()[0];
    let low = bytes.clone().narrow(1, 0, 1).reshape(&[n]);
    let high = bytes.narrow(1, 1, 1).reshape(&[n]);
    // A table of all 65,536 is 256 KB a call; two of 256 don't add up exactly for every format, so
    // the index is the full code.
    let codes = high.scale_add(256, low); // [n]
    let table = (0..=u16::MAX)
        .map(|bits| match format {
            HalfFormat::Bf16 => bf16::from_bits(bits).to_f32(),
            HalfFormat::F16 => f16::from_bits(bits).to_f32(),
        })
        .collect();
    Float::<B>::from_vec(table, &[1 << 16], device).select(0, codes)
}

/// Block scales `[⌈out/r⌉, ⌈in/c⌉]` repeated over their blocks: `[out, in]`.
pub(super) fn expand_blocks<B: Backend>(
    scale: Float<B>,
    [r, c]: [usize; 2],
    out: usize,
    input: usize,
) -> Float<B> {
    let (rows, columns) = (scale.dim(0), scale.dim(1));
    scale
        .reshape(&[rows, 1, columns, 1])
        .repeat(1, r)
        .repeat(3, c) // [rows, r, columns, c]
        .reshape(&[rows * r, columns * c])
        .narrow(0, 0, out)
        .narrow(1, 0, input)
}
