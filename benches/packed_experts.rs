//! One token's eight experts out of more and more: what the others cost, which are not used.

use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use criterion::{Criterion, criterion_group, criterion_main};
use dsv3_kernels::{Activations, ExpertWeights, KernelsError, Weight, packed_experts};

/// `hidden` and `moe_intermediate_size`, so small that the products hardly count.
const SHAPE: [usize; 2] = [256, 128];
/// `num_experts_per_tok`
const CHOSEN: usize = 8;

fn expert(device: &Device) -> Result<ExpertWeights, KernelsError> {
    let [hidden, inter] = SHAPE;
    let weight = |shape: [usize; 2]| {
        let codes = (0..shape[0] * shape[1]).map(|i| (i * 37 % 120) as u8);
        let scales = vec![0.01; shape[0].div_ceil(128) * shape[1].div_ceil(128)];
        let codes: Vec<u8> = codes.collect();
        Weight::fp8_block(codes.into(), scales, [128, 128], shape, device)
    };
    Ok(ExpertWeights {
        gate: weight([inter, hidden])?,
        up: weight([inter, hidden])?,
        down: weight([hidden, inter])?,
    })
}

fn among(c: &mut Criterion) {
    let device = Device::flex();
    let x = Tensor::<2>::random([1, SHAPE[0]], Distribution::Default, &device);
    let weights = Tensor::<2>::random([1, CHOSEN], Distribution::Default, &device);
    let mut group = c.benchmark_group("packed_experts/eight of");
    for count in [8, 64, 256] {
        let experts: Result<Vec<_>, _> = (0..count).map(|_| expert(&device)).collect();
        let Ok(experts) = experts else { continue };
        let ids = (0..CHOSEN).map(|i| (i * count / CHOSEN) as i32).collect();
        let ids = TensorData::new::<i32, _>(ids, [1, CHOSEN]);
        let ids = Tensor::<2, Int>::from_data(ids, (&device, DType::I32));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let (x, ids, weights) = (x.clone(), ids.clone(), weights.clone());
                packed_experts(x, ids, weights, &experts, Activations::Full).into_data()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, among);
criterion_main!(benches);
