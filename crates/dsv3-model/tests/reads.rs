//! The bytes that a pass reads, against numbers counted by hand from the configurations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor};
use common::{BLOCK, set_dir};
use dsv3_model::{
    Checkpoint, ChosenExperts, ForwardBatch, LayerBytes, LoadOptions, PassBytes, PassTimes, Trace,
    Transformer, WeightBytes,
};
use dsv3_weights::{ConvertFormat, ConvertOptions, convert};

fn golden(set: &str) -> Checkpoint {
    Checkpoint::open(set_dir(set).join("model")).unwrap()
}

fn load(checkpoint: &Checkpoint) -> Transformer {
    Transformer::load(checkpoint, &LoadOptions::cpu()).unwrap()
}

fn converted(format: ConvertFormat) -> WeightBytes {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("packed");
    let options = ConvertOptions {
        format,
        ..ConvertOptions::default()
    };
    let go_on = &mut |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
    convert(&golden("base"), &out, &options, go_on).unwrap();
    load(&Checkpoint::open(&out).unwrap()).weight_bytes()
}

/// A first dense layer, `experts` experts in the others, as large as the shared one.
#[track_caller]
fn check(bytes: &WeightBytes, layers: usize, experts: usize, dense: LayerBytes, moe: LayerBytes) {
    assert_eq!(bytes.layers.len(), layers);
    assert_eq!(bytes.layers[0], dense);
    let moe = LayerBytes {
        norm: dense.norm,
        attention: dense.attention,
        experts: vec![moe.shared; experts],
        ..moe
    };
    for layer in &bytes.layers[1..] {
        assert_eq!(*layer, moe);
    }
}

/// Breaks with: a projection left out or counted twice, scales left out, a stack counted as one
/// expert, padding counted that is not read, a format taken for another.
#[test]
fn weights_count_as_they_lie_in_memory() {
    // bf16: q_a 96·128, q_b 384·96, kv_a 80·128, kv_b 512·64, o 128·256, two bytes each; norms
    // of 96 and 64 in f32. Experts 3·64·128, the dense MLP 3·256·128, the router 16·128 and 16
    // f32.
    let base = load(&golden("base")).weight_bytes();
    let dense = LayerBytes {
        norm: 1_024,
        attention: 249_856 + 640,
        dense: 196_608,
        ..LayerBytes::default()
    };
    let moe = LayerBytes {
        router: 4_096 + 64,
        shared: 49_152,
        ..LayerBytes::default()
    };
    check(&base, 3, 16, dense.clone(), moe.clone());
    assert_eq!((base.norm, base.head), (512, 131_072));

    // fp8: a byte a value and an f32 a block of 128 × 128. q_a 32,768 + 8, q_b 49,152 + 12, kv_a
    // 40,960 + 16 (its 160 rows are two blocks), kv_b 65,536 + 16, o 65,536 + 16; norms of 128
    // and 128. Embedding, head, router in bf16.
    let fp8 = load(&golden("fp8_ue8m0")).weight_bytes();
    let of_fp8 = LayerBytes {
        norm: 2_048,
        attention: 254_020 + 1_024,
        dense: 3 * (98_304 + 24),
        ..LayerBytes::default()
    };
    let moe_of_fp8 = LayerBytes {
        router: 4_096 + 32,
        shared: 3 * (32_768 + 8),
        ..LayerBytes::default()
    };
    check(&fp8, 2, 8, of_fp8, moe_of_fp8);
    assert_eq!((fp8.norm, fp8.head), (1_024, 163_840));

    // int8 in groups of 64: rows of 128 columns are 132 bytes, of 96 100, of 64 66, of 256 264.
    // kv_b stays in bf16 with its 65,536.
    let int8 = converted(ConvertFormat::Int8 { group: 64 });
    let of_int8 = LayerBytes {
        attention: 96 * 132 + 384 * 100 + 80 * 132 + 65_536 + 128 * 264 + 640,
        dense: 2 * 256 * 132 + 128 * 264,
        ..dense.clone()
    };
    let moe_of_int8 = LayerBytes {
        shared: 2 * 64 * 132 + 128 * 66,
        ..moe.clone()
    };
    check(&int8, 3, 16, of_int8, moe_of_int8);

    // int4 in groups of 32: 72 bytes for 128 columns, 54 for 96, 36 for 64, 144 for 256; q_a and
    // kv_a in int8.
    let int4 = converted(ConvertFormat::Int4 { group: 32 });
    let of_int4 = LayerBytes {
        attention: 96 * 132 + 384 * 54 + 80 * 132 + 65_536 + 128 * 144 + 640,
        dense: 2 * 256 * 72 + 128 * 144,
        ..dense
    };
    let moe_of_int4 = LayerBytes {
        shared: 2 * 64 * 72 + 128 * 36,
        ..moe
    };
    check(&int4, 3, 16, of_int4, moe_of_int4);
    assert_eq!((int4.norm, int4.head), (512, 131_072));
}

