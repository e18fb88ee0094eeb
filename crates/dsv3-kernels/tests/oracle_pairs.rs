//! Every kernel against its oracle in stock Burn, on every device, over shapes that divide
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use common::{Format, Random, assert_close, devices, ids, values};
use dsv3_kernels::{
    Activations, ExpertWeights, GroupCodes, MlaForm, MlaSpec, RouteSpec, SequenceSpan, Spans,
    Weight, reference,
};
use proptest::prelude::*;

/// Sums in another order than the oracle's; values near 1.
const TOLERANCE: f32 = 2e-5;

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::Plain),
        Just(Format::Bf16),
        Just(Format::F16),
        (1usize..9, 1usize..9).prop_map(|(r, c)| Format::Fp8([r, c])),
        Just(Format::Fp8([128, 128])),
    ]
}

fn group_formats() -> impl Strategy<Value = Format> {
    let codes = prop_oneof![Just(GroupCodes::Int8), Just(GroupCodes::Int4)];
    (codes, 1usize..5).prop_map(|(codes, units)| Format::Group(codes, 32 * units))
}

fn config() -> ProptestConfig {
    // A software GPU compiles each kernel it meets.
    ProptestConfig {
        cases: if cfg!(feature = "wgpu") { 12 } else { 64 },
        ..Default::default()
    }
}

fn mla_case(
    random: &mut Random,
    spec: MlaSpec,
    lengths: &[(usize, usize)], // (cached before, new)
    form: MlaForm,
    device: &Device,
) -> (Tensor<3>, Tensor<3>, Spans) {
    let block_size = 1 + random.below(7);
    let width = spec.latent + spec.rope;
    let (mut spans, mut row, mut block) = (Vec::new(), 0, 0u32);
    for (before, new) in lengths {
        let context = before + new;
        let needed = context.div_ceil(block_size) as u32;
        spans.push(SequenceSpan {
            rows: row..row + new,
            context,
            blocks: (block..block + needed).rev().collect(),
            form,
        });
        (row, block) = (row + new, block + needed);
    }
    let shape = [block as usize, block_size, width];
    let cache = TensorData::new(random.vec(shape.iter().product()), shape);
    let shape = [row, spec.heads, spec.nope + spec.rope];
    let query = TensorData::new(random.vec(shape.iter().product()), shape);
    (
        Tensor::from_data(query, device),
        Tensor::from_data(cache, device),
        Spans::new(spans),
    )
}

