//! The training kernels against Burn's own differentiation of the stock bodies, and both against
//! finite differences: shapes that divide nothing, everything that has a gradient.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{Format, Random, assert_close, assert_differences, gradient, loss, values};
use dsv3_kernels::{
    Activations, ExpertWeights, MlaForm, MlaSpec, RouteSpec, SequenceSpan, Spans, Weight, reference,
};

const TOLERANCE: f32 = 2e-5;

fn device() -> Device {
    Device::flex().autodiff()
}

/// A leaf `[n]`.
fn vector(random: &mut Random, n: usize) -> Tensor<1> {
    let data = TensorData::new(random.vec(n), [n]);
    Tensor::from_data(data, &device()).require_grad()
}

fn matrix(random: &mut Random, rows: usize, columns: usize) -> Tensor<2> {
    random.matrix(rows, columns, &device()).require_grad()
}

fn cube(random: &mut Random, shape: [usize; 3]) -> Tensor<3> {
    let values = random.vec(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &device()).require_grad()
}

/// Breaks with: a transposed product, a gradient sent to the other operand.
#[test]
fn linear() {
    let mut random = Random(1);
    for [tokens, input, out] in [[1, 3, 5], [7, 19, 4], [65, 40, 33]] {
        let (x, w) = (
            matrix(&mut random, tokens, input),
            matrix(&mut random, out, input),
        );
        let weight = Weight::plain(w.clone());
        let run = |f: fn(Tensor<2>, &Weight, Activations) -> Tensor<2>| {
            let y = f(x.clone(), &weight, Activations::Full);
            let grads = loss(y.clone()).backward();
            [values(y), gradient(&x, &grads), gradient(&w, &grads)]
        };
        let (got, want) = (
            run(dsv3_kernels::packed_linear),
            run(reference::packed_linear),
        );
        for (got, want) in got.iter().zip(&want) {
            assert_close("linear", got, want, TOLERANCE);
        }
    }
}

/// Breaks with: a packed weight that is read in another way going back than going forth.
#[test]
fn packed_linear_passes_gradients_on() {
    let mut random = Random(2);
    for format in [Format::Bf16, Format::F16, Format::Fp8([4, 8])] {
        let x = matrix(&mut random, 6, 21);
        let weight = random.weight(format, [10, 21], &device());
        let run = |f: fn(Tensor<2>, &Weight, Activations) -> Tensor<2>| {
            let y = f(x.clone(), &weight, Activations::Full);
            let grads = loss(y.clone()).backward();
            [values(y), gradient(&x, &grads)]
        };
        let (got, want) = (
            run(dsv3_kernels::packed_linear),
            run(reference::packed_linear),
        );
        for (got, want) in got.iter().zip(&want) {
            assert_close(&format!("{format:?}"), got, want, TOLERANCE);
        }
    }
}

/// Breaks with: a missing term of the norm's gradient, a weight's sum that leaves rows out.
#[test]
fn rms_norm() {
    let mut random = Random(3);
    for [tokens, n] in [[1, 5], [300, 37]] {
        let (x, w) = (matrix(&mut random, tokens, n), vector(&mut random, n));
        let run = |f: fn(Tensor<2>, Tensor<1>, f32) -> Tensor<2>| {
            let y = f(x.clone(), w.clone(), 1e-6);
            let grads = loss(y.clone()).backward();
            [values(y), gradient(&x, &grads), gradient(&w, &grads)]
        };
        let (got, want) = (run(dsv3_kernels::rms_norm), run(reference::rms_norm));
        for (got, want) in got.iter().zip(&want) {
            assert_close("rms_norm", got, want, 1e-4);
        }
        let f = |at: Vec<f32>| {
            let x = Tensor::from_data(TensorData::new(at, [tokens, n]), &device());
            let y = dsv3_kernels::rms_norm(x, w.clone(), 1e-6);
            loss(y).into_scalar::<f32>()
        };
        if tokens == 1 {
            assert_differences("rms_norm", &values(x.clone()), &got[1], f);
        }
    }
}

/// Breaks with: a rotation back by the wrong angle, dimensions in front that are turned too.
#[test]
fn rope() {
    let mut random = Random(4);
    for [tokens, heads, n, rope] in [[3, 2, 6, 6], [5, 3, 11, 4]] {
        let x = cube(&mut random, [tokens, heads, n]);
        let angles = random.matrix(tokens, rope / 2, &device());
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        let run = |f: fn(Tensor<3>, Tensor<2>, Tensor<2>) -> Tensor<3>| {
            let y = f(x.clone(), cos.clone(), sin.clone()).reshape([tokens, heads * n]);
            let grads = loss(y.clone()).backward();
            [values(y), gradient(&x, &grads)]
        };
        let (got, want) = (run(dsv3_kernels::rope), run(reference::rope));
        for (got, want) in got.iter().zip(&want) {
            assert_close("rope", got, want, TOLERANCE);
        }
    }
}

