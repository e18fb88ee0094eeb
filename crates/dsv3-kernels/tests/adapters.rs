//! Low-rank factors beside a weight against the weight with the factors merged into it, and their
//! gradients: against Burn's own through the merged weight, and against finite differences.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use common::{Format, Random, assert_close, assert_differences, devices, gradient, loss, values};
use dsv3_kernels::{
    Activations, ExpertWeights, LowRank, MlaForm, MlaSpec, SequenceSpan, Spans, Weight, reference,
};

const FORMATS: [Format; 4] = [
    Format::Plain,
    Format::Bf16,
    Format::F16,
    Format::Fp8([4, 8]),
];

/// A leaf of the graph, where the device keeps one.
fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    let trained = tensor.device().is_autodiff();
    match trained {
        true => tensor.require_grad(),
        false => tensor,
    }
}

/// Random factors of a weight of this shape, as leaves of a graph on an autodiff device.
fn factors(random: &mut Random, [out, input]: [usize; 2], rank: usize, device: &Device) -> LowRank {
    LowRank {
        a: leaf(random.matrix(rank, input, device)),
        b: leaf(random.matrix(out, rank, device)),
        scale: 0.37,
    }
}

fn adapted(random: &mut Random, weight: &Weight, rank: usize, device: &Device) -> Weight {
    let factors = factors(random, weight.shape(), rank, device);
    weight.clone().with_adapter(factors).unwrap()
}

/// Breaks with: factors exchanged or transposed, a scale that is left out or applied twice.
#[test]
fn beside_a_weight_they_do_what_they_do_merged() {
    for (name, device) in devices() {
        let mut random = Random(1);
        for format in FORMATS {
            for ([tokens, input, out], rank) in [([1, 21, 10], 3), ([7, 40, 33], 1)] {
                let base = random.weight(format, [out, input], &device);
                let weight = adapted(&mut random, &base, rank, &device);
                let x = random.matrix(tokens, input, &device);
                let run = |f: fn(Tensor<2>, &Weight, Activations) -> Tensor<2>, w: &Weight| {
                    values(f(x.clone(), w, Activations::Full))
                };
                let got = run(dsv3_kernels::packed_linear, &weight);
                let want = run(reference::packed_linear, &weight);
                assert_close(&format!("{name} {format:?}"), &got, &want, 2e-5);
                assert_ne!(got, run(dsv3_kernels::packed_linear, &base));
                let alone = run(dsv3_kernels::packed_linear, &weight.without_adapter());
                assert_eq!(alone, run(dsv3_kernels::packed_linear, &base));
            }
        }
    }
}

/// Breaks with: a gradient that stops at a packed weight, one that goes to the other factor.
#[test]
fn gradients_reach_both_factors_and_the_input() {
    let device = Device::flex().autodiff();
    let mut random = Random(2);
    for format in FORMATS {
        let base = random.weight(format, [10, 21], &device);
        let weight = adapted(&mut random, &base, 4, &device);
        let x = random.matrix(6, 21, &device).require_grad();
        let adapter = weight.adapter().unwrap();
        let run = |f: fn(Tensor<2>, &Weight, Activations) -> Tensor<2>| {
            let gradients = loss(f(x.clone(), &weight, Activations::Full)).backward();
            [
                gradient(&x, &gradients),
                gradient(&adapter.a, &gradients),
                gradient(&adapter.b, &gradients),
            ]
        };
        let (got, want) = (
            run(dsv3_kernels::packed_linear),
            run(reference::packed_linear),
        );
        for (got, want) in got.iter().zip(&want) {
            assert_close(&format!("{format:?}"), got, want, 5e-5);
        }
        let with = |a: Tensor<2>, b: Tensor<2>| {
            let factors = LowRank { a, b, scale: 0.37 };
            let weight = base.clone().with_adapter(factors).unwrap();
            let y = dsv3_kernels::packed_linear(x.clone(), &weight, Activations::Full);
            loss(y).into_scalar::<f32>()
        };
        let (a, b) = (adapter.a.clone(), adapter.b.clone());
        assert_differences("A", &values(a.clone()), &got[1], |at| {
            let moved = Tensor::from_data(TensorData::new(at, [4, 21]), &device);
            with(moved, b.clone())
        });
        assert_differences("B", &values(b.clone()), &got[2], |at| {
            let moved = Tensor::from_data(TensorData::new(at, [10, 4]), &device);
            with(a.clone(), moved)
        });
    }
}