proptest! {
    #![proptest_config(config())]

    /// Breaks with: a row or block stride off by one, tails dropped, scales of the wrong block.
    #[test]
    fn packed_linear_is_the_product_with_the_dequantised_weight(
        seed: u64, tokens in 1usize..6, out in 1usize..40, input in 1usize..70,
        format in formats(),
    ) {
        for (name, device) in devices() {
            let mut random = Random(seed);
            let weight = random.weight(format, [out, input], &device);
            let x = random.matrix(tokens, input, &device);
            let fast = values(dsv3_kernels::packed_linear(x.clone(), &weight, Activations::Full));
            let slow = values(reference::packed_linear(x, &weight, Activations::Full));
            assert_close(name, &fast, &slow, TOLERANCE);
        }
    }

    /// Breaks with: halves of a byte exchanged, a scale of another group or row, the padding
    /// behind a row read as codes.
    #[test]
    fn integer_codes_are_multiplied_as_they_dequantise(
        seed: u64, tokens in 1usize..12, out in 1usize..20, units in 1usize..7,
        format in group_formats(),
    ) {
        for (name, device) in devices() {
            let mut random = Random(seed);
            let weight = random.weight(format, [out, 32 * units], &device);
            let x = random.matrix(tokens, 32 * units, &device);
            let fast = values(dsv3_kernels::packed_linear(x.clone(), &weight, Activations::Full));
            let slow = values(reference::packed_linear(x, &weight, Activations::Full));
            assert_close(name, &fast, &slow, TOLERANCE);
        }
    }

    /// Breaks with: activations rounded to another step than the definition's, in groups that are not
    /// the weight's, or twice.
    #[test]
    fn whole_numbers_are_multiplied_as_rounded_activations_are(
        seed: u64, tokens in 1usize..12, out in 1usize..40, units in 1usize..7,
        format in group_formats(),
    ) {
        let activations = Activations::EightBits { ue8m0: false };
        for (name, device) in devices() {
            let mut random = Random(seed);
            let weight = random.weight(format, [out, 32 * units], &device);
            let x = random.matrix(tokens, 32 * units, &device);
            let fast = values(dsv3_kernels::packed_linear(x.clone(), &weight, activations));
            let slow = values(reference::packed_linear(x, &weight, activations));
            assert_close(name, &fast, &slow, TOLERANCE);
        }
    }

    /// Breaks with: tokens given to the wrong expert, weights of another token, an expert twice.
    #[test]
    fn grouped_experts_are_the_sum_of_each_tokens_experts(
        seed: u64, tokens in 1usize..7, hidden in 1usize..20, inter in 1usize..20,
        count in 1usize..6, k in 1usize..4, format in formats(),
    ) {
        let k = k.min(count);
        for (name, device) in devices() {
            let mut random = Random(seed);
            let experts = random.experts(format, count, [hidden, inter], &device);
            let x = random.matrix(tokens, hidden, &device);
            let weights = random.matrix(tokens, k, &device);
            // distinct experts for each token
            let first: Vec<usize> = (0..tokens).map(|_| random.below(count)).collect();
            let chosen: Vec<i32> = first
                .iter()
                .flat_map(|f| (0..k).map(move |j| ((f + j) % count) as i32))
                .collect();
            let data = TensorData::new(chosen.clone(), [tokens, k]);
            let ids = Tensor::<2, Int>::from_data(data, (&device, DType::I32));
            let full = Activations::Full;
            let grouped = values(dsv3_kernels::packed_experts(
                x.clone(), ids.clone(), weights.clone(), &experts, full,
            ));
            let stock = values(reference::packed_experts(
                x.clone(), ids, weights.clone(), &experts, full,
            ));
            assert_close(&format!("{name} grouped"), &grouped, &stock, TOLERANCE);

            // per token, straight from the definition
            let weights = values(weights);
            let mut expected = vec![0f32; tokens * hidden];
            for (place, expert) in chosen.iter().enumerate() {
                let e = &experts[*expert as usize];
                let t = place / k;
                let x = x.clone().narrow(0, t, 1);
                let linear = |x, w: &Weight| reference::packed_linear(x, w, full);
                let gate = burn::tensor::activation::silu(linear(x.clone(), &e.gate));
                let y = values(linear(gate * linear(x, &e.up), &e.down));
                for (to, y) in expected[t * hidden..][..hidden].iter_mut().zip(y) {
                    *to += weights[place] * y;
                }
            }
            assert_close(&format!("{name} per token"), &grouped, &expected, TOLERANCE);
        }
    }

    /// Breaks with: ties to the higher id, masked groups that count as 0, group sums of more or
    /// fewer than two, weights taken with the bias.
    #[test]
    fn route_chooses_as_the_ranks_do(
        seed: u64, tokens in 1usize..5, groups in 1usize..5, size in 1usize..6,
        top_groups in 1usize..5, k in 1usize..6, normalize: bool, coarse: bool, shift in -3f32..1.0,
    ) {
        let experts = groups * size;
        let top_groups = top_groups.min(groups);
        let spec = RouteSpec {
            groups, top_groups, top_k: k.min(top_groups * size), normalize, scaling: 2.5,
        };
        for (name, device) in devices() {
            let mut random = Random(seed);
            // Coarse values make ties: then only the rule about ids decides.
            let mut value = || match coarse {
                true => (random.next() * 2.0).round() / 2.0,
                false => random.next(),
            };
            let logits: Vec<f32> = (0..tokens * experts).map(|_| value()).collect();
            let bias: Vec<f32> = (0..experts).map(|_| shift + if coarse { 0.0 } else { value() }).collect();
            let logits = Tensor::<2>::from_data(TensorData::new(logits, [tokens, experts]), &device);
            let bias = Tensor::<1>::from_data(TensorData::new(bias, [experts]), &device);
            let (fast_ids, fast_weights) = dsv3_kernels::route(logits.clone(), bias.clone(), spec);
            let (slow_ids, slow_weights) = reference::route(logits, bias, spec);
            prop_assert_eq!(ids(fast_ids), ids(slow_ids), "{}", name);
            assert_close(name, &values(fast_weights), &values(slow_weights), 1e-5);
        }
    }

    /// Breaks with: a mask off by one, a block table read as an offset, scores scaled by the
    /// absorbed width, keys and values of a head swapped.
    #[test]
    fn naive_attention_is_absorbed_attention(
        seed: u64, heads in 1usize..4, nope in 1usize..10, half_rope in 1usize..5,
        value in 1usize..10, latent in 1usize..24, format in formats(),
        lengths in proptest::collection::vec((0usize..9, 1usize..6), 1..4),
    ) {
        let spec = MlaSpec { heads, nope, rope: 2 * half_rope, value, latent, softmax_scale: 0.7 };
        for (name, device) in devices() {
            let mut random = Random(seed);
            let kv_b = random.weight(format, [heads * (nope + value), latent], &device);
            let mut results = Vec::new();
            let start = random.0;
            for form in [MlaForm::Naive, MlaForm::Absorbed] {
                random.0 = start;
                let (query, cache, spans) = mla_case(&mut random, spec, &lengths, form, &device);
                let slow = reference::mla_attention(query.clone(), cache.clone(), &kv_b, spec, &spans);
                let fast = dsv3_kernels::mla_attention(query, cache, &kv_b, spec, spans);
                results.push((format!("{name} {form:?} fast"), values(fast)));
                results.push((format!("{name} {form:?} stock"), values(slow)));
            }
            for (what, result) in &results[1..] {
                assert_close(what, result, &results[0].1, TOLERANCE);
            }
        }
    }

    /// Breaks with: rotation of halves instead of pairs, angles of another token.
    #[test]
    fn rope_and_rms_norm(seed: u64, tokens in 1usize..5, heads in 1usize..4, half in 1usize..9) {
        for (name, device) in devices() {
            let mut random = Random(seed);
            let shape = [tokens, heads, 2 * half];
            let x = Tensor::<3>::from_data(
                TensorData::new(random.vec(shape.iter().product()), shape), &device);
            let (cos, sin) = (random.matrix(tokens, half, &device), random.matrix(tokens, half, &device));
            let fast = values(dsv3_kernels::rope(x.clone(), cos.clone(), sin.clone()));
            assert_close(name, &fast, &values(reference::rope(x, cos, sin)), 1e-6);

            let x = random.matrix(tokens, 2 * half, &device);
            let weight = Tensor::<1>::from_data(TensorData::new(random.vec(2 * half), [2 * half]), &device);
            let fast = values(dsv3_kernels::rms_norm(x.clone(), weight.clone(), 1e-6));
            assert_close(name, &fast, &values(reference::rms_norm(x, weight, 1e-6)), 1e-5);
        }
    }

    /// Breaks with: gate and up exchanged, a factor that is left out, a result in another format.
    #[test]
    fn swiglu_of_bf16(seed: u64, tokens in 1usize..5, n in 1usize..40) {
        for (name, device) in devices() {
            if !device.supports_dtype(DType::BF16) {
                continue;
            }
            let mut random = Random(seed);
            let [gate, up] = [6.0, 1.0].map(|size| {
                (random.matrix(tokens, n, &device) * size).cast(DType::BF16)
            });
            let fast = dsv3_kernels::swiglu(gate.clone(), up.clone());
            prop_assert_eq!(fast.dtype(), DType::BF16, "{}", name);
            let [fast, slow] = [fast, reference::swiglu(gate, up)].map(|y| values(y.cast(DType::F32)));
            // A step of bf16, a 128th, for each of three roundings.
            assert_close(name, &fast, &slow, 0.025);
        }
    }

    /// Breaks with: rows written to a neighbour's slot, or a run of slots across blocks.
    #[test]
    fn append_latent_writes_each_row_to_its_slot(
        seed: u64, blocks in 1usize..5, size in 1usize..5, width in 1usize..6,
    ) {
        for (name, device) in devices() {
            let mut random = Random(seed);
            let shape = [blocks, size, width];
            let cache = Tensor::<3>::from_data(
                TensorData::new(random.vec(shape.iter().product()), shape), &device);
            let mut slots: Vec<u32> = (0..(blocks * size) as u32).collect();
            for i in (1..slots.len()).rev() {
                slots.swap(i, random.below(i + 1));
            }
            slots.truncate(1 + random.below(slots.len()));
            let rows = random.matrix(slots.len(), width, &device);
            let mut expected = values(cache.clone());
            for (row, slot) in values(rows.clone()).chunks(width).zip(&slots) {
                expected[*slot as usize * width..][..width].copy_from_slice(row);
            }
            let slow = reference::append_latent(cache.clone(), rows.clone(), &slots);
            let fast = dsv3_kernels::append_latent(cache, rows, slots);
            let [slow, fast] = [slow, fast].map(|blocks| values(blocks.into_floats().unwrap()));
            prop_assert_eq!(&fast, &expected, "{}", name);
            prop_assert_eq!(&slow, &expected, "{} stock", name);
        }
    }

    /// Breaks with: scales rounded after the division, truncation instead of ties to even, wrong
    /// subnormal steps.
    #[test]
    fn quantised_activations_are_the_e4m3_encoders(
        seed: u64, tokens in 1usize..4, n in 1usize..300, ue8m0: bool, size in -12i32..12,
    ) {
        for (name, device) in devices() {
            let mut random = Random(seed);
            let x = random.matrix(tokens, n, &device) * 2f32.powi(size);
            let fast = values(dsv3_kernels::quantize_activations(x.clone(), ue8m0));
            let slow = values(reference::quantize_activations(x, ue8m0));
            if name == "cpu" && ue8m0 {
                prop_assert_eq!(&fast, &slow);
            } else {
                // an arbitrary scale may differ in its last bit, and with it a value by a step
                let far = fast.iter().zip(&slow).filter(|(a, b)| (*a - *b).abs() > b.abs() * 1e-6);
                prop_assert!(far.count() * 50 <= fast.len(), "{}: {:?} {:?}", name, fast, slow);
            }
        }
    }
}

