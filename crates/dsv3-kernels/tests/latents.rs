//! Caches in every format: what is read back, and attention over it, against the oracle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use burn::tensor::{DType, Device, Tensor, TensorData};
use common::{Format, Random, assert_close, devices, values};
use dsv3_kernels::{
    LatentBlocks, LatentFormat, MlaForm, MlaSpec, SequenceSpan, Spans, append_latent,
    mla_attention, reference,
};
use dsv3_weights::fp8::{e4m3_to_f32, quantize_row_group};
use half::bf16;
use proptest::prelude::*;

const FORMATS: [LatentFormat; 3] = [LatentFormat::F32, LatentFormat::Bf16, LatentFormat::Fp8];

/// Devices that can hold a cache of the format.
fn devices_for(format: LatentFormat) -> Vec<(&'static str, Device)> {
    let mut devices = devices();
    devices.retain(|(name, device)| {
        let fits = format == LatentFormat::F32 || device.supports_dtype(DType::BF16);
        if !fits {
            println!("skipped: {name} has no bf16");
        }
        fits
    });
    devices
}

/// What a cache of the format makes of a row.
fn rounded(format: LatentFormat, row: &[f32], latent: usize) -> Vec<f32> {
    let bf16 = |v: &f32| bf16::from_f32(*v).to_f32();
    match format {
        LatentFormat::F32 => row.to_vec(),
        LatentFormat::Bf16 => row.iter().map(bf16).collect(),
        LatentFormat::Fp8 => {
            let (values, key) = row.split_at(latent);
            let values = values.chunks(128).flat_map(|group| {
                let (codes, scale) = quantize_row_group(group, false);
                codes.into_iter().map(move |code| e4m3_to_f32(code) * scale)
            });
            values.chain(key.iter().map(bf16)).collect()
        }
    }
}

fn config() -> ProptestConfig {
    // A software GPU compiles each kernel it meets.
    ProptestConfig {
        cases: if cfg!(feature = "wgpu") { 8 } else { 48 },
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// Breaks with: a scale of the neighbouring group, a row in another's slot, codes packed in
    /// another order than they are read, a key rounded to e4m3.
    #[test]
    fn what_is_written_is_read(
        seed: u64, blocks in 1usize..4, size in 1usize..5, quarter in 1usize..50,
        half_rope in 1usize..20, exponent in -10i32..10,
    ) {
        let (latent, rope) = (4 * quarter, 2 * half_rope);
        for format in FORMATS {
            for (name, device) in devices_for(format) {
                let mut random = Random(seed);
                let mut slots: Vec<u32> = (0..(blocks * size) as u32).collect();
                for i in (1..slots.len()).rev() {
                    slots.swap(i, random.below(i + 1));
                }
                let rows = random.matrix(slots.len(), latent + rope, &device) * 2f32.powi(exponent);
                let want: Vec<f32> = values(rows.clone())
                    .chunks(latent + rope)
                    .flat_map(|row| rounded(format, row, latent))
                    .collect();
                let empty = LatentBlocks::zeros(format, [blocks, size], [latent, rope], &device);
                let fast = append_latent(empty.clone(), rows.clone(), slots.clone());
                let slow = reference::append_latent(empty, rows, &slots);
                for (what, cache) in [("kernel", fast), ("stock", slow)] {
                    let got = values(reference::latent_rows(cache, &slots));
                    // A scale may differ in its last bit, and with it a close code by one step.
                    let far = got.iter().zip(&want).filter(|(a, b)| (*a - *b).abs() > b.abs() * 1e-6);
                    prop_assert!(
                        far.clone().count() * 50 <= want.len(),
                        "{} {} {:?}: {:?}", name, what, format, far.take(3).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    /// Breaks with: a tile that keeps the last one's keys, a row read at another format's width,
    /// a rotated key read as a part of the latent.
    #[test]
    fn attention_reads_every_format(
        seed: u64, heads in 1usize..4, nope in 1usize..10, half_rope in 1usize..20,
        value in 1usize..10, quarter in 1usize..40, cached in 0usize..150, new in 1usize..5,
    ) {
        let spec = MlaSpec {
            heads, nope, rope: 2 * half_rope, value, latent: 4 * quarter, softmax_scale: 0.2,
        };
        let context = cached + new;
        let size = 7;
        let blocks = context.div_ceil(size);
        for format in FORMATS {
            for (name, device) in devices_for(format) {
                let mut random = Random(seed);
                let kv_b = random.weight(Format::Bf16, [heads * (nope + value), spec.latent], &device);
                let shape = [new, heads, nope + spec.rope];
                let query = TensorData::new(random.vec(shape.iter().product()), shape);
                let query = Tensor::<3>::from_data(query, &device);
                let rows = random.matrix(context, spec.latent + spec.rope, &device);
                let empty =
                    LatentBlocks::zeros(format, [blocks, size], [spec.latent, spec.rope], &device);
                let cache = append_latent(empty, rows, (0..context as u32).collect());
                let mut outs = Vec::new();
                for form in [MlaForm::Naive, MlaForm::Absorbed] {
                    let span = SequenceSpan {
                        rows: 0..new,
                        context,
                        blocks: (0..blocks as u32).collect(),
                        form,
                    };
                    let spans = Spans::new(vec![span]);
                    let slow = reference::mla_attention(
                        query.clone(), cache.clone(), &kv_b, spec, &spans);
                    let fast = mla_attention(query.clone(), cache.clone(), &kv_b, spec, spans);
                    outs.push((format!("{name} {format:?} {form:?} kernel"), values(fast)));
                    outs.push((format!("{name} {format:?} {form:?} stock"), values(slow)));
                }
                for (what, out) in &outs[1..] {
                    assert_close(what, out, &outs[0].1, 2e-5);
                }
            }
        }
    }
}

/// Breaks with: NaN or an infinity that an fp8 cache turns into a number.
#[test]
fn what_is_no_number_stays_none() {
    let device = Device::flex();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 129, 200] {
            let mut row = vec![0.5; 210];
            row[place] = bad;
            let row = Tensor::<2>::from_data(TensorData::new(row, [1, 210]), &device);
            let empty = LatentBlocks::zeros(LatentFormat::Fp8, [1, 1], [200, 10], &device);
            let cache = append_latent(empty, row, vec![0]);
            let got = values(reference::latent_rows(cache, &[0]));
            assert!(!got[place].is_finite(), "{bad} became {}", got[place]);
        }
    }
}