/// Tokens of the experts: distinct experts for a token, the last one chosen by none.
fn routing(
    random: &mut Random,
    [tokens, count, k]: [usize; 3],
    device: &Device,
) -> (Tensor<2, Int>, Tensor<2>) {
    let chosen: Vec<i32> = (0..tokens)
        .flat_map(|_| {
            let first = random.below(count - 1);
            (0..k).map(move |j| ((first + j) % (count - 1)) as i32)
        })
        .collect();
    let ids = Tensor::from_data(TensorData::new(chosen, [tokens, k]), device);
    (ids, leaf(random.matrix(tokens, k, device)))
}

/// Experts of which the first has all three factors, the second one, the others none.
fn adapted_experts(random: &mut Random, format: Format, device: &Device) -> Vec<ExpertWeights> {
    let mut experts = random.experts(format, 5, [12, 7], device);
    let first = &mut experts[0];
    for weight in [&mut first.gate, &mut first.up, &mut first.down] {
        *weight = adapted(random, weight, 2, device);
    }
    experts[1].down = adapted(random, &experts[1].down.clone(), 3, device);
    experts
}

/// Breaks with: factors of one expert that go to another or are left out, tokens that lose their
/// place, a weight of the router without its gradient.
#[test]
fn experts_with_and_without_factors() {
    let device = Device::flex().autodiff();
    for format in FORMATS {
        let mut random = Random(3);
        let experts = adapted_experts(&mut random, format, &device);
        let (ids, weights) = routing(&mut random, [19, 5, 3], &device);
        let x = random.matrix(19, 12, &device).require_grad();
        let factors: Vec<&LowRank> = experts
            .iter()
            .flat_map(|e| [&e.gate, &e.up, &e.down])
            .filter_map(Weight::adapter)
            .collect();
        assert_eq!(factors.len(), 4);
        type Experts =
            fn(Tensor<2>, Tensor<2, Int>, Tensor<2>, &[ExpertWeights], Activations) -> Tensor<2>;
        let run = |f: Experts| {
            let y = f(
                x.clone(),
                ids.clone(),
                weights.clone(),
                &experts,
                Activations::Full,
            );
            let gradients = loss(y.clone()).backward();
            let mut parts = vec![
                values(y),
                gradient(&x, &gradients),
                gradient(&weights, &gradients),
            ];
            for factors in &factors {
                parts.push(gradient(&factors.a, &gradients));
                parts.push(gradient(&factors.b, &gradients));
            }
            parts
        };
        let got = run(dsv3_kernels::packed_experts);
        let want = run(reference::packed_experts);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_close(&format!("{format:?}, part {i}"), got, want, 1e-4);
        }
    }
}