/// Breaks with: a wrong derivative of silu, gate and up exchanged.
#[test]
fn swiglu() {
    let mut random = Random(5);
    let (gate, up) = (matrix(&mut random, 9, 23), matrix(&mut random, 9, 23));
    let run = |f: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let y = f(gate.clone().mul_scalar(6.0), up.clone());
        let grads = loss(y.clone()).backward();
        [values(y), gradient(&gate, &grads), gradient(&up, &grads)]
    };
    let (got, want) = (run(dsv3_kernels::swiglu), run(reference::swiglu));
    for (got, want) in got.iter().zip(&want) {
        assert_close("swiglu", got, want, TOLERANCE);
    }
}

/// Breaks with: a target off by one, a softmax that overflows, a gradient without the row's own.
#[test]
fn cross_entropy() {
    let mut random = Random(6);
    for [rows, vocab] in [[1, 3], [8, 45]] {
        let logits = matrix(&mut random, rows, vocab);
        let targets: Vec<u32> = (0..rows).map(|_| random.below(vocab) as u32).collect();
        for scale in [1.0, 300.0] {
            let kernel =
                dsv3_kernels::cross_entropy(logits.clone().mul_scalar(scale), targets.clone());
            let stock = reference::cross_entropy(logits.clone().mul_scalar(scale), &targets);
            let [got, want] = [kernel, stock].map(|losses| {
                let grads = loss(losses.clone().reshape([rows, 1])).backward();
                (values(losses), gradient(&logits, &grads))
            });
            assert_close("losses", &got.0, &want.0, TOLERANCE);
            assert_close("gradient", &got.1, &want.1, 1e-4);
        }
    }
}

fn route_spec(groups: usize, top_k: usize, normalize: bool) -> RouteSpec {
    RouteSpec {
        groups,
        top_groups: groups.div_ceil(2),
        top_k,
        normalize,
        scaling: 2.5,
    }
}

/// Breaks with: a gradient of the sum left out, one that reaches experts that were not chosen.
#[test]
fn route() {
    let mut random = Random(7);
    for (groups, normalize) in [(1, true), (4, true), (4, false)] {
        let spec = route_spec(groups, 3, normalize);
        let logits = matrix(&mut random, 6, 8);
        let bias = Tensor::from_data(TensorData::new(random.vec(8), [8]), &device());
        let run = |f: fn(Tensor<2>, Tensor<1>, RouteSpec) -> (Tensor<2, Int>, Tensor<2>)| {
            let (ids, weights) = f(logits.clone(), bias.clone(), spec);
            let grads = loss(weights.clone()).backward();
            assert_eq!(common::ids(ids).len(), 18);
            [values(weights), gradient(&logits, &grads)]
        };
        let (got, want) = (run(dsv3_kernels::route), run(reference::route));
        for (got, want) in got.iter().zip(&want) {
            assert_close("route", got, want, TOLERANCE);
        }
    }
}

/// Breaks with: places that go to the wrong token, a weight that is not in the gradient, an
/// expert's matrices that get another's, one without tokens that is not left at zero.
#[test]
fn experts() {
    let mut random = Random(8);
    let (tokens, hidden, inter, count, k) = (37, 12, 7, 6, 3);
    let leaves: Vec<[Tensor<2>; 3]> = (0..count)
        .map(|_| {
            [[inter, hidden], [inter, hidden], [hidden, inter]]
                .map(|[out, input]| matrix(&mut random, out, input))
        })
        .collect();
    let plain: Vec<ExpertWeights> = leaves
        .iter()
        .map(|[gate, up, down]| ExpertWeights {
            gate: Weight::plain(gate.clone()),
            up: Weight::plain(up.clone()),
            down: Weight::plain(down.clone()),
        })
        .collect();
    let frozen = random.experts(Format::Fp8([4, 4]), count, [hidden, inter], &device());
    let x = matrix(&mut random, tokens, hidden);
    let weights = matrix(&mut random, tokens, k);
    // Distinct experts for a token; the last one is chosen by none.
    let chosen: Vec<i32> = (0..tokens)
        .flat_map(|_| {
            let first = random.below(count - 1);
            (0..k).map(move |j| ((first + j) % (count - 1)) as i32)
        })
        .collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(chosen, [tokens, k]), &device());
    type Experts =
        fn(Tensor<2>, Tensor<2, Int>, Tensor<2>, &[ExpertWeights], Activations) -> Tensor<2>;
    let run = |f: Experts, experts: &[ExpertWeights]| {
        let y = f(
            x.clone(),
            ids.clone(),
            weights.clone(),
            experts,
            Activations::Full,
        );
        let grads = loss(y.clone()).backward();
        let mut parts = vec![values(y), gradient(&x, &grads), gradient(&weights, &grads)];
        for leaf in leaves.iter().flatten() {
            let zero = || vec![0.0; leaf.shape().num_elements()];
            parts.push(leaf.grad(&grads).map_or_else(zero, values));
        }
        parts
    };
    for experts in [&plain, &frozen] {
        let got = run(dsv3_kernels::packed_experts, experts);
        let want = run(reference::packed_experts, experts);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_close(&format!("experts, part {i}"), got, want, 1e-4);
        }
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