/// The CPU alone: rounding turns another device's last digit into a step.
///
/// Breaks with: up's input rounded as gate's where their formats differ, or not at all.
#[test]
fn experts_round_their_inputs_as_linear_layers_do() {
    let device = Device::flex();
    let formats = [
        Format::Group(GroupCodes::Int8, 32),
        Format::Group(GroupCodes::Int8, 64),
        Format::Group(GroupCodes::Int4, 32),
        Format::Fp8([128, 128]),
        Format::Bf16,
    ];
    let activations = Activations::EightBits { ue8m0: true };
    let linear = |x: &[f32], weight: &Weight| {
        let x = TensorData::new(x.to_vec(), [3, x.len() / 3]);
        let x = Tensor::from_data(x, &device); // [3, in]
        values(dsv3_kernels::packed_linear(x, weight, activations))
    };
    let mut random = Random(3);
    for gate in formats {
        for up in formats {
            let expert = ExpertWeights {
                gate: random.weight(gate, [96, 160], &device),
                up: random.weight(up, [96, 160], &device),
                down: random.weight(up, [160, 96], &device),
            };
            let x = random.matrix(3, 160, &device);
            let given = values(x.clone());
            let [gates, ups] = [&expert.gate, &expert.up].map(|weight| {
                let values = TensorData::new(linear(&given, weight), [3, 96]);
                Tensor::<2>::from_data(values, &device)
            });
            let want = linear(&values(dsv3_kernels::swiglu(gates, ups)), &expert.down);
            let ids = Tensor::<2, Int>::from_data([[0], [0], [0]], (&device, DType::I32));
            let weights = Tensor::<2>::ones([3, 1], &device);
            let y = dsv3_kernels::packed_experts(x, ids, weights, &[expert], activations);
            assert_eq!(values(y), want, "{gate:?} {up:?}");
        }
    }
}

