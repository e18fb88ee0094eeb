//! Operations that take several weights at once against the same weights one at a time, on every
//! device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use common::{Format, Random, assert_close, devices, values};
use dsv3_kernels::{
    Activations, ExpertWeights, GroupCodes, packed_experts, packed_linear, packed_linear_pair,
    packed_moe, reference, swiglu,
};
use proptest::prelude::*;

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::Plain),
        Just(Format::Bf16),
        Just(Format::Fp8([128, 128])),
        Just(Format::Group(GroupCodes::Int8, 32)),
        Just(Format::Group(GroupCodes::Int4, 32)),
    ]
}

fn activations() -> impl Strategy<Value = Activations> {
    prop_oneof![
        Just(Activations::Full),
        Just(Activations::EightBits { ue8m0: true }),
    ]
}

fn config() -> ProptestConfig {
    // A software GPU compiles each kernel it meets.
    ProptestConfig {
        cases: if cfg!(feature = "wgpu") { 6 } else { 48 },
        ..Default::default()
    }
}

/// `ids [T, k]`
fn chosen(
    random: &mut Random,
    [tokens, k]: [usize; 2],
    count: usize,
    on: &Device,
) -> Tensor<2, Int> {
    let ids = (0..tokens * k)
        .map(|_| random.below(count) as i32)
        .collect();
    Tensor::from_data(
        TensorData::new::<i32, _>(ids, [tokens, k]),
        (on, DType::I32),
    )
}

proptest! {
    #![proptest_config(config())]

    /// Breaks with: a shared expert that some token does not meet or meets twice, that is weighted
    /// as routed ones are, or whose steps and sum are rounded elsewhere than layers round them.
    #[test]
    fn the_shared_expert_adds_what_its_layers_make(
        seed: u64, tokens in 1usize..40, hidden in 1usize..4, inter in 1usize..3,
        count in 1usize..5, k in 1usize..3, wider in 1usize..3, format in formats(),
        activations in activations(), half: bool,
    ) {
        let (hidden, inter) = (32 * hidden, 32 * inter);
        for (name, device) in devices() {
            let mut random = Random(seed);
            let experts = random.experts(format, count, [hidden, inter], &device);
            let shared = random.experts(format, 1, [hidden, wider * inter], &device).remove(0);
            let half = half && name != "wgpu"; // WGSL has no bf16
            let dtype = if half { DType::BF16 } else { DType::F32 };
            let x = random.matrix(tokens, hidden, &device).cast(dtype);
            let weights = random.matrix(tokens, k, &device);
            let ids = chosen(&mut random, [tokens, k], count, &device);

            let (a, b, c) = (x.clone(), ids.clone(), weights.clone());
            let together = values(packed_moe(a, b, c, &experts, &shared, activations));

            let routed = packed_experts(x.clone(), ids.clone(), weights.clone(), &experts, activations);
            let gate = packed_linear(x.clone(), &shared.gate, activations);
            let up = packed_linear(x.clone(), &shared.up, activations);
            let alone = packed_linear(swiglu(gate, up), &shared.down, activations);
            prop_assert_eq!(&together, &values(routed + alone), "{}", name);

            // Rounding turns another order of sums into a step.
            if !half && activations == Activations::Full {
                let want = reference::packed_moe(x, ids, weights, &experts, &shared, activations);
                assert_close(name, &together, &values(want), 2e-5);
            }
        }
    }

    /// Breaks with: a product that goes to the other weight's place.
    #[test]
    fn a_pair_is_two_products(
        seed: u64, tokens in 1usize..40, first in 1usize..70, second in 1usize..70,
        units in 1usize..4, formats in (formats(), formats()), activations in activations(),
    ) {
        for (name, device) in devices() {
            let mut random = Random(seed);
            let first = random.weight(formats.0, [first, 32 * units], &device);
            let second = random.weight(formats.1, [second, 32 * units], &device);
            let x = random.matrix(tokens, 32 * units, &device);
            let pair = packed_linear_pair(x.clone(), [&first, &second], activations);
            let each = [&first, &second].map(|w| packed_linear(x.clone(), w, activations));
            prop_assert_eq!(pair.map(values), each.map(values), "{}", name);
        }
    }
}

/// Breaks with: ids that are counted among all experts where only chosen ones are handed on, or
/// an id without an expert that takes another's place.
#[test]
fn experts_are_found_among_many() {
    for (name, device) in devices() {
        let mut random = Random(5);
        let many = random.experts(Format::Bf16, 300, [8, 6], &device);
        let x = random.matrix(3, 8, &device);
        let weights = random.matrix(3, 2, &device);
        let ids = |ids: [[i32; 2]; 3]| Tensor::<2, Int>::from_data(ids, (&device, DType::I32));
        let run = |given, experts: &[ExpertWeights]| {
            let (x, weights) = (x.clone(), weights.clone());
            values(packed_experts(
                x,
                ids(given),
                weights,
                experts,
                Activations::Full,
            ))
        };
        let few = [7, 40, 299].map(|id| many[id].clone());
        let want = run([[2, 0], [1, 0], [1, 2]], &few);
        assert_eq!(run([[299, 7], [40, 7], [40, 299]], &many), want, "{name}");

        let want = run([[0, 0], [9, 0], [9, 9]], &few[..1]);
        let got = run([[7, 7], [300, 7], [-1, i32::MAX]], &many);
        assert_eq!(got, want, "{name}");
        assert_eq!(got[16..], [0.0; 8], "{name}");
    }
}