/// Spans of (new rows, context), each in blocks of its own.
fn spans(lengths: &[(usize, usize)], block_size: usize) -> (Spans, usize, usize) {
    let (mut rows, mut blocks) = (0, 0u32);
    let spans = lengths.iter().map(|(new, context)| {
        let own = context.div_ceil(block_size) as u32;
        let span = SequenceSpan {
            rows: rows..rows + new,
            context: *context,
            // Backwards, so that slots are not in the order of positions.
            blocks: (blocks..blocks + own).rev().collect(),
            form: MlaForm::Naive,
        };
        rows += new;
        blocks += own;
        span
    });
    (Arc::new(spans.collect()), rows, blocks as usize)
}

/// Breaks with: a row that sees its future or a neighbour, a tile's edge that is lost, a scale
/// left out of one gradient, keys and values exchanged.
#[test]
fn attention() {
    let mut random = Random(9);
    for lengths in [
        vec![(1, 1)],
        vec![(3, 3), (5, 5)],
        vec![(2, 9), (130, 130), (1, 4)],
    ] {
        let (spans, rows, blocks) = spans(&lengths, 4);
        let query = cube(&mut random, [rows, SPEC.heads, SPEC.nope + SPEC.rope]);
        let cache = cube(&mut random, [blocks, 4, SPEC.latent + SPEC.rope]);
        let width = SPEC.heads * (SPEC.nope + SPEC.value);
        let kv_b = matrix(&mut random, width, SPEC.latent);
        let weight = Weight::plain(kv_b.clone());
        let kernel =
            dsv3_kernels::mla_attention(query.clone(), cache.clone(), &weight, SPEC, spans.clone());
        let stock = reference::mla_attention(query.clone(), cache.clone(), &weight, SPEC, &spans);
        let [got, want] = [kernel, stock].map(|out| {
            let grads = loss(out.clone()).backward();
            [
                values(out),
                gradient(&query, &grads),
                gradient(&cache, &grads),
                gradient(&kv_b, &grads),
            ]
        });
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_close(&format!("attention {lengths:?}, part {i}"), got, want, 1e-4);
        }
    }
}

/// Breaks with: a packed kv_b that stops gradients.
#[test]
fn attention_over_a_packed_weight_passes_gradients_on() {
    let mut random = Random(10);
    let (spans, rows, blocks) = spans(&[(4, 6), (3, 3)], 4);
    let query = cube(&mut random, [rows, SPEC.heads, SPEC.nope + SPEC.rope]);
    let cache = cube(&mut random, [blocks, 4, SPEC.latent + SPEC.rope]);
    let width = SPEC.heads * (SPEC.nope + SPEC.value);
    let weight = random.weight(Format::Fp8([8, 4]), [width, SPEC.latent], &device());
    let kernel =
        dsv3_kernels::mla_attention(query.clone(), cache.clone(), &weight, SPEC, spans.clone());
    let stock = reference::mla_attention(query.clone(), cache.clone(), &weight, SPEC, &spans);
    let [got, want] = [kernel, stock].map(|out| {
        let grads = loss(out).backward();
        [gradient(&query, &grads), gradient(&cache, &grads)]
    });
    for (got, want) in got.iter().zip(&want) {
        assert_close("attention", got, want, 1e-4);
    }
}

/// Breaks with: rows that get another slot's gradient.
#[test]
fn append_latent() {
    let mut random = Random(11);
    let rows = matrix(&mut random, 5, 6);
    let slots = vec![3, 4, 5, 11, 0];
    let cache = || Tensor::<3>::zeros([3, 4, 6], &device());
    let kernel = dsv3_kernels::append_latent(cache(), rows.clone(), slots.clone());
    let stock = reference::append_latent(cache(), rows.clone(), &slots);
    let [got, want] = [kernel, stock].map(|cache| {
        let cache = cache.into_floats().unwrap().reshape([12, 6]);
        let grads = loss(cache.clone()).backward();
        [values(cache), gradient(&rows, &grads)]
    });
    for (got, want) in got.iter().zip(&want) {
        assert_close("append_latent", got, want, TOLERANCE);
    }
}