/// Breaks with: an expert read that nobody chose. Its bytes are all NaN here.
#[test]
fn experts_that_no_token_chose_are_not_read() {
    for (name, device) in devices() {
        let mut random = Random(7);
        let mut experts = random.experts(Format::Fp8([128, 128]), 4, [8, 6], &device);
        let poison = |shape: [usize; 2]| {
            let bytes = vec![0x7f; shape[0] * shape[1]];
            Weight::fp8_block(bytes.into(), vec![1.0], [128, 128], shape, &device).unwrap()
        };
        for unchosen in [0, 2] {
            experts[unchosen].gate = poison([6, 8]);
            experts[unchosen].down = poison([8, 6]);
        }
        let ids = Tensor::<2, Int>::from_data([[1, 3]], (&device, DType::I32));
        let x = random.matrix(1, 8, &device);
        let weights = random.matrix(1, 2, &device);
        let y = dsv3_kernels::packed_experts(x, ids, weights, &experts, Activations::Full);
        assert!(
            values(y).iter().all(|v| v.is_finite()),
            "{name} read an unchosen expert"
        );
    }
}

/// The router's check values: a ramp of logits i/256 keeps groups 4..7 and picks 248..255 with
/// weights that sum to 2.5; with every bias at −2 the choice is the same, which a mask of 0 would
/// not give; all-equal values go to the lower ids.
#[test]
fn route_on_the_real_models_shape() {
    let spec = RouteSpec {
        groups: 8,
        top_groups: 4,
        top_k: 8,
        normalize: true,
        scaling: 2.5,
    };
    for (name, device) in devices() {
        let choose = |logits: Vec<f32>, bias: f32| {
            let logits = Tensor::<2>::from_data(TensorData::new(logits, [1, 256]), &device);
            let bias = Tensor::<1>::full([256], bias, &device);
            let (chosen, weights) = dsv3_kernels::route(logits, bias, spec);
            let mut chosen = ids(chosen);
            chosen.sort_unstable();
            (chosen, values(weights))
        };
        let ramp: Vec<f32> = (0..256).map(|i| i as f32 / 256.0).collect();
        for bias in [0.0, -2.0] {
            let (chosen, weights) = choose(ramp.clone(), bias);
            assert_eq!(chosen, (248..256).collect::<Vec<_>>(), "{name} bias {bias}");
            assert!((weights.iter().sum::<f32>() - 2.5).abs() < 1e-5, "{name}");
        }
        assert_eq!(
            choose(vec![0.5; 256], 0.0).0,
            (0..8).collect::<Vec<_>>(),
            "{name}"
        );
    }
}