/// An untrained adapter is the base, to the last bit.
///
/// Breaks with: experts that are computed by other roundings once they have factors.
#[test]
fn factors_of_zero_change_no_bit() {
    let device = Device::flex();
    for (format, dtype) in FORMATS
        .into_iter()
        .flat_map(|f| [(f, DType::F32), (f, DType::BF16)])
    {
        let mut random = Random(4);
        let zero = |random: &mut Random, weight: &Weight| {
            let [out, input] = weight.shape();
            let factors = LowRank {
                a: random.matrix(3, input, &device),
                b: Tensor::zeros([out, 3], &device),
                scale: 2.0,
            };
            weight.clone().with_adapter(factors).unwrap()
        };
        let base = random.weight(format, [10, 21], &device);
        let weight = zero(&mut random, &base);
        let x = random.matrix(6, 21, &device).cast(dtype);
        let run = |w: &Weight| {
            let y = dsv3_kernels::packed_linear(x.clone(), w, Activations::Full);
            assert_eq!(y.dtype(), dtype);
            values(y)
        };
        assert_eq!(run(&base), run(&weight));

        let bare = random.experts(format, 5, [12, 7], &device);
        let mut experts = bare.clone();
        for expert in &mut experts {
            expert.gate = zero(&mut random, &expert.gate);
            expert.down = zero(&mut random, &expert.down);
        }
        let (ids, weights) = routing(&mut random, [19, 5, 3], &device);
        let x = random.matrix(19, 12, &device).cast(dtype);
        let run = |experts: &[ExpertWeights]| {
            let (ids, weights) = (ids.clone(), weights.clone());
            values(dsv3_kernels::packed_experts(
                x.clone(),
                ids,
                weights,
                experts,
                Activations::Full,
            ))
        };
        assert_eq!(run(&bare), run(&experts), "{format:?} {dtype:?}");
    }
}

const SPEC: MlaSpec = MlaSpec {
    heads: 3,
    nope: 5,
    rope: 4,
    value: 6,
    latent: 7,
    softmax_scale: 0.4,
};

/// Breaks with: factors of the keys applied to the values, a form of attention that knows no
/// factors, a head that gets another's.
#[test]
fn both_forms_of_attention_know_the_factors() {
    let device = Device::flex().autodiff();
    for (format, form) in FORMATS
        .into_iter()
        .flat_map(|f| [(f, MlaForm::Naive), (f, MlaForm::Absorbed)])
    {
        let mut random = Random(5);
        let spans = Spans::new(vec![
            SequenceSpan {
                rows: 0..4,
                context: 6,
                blocks: vec![1, 0],
                form,
            },
            SequenceSpan {
                rows: 4..7,
                context: 3,
                blocks: vec![2],
                form,
            },
        ]);
        let mut cube = |shape: [usize; 3]| {
            let values = random.vec(shape.iter().product());
            Tensor::<3>::from_data(TensorData::new(values, shape), &device).require_grad()
        };
        let query = cube([7, SPEC.heads, SPEC.nope + SPEC.rope]);
        let cache = cube([3, 4, SPEC.latent + SPEC.rope]);
        let width = SPEC.heads * (SPEC.nope + SPEC.value);
        let base = random.weight(format, [width, SPEC.latent], &device);
        let weight = adapted(&mut random, &base, 2, &device);
        let adapter = weight.adapter().unwrap();
        let (q, c) = (query.clone(), cache.clone());
        let composed = dsv3_kernels::mla_attention(q, c, &weight, SPEC, spans.clone());
        let (q, c) = (query.clone(), cache.clone());
        let merged = reference::mla_attention(q, c, &weight, SPEC, &spans);
        let [got, want] = [composed, merged].map(|out| {
            let gradients = loss(out.clone()).backward();
            [
                values(out),
                gradient(&query, &gradients),
                gradient(&cache, &gradients),
                gradient(&adapter.a, &gradients),
                gradient(&adapter.b, &gradients),
            ]
        });
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_close(&format!("{format:?} {form:?}, part {i}"), got, want, 1e-4);
        }
    }
}

/// Breaks with: factors of another layer that reach a kernel.
#[test]
fn factors_of_another_shape_are_refused() {
    let device = Device::flex();
    let weight = || Weight::plain(Tensor::zeros([10, 21], &device));
    for (a, b) in [
        ([3, 20], [10, 3]),
        ([3, 21], [9, 3]),
        ([3, 21], [10, 4]),
        ([21, 3], [3, 10]),
        ([0, 21], [10, 0]),
    ] {
        let factors = LowRank {
            a: Tensor::zeros(a, &device),
            b: Tensor::zeros(b, &device),
            scale: 1.0,
        };
        let message = weight().with_adapter(factors).unwrap_err().to_string();
        assert!(message.contains("[10, 21]"), "{message}");
    }
}