/// Counts the experts that a pass chose in a way of its own.
#[derive(Default)]
struct Distinct(u64);

impl Trace for Distinct {
    fn router(&mut self, _: usize, _: &Tensor<2>, ids: &Tensor<2, Int>, _: &Tensor<2>) {
        let ids = ids.clone().into_data().convert::<i32>();
        let ids: BTreeSet<i32> = ids.try_to_vec::<i32>().unwrap().into_iter().collect();
        self.0 += ids.len() as u64;
    }
}

/// Breaks with: an expert counted for each token that chose it, experts that no token chose, a
/// cache without the new tokens or of one layer, a head that is counted though nobody asks for it.
#[test]
fn a_pass_reads_what_it_touches_once() {
    let model = load(&golden("base"));
    let weights = model.weight_bytes();
    let pass = |tokens: &[u32], cached: usize, sequences: u32| {
        let mut cache = model.new_cache(8, BLOCK);
        let mut batch = ForwardBatch::default();
        for i in 0..sequences {
            batch.push(tokens, cached, vec![2 * i, 2 * i + 1]);
        }
        let mut chosen = ChosenExperts::default();
        model
            .forward_traced(&batch, &mut cache, &mut chosen)
            .unwrap();
        let mut distinct = Distinct::default();
        model
            .forward_traced(&batch, &mut cache, &mut distinct)
            .unwrap();
        let bytes = weights.of_pass(&batch, &cache, &chosen);
        batch.logit_rows.clear();
        let silent = weights.of_pass(&batch, &cache, &chosen);
        assert_eq!(silent.total() + 131_072, bytes.total());
        (bytes, distinct.0)
    };

    // One token: four of sixteen experts in each of two layers.
    let (one, distinct) = pass(&[7], 20, 1);
    assert_eq!(distinct, 8);
    let expected = PassBytes {
        norm: 3 * 1_024 + 512,
        attention: 3 * 250_496,
        cache: 21 * 3 * 80 * 4,
        dense: 196_608,
        router: 2 * 4_160,
        shared: 2 * 49_152,
        experts: 8 * 49_152,
        head: 131_072,
    };
    assert_eq!(one, expected);

    // Three sequences with the same tokens choose the same: only the cache is read three times.
    let (three, _) = pass(&[7], 20, 3);
    assert_eq!(three.total() - one.total(), 2 * one.cache);

    let (many, distinct) = pass(&[7, 99, 3, 500, 12, 44], 0, 1);
    assert!(distinct > 8 && distinct < 2 * 6 * 4, "{distinct}");
    assert_eq!(many.experts, distinct * 49_152);
    assert_eq!(many.cache, 6 * 3 * 80 * 4);

    let mut sum = one;
    sum += many;
    assert_eq!(sum.total(), one.total() + many.total());
}

/// Breaks with: a part whose time is counted under another one, or time between passes that is
/// lost.
#[test]
fn every_part_of_a_pass_has_its_time() {
    let model = load(&golden("base"));
    let mut cache = model.new_cache(1, BLOCK);
    let mut batch = ForwardBatch::default();
    batch.push(&[1, 2, 3], 0, vec![0]);
    let started = std::time::Instant::now();
    let mut times = PassTimes::begin();
    for _ in 0..2 {
        model
            .forward_traced(&batch, &mut cache, &mut times)
            .unwrap();
        times.end();
    }
    let whole = started.elapsed().as_secs_f64();
    let parts = [times.attention, times.dense, times.experts, times.head];
    assert!(parts.iter().all(|seconds| *seconds > 0.0), "{parts:?}");
    assert!(times.total() <= whole, "{times:?} in {whole}");
    assert!(times.total() > 0.5 * whole, "{times:?} in {whole}");
}