/// Breaks with: an autodiff route that loses the gradient or sends it to the wrong place.
#[test]
fn gradients_flow_through_packed_weights() {
    let device = Device::flex().autodiff();
    let mut random = Random(3);
    let weight = random.weight(Format::Fp8([4, 4]), [5, 6], &device);
    let x = random.matrix(2, 6, &device).require_grad();
    let loss = |x: Tensor<2>| {
        let y = dsv3_kernels::packed_linear(x, &weight, Activations::Full); // [2, 5]
        (y.clone() * y).sum()
    };
    let grads = loss(x.clone()).backward();
    let gradient = values(x.grad(&grads).unwrap());
    let (at, h) = (values(x), 1e-2);
    for i in 0..at.len() {
        let shifted = |by: f32| {
            let mut at = at.clone();
            at[i] += by;
            let x = Tensor::<2>::from_data(TensorData::new(at, [2, 6]), &device);
            loss(x).into_scalar::<f32>()
        };
        let difference = (shifted(h) - shifted(-h)) / (2.0 * h);
        assert!(
            (gradient[i] - difference).abs() < 1e-2,
            "{i}: {} {difference}",
            gradient[i]
        );
    }
}

/// Breaks with: a default body that does not differentiate.
#[test]
fn gradients_flow_through_attention_and_experts() {
    let device = Device::flex().autodiff();
    let mut random = Random(4);
    let spec = MlaSpec {
        heads: 2,
        nope: 3,
        rope: 2,
        value: 3,
        latent: 4,
        softmax_scale: 0.6,
    };
    let kv_b = random.weight(Format::Plain, [12, 4], &device);
    for form in [MlaForm::Naive, MlaForm::Absorbed] {
        let (query, cache, spans) = mla_case(&mut random, spec, &[(2, 2)], form, &device);
        let (query, cache) = (query.require_grad(), cache.require_grad());
        let out = dsv3_kernels::mla_attention(query.clone(), cache.clone(), &kv_b, spec, spans);
        let grads = (out.clone() * out).sum().backward();
        for grad in [query.grad(&grads), cache.grad(&grads)] {
            assert!(values(grad.unwrap()).iter().any(|g| *g != 0.0), "{form:?}");
        }
    }
    let experts = random.experts(Format::Bf16, 3, [4, 5], &device);
    let x = random.matrix(3, 4, &device).require_grad();
    let logits = random.matrix(3, 3, &device).require_grad();
    let spec = RouteSpec {
        groups: 1,
        top_groups: 1,
        top_k: 2,
        normalize: true,
        scaling: 1.0,
    };
    let (ids, weights) = dsv3_kernels::route(logits.clone(), Tensor::zeros([3], &device), spec);
    let y = dsv3_kernels::packed_experts(x.clone(), ids, weights, &experts, Activations::Full);
    let grads = (y.clone() * y).sum().backward();
    for grad in [x.grad(&grads), logits.grad(&grads)] {
        assert!(values(grad.unwrap()).iter().any(|g| *g != 0.0));
    }
}

/// Breaks with: a shape that is believed before the bytes are counted.
#[test]
fn lengths_that_lie_are_refused() {
    let device = Device::flex();
    let fp8 = |bytes: usize, scales: usize| {
        Weight::fp8_block(
            vec![0; bytes].into(),
            vec![1.0; scales],
            [2, 2],
            [3, 3],
            &device,
        )
    };
    assert!(fp8(9, 4).is_ok());
    assert!(
        fp8(8, 4)
            .unwrap_err()
            .to_string()
            .contains("8 elements where its shape needs 9")
    );
    assert!(fp8(9, 3).is_err());
}
