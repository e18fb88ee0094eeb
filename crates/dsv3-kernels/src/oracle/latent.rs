//! Writing and reading the latent cache.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, IntDType};
use dsv3_weights::fp8::E4M3_TO_F32;

use super::activations::e4m3_codes;
use super::dequantize::{bytes, expand_blocks};
use crate::latent::{Fp8Latents, LATENT_GROUP, Latents};
use crate::spec::{ACTIVATION_AMAX_FLOOR, E4M3_MAX};
use crate::stock::{Float, Ints};

/// Runs of consecutive slots, as (first row, first slot, length).
fn runs(slots: &[u32]) -> Vec<(usize, usize, usize)> {
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for (row, &slot) in slots.iter().enumerate() {
        match runs.last_mut() {
            Some((_, first, len)) if *first + *len == slot as usize => *len += 1,
            _ => runs.push((row, slot as usize, 1)),
        }
    }
    runs
}

/// `rows [T, d]` to their slots in `cache [blocks, size, d]`.
fn write<B: Backend>(cache: Float<B>, rows: &Float<B>, slots: &[u32]) -> Float<B> {
    let rows = rows.clone().cast(cache.dtype());
    let [blocks, size, d] = [cache.dim(0), cache.dim(1), cache.dim(2)];
    let mut flat = cache.reshape(&[blocks * size, d]); // [slots, d]
    for (row, slot, len) in runs(slots) {
        flat = flat.write(0, slot, rows.clone().narrow(0, row, len));
    }
    flat.reshape(&[blocks, size, d])
}

/// As [`write`], for integers.
fn write_ints<B: Backend>(cache: Ints<B>, rows: &Ints<B>, slots: &[u32]) -> Ints<B> {
    let shape = cache.shape();
    let [blocks, size, d] = [shape[0], shape[1], shape[2]];
    let mut flat = cache.reshape(&[blocks * size, d]); // [slots, d]
    for (row, slot, len) in runs(slots) {
        flat = flat.write(0, slot, rows.clone().narrow(0, row, len));
    }
    flat.reshape(&[blocks, size, d])
}

/// `cache [blocks, size, d]`, `rows [T, d]`, one slot a row → the cache.
pub(crate) fn append_latent<B: Backend>(
    cache: FloatTensor<B>,
    rows: FloatTensor<B>,
    slots: &[u32],
) -> FloatTensor<B> {
    write::<B>(Float(cache), &Float(rows), slots).0
}

/// As [`append_latent`], `rows [T, latent + rope]`. What is not finite has no code.
pub(crate) fn append_fp8_latent<B: Backend>(
    cache: Fp8Latents<B>,
    rows: FloatTensor<B>,
    slots: &[u32],
) -> Fp8Latents<B> {
    let rows = Float::<B>(rows).cast(FloatDType::F32); // [T, latent + rope]
    let (codes, keys) = (Ints::<B>(cache.codes), Float::<B>(cache.keys));
    let (tokens, rope) = (rows.dim(0), keys.dim(2));
    let latent = rows.dim(1) - rope;
    let (new_codes, new_scales) = encode_groups(rows.clone().narrow(1, 0, latent));
    let new_codes = match codes.0.dtype() {
        DType::U8 => new_codes.cast(IntDType::U8), // [T, latent]
        _ => words(new_codes, tokens),             // [T, ⌈latent / 4⌉]
    };
    Fp8Latents {
        codes: write_ints(codes, &new_codes, slots).0,
        scales: write(Float(cache.scales), &new_scales, slots).0,
        keys: write(keys, &rows.narrow(1, latent, rope), slots).0,
    }
}

/// `x [T, latent]` to e4m3 codes `[T, latent]` and scales `[T, ⌈latent / 128⌉]`.
fn encode_groups<B: Backend>(x: Float<B>) -> (Ints<B>, Float<B>) {
    let latent = x.dim(1);
    let groups = (0..latent).step_by(LATENT_GROUP).map(|start| {
        let v = x.clone().narrow(1, start, LATENT_GROUP.min(latent - start)); // [T, group]
        let amax = v.clone().abs().max_dim(1).clamp_min(ACTIVATION_AMAX_FLOOR);
        let scale = amax.scale_down(E4M3_MAX); // [T, 1]
        (e4m3_codes(v.div(scale.clone())), scale)
    });
    let (codes, scales) = groups.unzip();
    (Ints::cat(codes, 1), Float::cat(scales, 1))
}

/// Codes of four columns each in a word, the first in its lowest byte: `[T, n]` → `[T, ⌈n / 4⌉]`.
fn words<B: Backend>(codes: Ints<B>, tokens: usize) -> Ints<B> {
    let n = codes.shape()[1];
    let codes = codes.cast(IntDType::U32);
    let short = n.next_multiple_of(4) - n;
    let codes = match short {
        0 => codes,
        _ => {
            let filler = codes.clone().narrow(1, 0, short);
            Ints::cat(vec![codes, filler], 1)
        }
    };
    let quarters = codes.reshape(&[tokens, n.div_ceil(4), 4]);
    let quarter = |i| quarters.clone().narrow(2, i, 1);
    let word = (0..3)
        .rev()
        .fold(quarter(3), |word, i| word.scale_add(256, quarter(i)));
    word.reshape(&[tokens, n.div_ceil(4)])
}

/// The tokens in `slots` as f32 `[slots, latent + rope]`.
pub(crate) fn latent_rows<B: Backend>(
    cache: &Latents<B>,
    slots: impl Iterator<Item = usize>,
) -> Float<B> {
    let slots: Vec<i32> = slots.map(|slot| slot as i32).collect();
    let count = slots.len();
    let chosen = |tensor: &FloatTensor<B>| {
        let tensor = Float::<B>(tensor.clone());
        let (all, width) = (tensor.dim(0) * tensor.dim(1), tensor.dim(2));
        let slots = Ints::from_vec(slots.clone(), &tensor.device());
        let rows = tensor.reshape(&[all, width]).select(0, slots);
        rows.cast(FloatDType::F32) // [slots, width]
    };
    match cache {
        Latents::Floats { rows } => chosen(rows),
        Latents::Fp8 { blocks } => {
            let (scales, keys) = (chosen(&blocks.scales), chosen(&blocks.keys));
            let codes = Ints::<B>(blocks.codes.clone());
            let (device, shape) = (codes.0.device(), codes.shape());
            let (all, width) = (shape[0] * shape[1], shape[2]);
            let codes = codes.reshape(&[all, width]);
            let codes = codes.select(0, Ints::from_vec(slots.clone(), &device));
            let latent = match codes.0.dtype() {
                DType::U8 => width,
                _ => 4 * width,
            };
            let codes = bytes(codes, count, latent).reshape(&[count * latent]);
            let values = Float::<B>::from_vec(E4M3_TO_F32.to_vec(), &[256], &device)
                .select(0, codes)
                .reshape(&[count, latent]);
            let values = values.mul(expand_blocks(scales, [1, LATENT_GROUP], count, latent));
            Float::cat(vec![values, keys], 1)
        }
    }
}
