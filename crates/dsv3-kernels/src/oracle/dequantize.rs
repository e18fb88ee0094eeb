//! Bytes to floats through tables: Burn has no bit casts.

use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType};
use dsv3_weights::fp8::E4M3_TO_F32;
use half::{bf16, f16};

use crate::packed::{HalfFormat, Packed};
use crate::stock::{Float, Ints};

/// The stored bytes as integers `[out, row_bytes]`, padding cut off.
fn bytes<B: Backend>(data: Ints<B>, out: usize, row_bytes: usize) -> Ints<B> {
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
            let low = b.clone().narrow(1, 0, 1).reshape(&[out * input]);
            let high = b.narrow(1, 1, 1).reshape(&[out * input]);
            // A table of all 65,536 would be 256 KB a call; two of 256 don't add up exactly for
            // every format, so the index is the full code.
            let codes = high.scale_add(256, low); // [out · in]
            let table = (0..=u16::MAX)
                .map(|bits| match format {
                    HalfFormat::Bf16 => bf16::from_bits(bits).to_f32(),
                    HalfFormat::F16 => f16::from_bits(bits).to_f32(),
                })
                .collect();
            Float::<B>::from_vec(table, &[1 << 16], &device)
                .select(0, codes)
                .reshape(&[out, input])
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
    }
}

/// Block scales `[⌈out/r⌉, ⌈in/c⌉]` repeated over their blocks: `[out, in]`.
fn expand_blocks<B: Backend>(
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
