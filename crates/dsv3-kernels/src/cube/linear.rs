//! `x · Wᵀ` from packed words: one thread an output element, the weight decoded in registers.
//!
//! Words are `u32` because WGSL has no bytes. Every thread adds its products in the order of the
//! columns, so a row's result does not depend on the other rows.

use burn::backend::{TensorMetadata, ops::FloatTensorOps};
use burn::tensor::{DType, FloatDType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::prelude::Tensor as CubeArg;
use cubecl::prelude::*;
use cubecl::{self as cubecl, calculate_cube_count_elemwise};

use crate::oracle;
use crate::packed::{Activations, HalfFormat, Packed};

/// One e4m3 code to f32, by moving its bits: bias 7 becomes bias 127, subnormals are `m · 2^-9`.
#[cube]
fn decode_e4m3(code: u32) -> f32 {
    let sign = (code & 0x80u32) << 24u32;
    let normal = f32::reinterpret(sign | (((code & 0x7fu32) << 20u32) + (120u32 << 23u32)));
    let magnitude = f32::cast_from(code & 7u32) * f32::new(0.001953125);
    let subnormal = select(sign != 0u32, -magnitude, magnitude);
    select((code & 0x78u32) == 0u32, subnormal, normal)
}

/// `x [T, in]`, words `[out, ⌈in / 4⌉]`, scale `[⌈out / r⌉, ⌈in / c⌉]` → `y [T, out]`.
#[cube(launch)]
fn fp8_block_kernel(
    x: &CubeArg<f32>,
    words: &CubeArg<u32>,
    scale: &CubeArg<f32>,
    y: &mut CubeArg<f32>,
    #[comptime] block_rows: usize,
    #[comptime] block_columns: usize,
) {
    if ABSOLUTE_POS < y.len() {
        let input = x.shape(1);
        let out = words.shape(0);
        let row_words = words.shape(1);
        let blocks = scale.shape(1);
        let token = ABSOLUTE_POS / out;
        let row = ABSOLUTE_POS % out;
        let mut sum = f32::new(0.0);
        for w in 0..row_words {
            let word = words[row * row_words + w];
            for i in 0..4 {
                let column = w * 4 + i;
                if column < input {
                    let code = (word >> (8u32 * (i as u32))) & 0xffu32;
                    let s = scale[(row / block_rows) * blocks + column / block_columns];
                    sum += x[token * input + column] * (decode_e4m3(code) * s);
                }
            }
        }
        y[ABSOLUTE_POS] = sum;
    }
}

/// `x [T, in]`, words `[out, ⌈in / 2⌉]` of two bf16 → `y [T, out]`.
#[cube(launch)]
fn bf16_kernel(x: &CubeArg<f32>, words: &CubeArg<u32>, y: &mut CubeArg<f32>) {
    if ABSOLUTE_POS < y.len() {
        let input = x.shape(1);
        let out = words.shape(0);
        let row_words = words.shape(1);
        let token = ABSOLUTE_POS / out;
        let row = ABSOLUTE_POS % out;
        let mut sum = f32::new(0.0);
        for w in 0..row_words {
            let word = words[row * row_words + w];
            let column = w * 2;
            sum += x[token * input + column] * f32::reinterpret(word << 16u32);
            if column + 1 < input {
                sum += x[token * input + column + 1] * f32::reinterpret(word & 0xffff0000u32);
            }
        }
        y[ABSOLUTE_POS] = sum;
    }
}

/// `x [T, in]`, `w [out, in]` → `[T, out]`.
pub(super) fn packed_linear(
    x: CubeTensor,
    weight: &Packed<CubeBackend>,
    activations: Activations,
) -> CubeTensor {
    let (data, launch) = match weight {
        Packed::Fp8Block { data, .. } => (data, true),
        Packed::Half { data, format, .. } => (data, *format == HalfFormat::Bf16),
        Packed::Group { data, .. } => (data, false),
        Packed::Plain { weight } => (weight, false),
    };
    if !launch {
        return oracle::packed_linear::<CubeBackend>(x, weight, activations);
    }
    let x = oracle::rounded::<CubeBackend>(x, weight, activations);
    let dtype = x.dtype();
    let x = match dtype {
        DType::F32 => x,
        _ => CubeBackend::float_cast(x, FloatDType::F32),
    };
    let (x, words) = (into_contiguous(x), into_contiguous(data.clone()));
    let shape = Shape::from(vec![x.meta.shape()[0], weight.shape()[0]]);
    let count = shape.num_elements();
    let client = x.client.clone();
    let y = CubeTensor::new_contiguous(
        client.clone(),
        x.device.clone(),
        shape,
        client.empty(count * size_of::<f32>()),
        DType::F32,
    );
    let dim = CubeDim::new(&client, count);
    let cubes = calculate_cube_count_elemwise(&client, count, dim);
    match weight {
        Packed::Fp8Block { scale, block, .. } => fp8_block_kernel::launch(
            &client,
            cubes,
            dim,
            x.into_tensor_arg(),
            words.into_tensor_arg(),
            into_contiguous(scale.clone()).into_tensor_arg(),
            y.clone().into_tensor_arg(),
            block[0],
            block[1],
        ),
        _ => bf16_kernel::launch(
            &client,
            cubes,
            dim,
            x.into_tensor_arg(),
            words.into_tensor_arg(),
            y.clone().into_tensor_arg(),
        ),
    }
    match dtype {
        DType::BF16 => CubeBackend::float_cast(y, FloatDType::BF16),
        DType::F16 => CubeBackend::float_cast(y, FloatDType::F16),
        _ => y,
    }
}
