//! `packed_linear` on the CPU at V3.1's shapes, beside the machine's own read bandwidth.
//!
//! The first bench reads a buffer of the same size with every thread; the others' throughput is
//! the share of it that the kernel reaches.

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dsv3_kernels::{Activations, HalfFormat, Weight, packed_linear};
use rayon::prelude::*;

/// One expert's gate matrix: `[moe_intermediate_size, hidden_size]`.
const SHAPE: [usize; 2] = [2048, 7168];

fn read_bandwidth(c: &mut Criterion) {
    let words = vec![1u64; SHAPE[0] * SHAPE[1] / 4]; // as many bytes as the bf16 weight
    let mut group = c.benchmark_group("memory");
    group.throughput(Throughput::Bytes(words.len() as u64 * 8));
    group.bench_function("read", |b| {
        b.iter(|| -> u64 {
            let chunks = words.par_chunks(1 << 16);
            chunks
                .map(|chunk| chunk.iter().fold(0u64, |a, w| a.wrapping_add(*w)))
                .sum()
        });
    });
    group.finish();
}

fn formats(c: &mut Criterion) {
    let device = Device::flex();
    let elements = SHAPE[0] * SHAPE[1];
    let scales = vec![0.01; SHAPE[0].div_ceil(128) * SHAPE[1].div_ceil(128)];
    let fp8: Vec<u8> = (0..elements).map(|i| (i * 37 % 120) as u8).collect();
    let bf16: Vec<u8> = [0x3c, 0x3d].repeat(elements);
    let weights = [
        (
            "fp8",
            Weight::fp8_block(fp8.into(), scales, [128, 128], SHAPE, &device),
        ),
        (
            "bf16",
            Weight::half(bf16.into(), HalfFormat::Bf16, SHAPE, &device),
        ),
    ];
    for (name, weight) in weights {
        let Ok(weight) = weight else { continue };
        let mut group = c.benchmark_group(format!("packed_linear/{name}"));
        group.throughput(Throughput::Bytes(weight.bytes() as u64));
        for tokens in [1, 8] {
            let x = Tensor::<2>::random([tokens, SHAPE[1]], Distribution::Default, &device);
            group.bench_function(format!("{tokens} tokens"), |b| {
                b.iter(|| packed_linear(x.clone(), &weight, Activations::Full).into_data());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, read_bandwidth, formats);
criterion_main!(benches);
