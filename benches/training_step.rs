//! One training step's heaviest operations, forward and backward, in the sizes of the small model:
//! the gradient kernels beside Burn's own differentiation of the stock bodies.

use std::hint::black_box;
use std::sync::Arc;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dsv3_kernels::{
    Activations, ExpertWeights, MlaForm, MlaSpec, SequenceSpan, Spans, Weight, reference,
};

/// Tokens of a batch, in sequences of [`SEQUENCE`].
const TOKENS: usize = 2048;
const SEQUENCE: usize = 128;
const HIDDEN: usize = 256;
const INTER: usize = 64;
const EXPERTS: usize = 16;
const TOP_K: usize = 4;
const SPEC: MlaSpec = MlaSpec {
    heads: 8,
    nope: 32,
    rope: 16,
    value: 32,
    latent: 64,
    softmax_scale: 0.2,
};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), &device).require_grad()
}

fn experts(c: &mut Criterion) {
    let weight = |shape| Weight::plain(random(shape));
    let experts: Vec<ExpertWeights> = (0..EXPERTS)
        .map(|_| ExpertWeights {
            gate: weight([INTER, HIDDEN]),
            up: weight([INTER, HIDDEN]),
            down: weight([HIDDEN, INTER]),
        })
        .collect();
    let (x, weights) = (random([TOKENS, HIDDEN]), random([TOKENS, TOP_K]));
    let ids = (0..TOKENS * TOP_K).map(|i| ((i / TOP_K * 7 + i % TOP_K) % EXPERTS) as i32);
    let data = TensorData::new(ids.collect::<Vec<_>>(), [TOKENS, TOP_K]);
    let ids = Tensor::<2, Int>::from_data(data, &Device::flex().autodiff());
    let mut group = c.benchmark_group("experts, forward and backward");
    group.throughput(Throughput::Elements(TOKENS as u64));
    for (name, f) in [
        (
            "kernel",
            dsv3_kernels::packed_experts
                as fn(Tensor<2>, Tensor<2, Int>, Tensor<2>, &[ExpertWeights], Activations) -> _,
        ),
        ("stock", reference::packed_experts),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let full = Activations::Full;
                let y = f(x.clone(), ids.clone(), weights.clone(), &experts, full);
                black_box(y.sum().backward())
            });
        });
    }
}

fn attention(c: &mut Criterion) {
    let spans = (0..TOKENS / SEQUENCE).map(|i| SequenceSpan {
        rows: i * SEQUENCE..(i + 1) * SEQUENCE,
        context: SEQUENCE,
        blocks: vec![i as u32],
        form: MlaForm::Naive,
    });
    let spans: Spans = Arc::new(spans.collect());
    let query = random([TOKENS, SPEC.heads, SPEC.nope + SPEC.rope]);
    let cache = random([TOKENS / SEQUENCE, SEQUENCE, SPEC.latent + SPEC.rope]);
    let kv_b = Weight::plain(random([SPEC.heads * (SPEC.nope + SPEC.value), SPEC.latent]));
    let mut group = c.benchmark_group("attention, forward and backward");
    group.throughput(Throughput::Elements(TOKENS as u64));
    group.bench_function("kernel", |b| {
        b.iter(|| {
            let (query, cache) = (query.clone(), cache.clone());
            let out = dsv3_kernels::mla_attention(query, cache, &kv_b, SPEC, spans.clone());
            black_box(out.sum().backward())
        });
    });
    group.bench_function("stock", |b| {
        b.iter(|| {
            let out = reference::mla_attention(query.clone(), cache.clone(), &kv_b, SPEC, &spans);
            black_box(out.sum().backward())
        });
    });
}

criterion_group!(benches, experts, attention);
criterion_main!(benches);
