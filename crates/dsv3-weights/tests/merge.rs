//! Adapters merged into their base.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod adapters;
mod common;

use std::ops::ControlFlow;
use std::path::Path;

use adapters::{WEIGHTS, config, honest, open, shape_of, write};
use common::golden;
use dsv3_weights::fp8::{dequantize_block, quantize_block};
use dsv3_weights::group::{dequantize_group, quantize_group_fitted};
use dsv3_weights::{
    Adapter, Checkpoint, ConvertFormat, ConvertOptions, ConvertReport, Dtype, GroupBits,
    GroupFormat, Layout, ScaleFmt, WeightsError, convert, merge,
};
use half::bf16;

fn merged(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    out: &Path,
    format: ConvertFormat,
) -> Result<ConvertReport, WeightsError> {
    let options = ConvertOptions {
        format,
        ..ConvertOptions::default()
    };
    merge(checkpoint, adapter, out, &options, &mut |_| {
        ControlFlow::Continue(())
    })
}

/// `W + scale · B · A` in f64.
fn sum(checkpoint: &Checkpoint, adapter: &Adapter, weight: &str) -> Vec<f64> {
    let [out, input] = shape_of(checkpoint, weight);
    let base = checkpoint.matrix_f32(weight, [out, input]).unwrap();
    let factors = adapter.get(weight).unwrap();
    let mut sum: Vec<f64> = base.into_iter().map(f64::from).collect();
    for (i, value) in sum.iter_mut().enumerate() {
        for k in 0..factors.rank {
            let product = f64::from(factors.b[i / input * factors.rank + k])
                * f64::from(factors.a[k * input + i % input]);
            *value += f64::from(factors.scale) * product;
        }
    }
    sum
}

/// Breaks with: a change that goes to the wrong rows, is rounded twice, or touches what it should
/// leave alone.
#[test]
fn merged_is_the_sum_rounded_once() {
    for set in ["base", "fp8_ue8m0"] {
        let checkpoint = golden(set);
        let tmp = tempfile::tempdir().unwrap();
        write(tmp.path(), &config(), &honest(&checkpoint));
        let adapter = Adapter::open(tmp.path(), checkpoint.args()).unwrap();

        let exact = tmp.path().join("f32");
        let report = merged(&checkpoint, &adapter, &exact, ConvertFormat::F32).unwrap();
        assert_eq!(report.merged, 5);
        let exact = Checkpoint::open(&exact).unwrap();
        assert_eq!(exact.verify().unwrap(), []);
        assert_eq!(exact.args().quantization, None);
        for spec in Layout::new(checkpoint.args()).tensors() {
            let tensor = exact.tensor(&spec.name).unwrap();
            assert_eq!(tensor.dtype(), Dtype::F32, "{}", spec.name);
            let got = tensor.to_f32_vec().unwrap();
            if adapter.get(&spec.name).is_some() {
                let want = sum(&checkpoint, &adapter, &spec.name);
                for (got, want) in got.iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 1e-6 * want.abs().max(1.0));
                }
            } else if let [out, input] = spec.shape[..] {
                let want = checkpoint.matrix_f32(&spec.name, [out, input]).unwrap();
                assert_eq!(got, want, "{}", spec.name);
            }
        }
        let text = std::fs::read_to_string(exact.dir().join("config.json")).unwrap();
        assert!(text.contains("float32"), "{text}");

        // The other formats are the f32 sum, rounded.
        let halves = tmp.path().join("bf16");
        merged(&checkpoint, &adapter, &halves, ConvertFormat::Bf16).unwrap();
        let halves = Checkpoint::open(&halves).unwrap();
        let blocks = tmp.path().join("fp8");
        let fp8 = ConvertFormat::Fp8 { ue8m0: true };
        let report = merged(&checkpoint, &adapter, &blocks, fp8.clone()).unwrap();
        assert_eq!(report.merged, 5);
        let blocks = Checkpoint::open(&blocks).unwrap();
        let groups = tmp.path().join("int8");
        let int8 = ConvertFormat::Int8 { group: 64 };
        let report = merged(&checkpoint, &adapter, &groups, int8).unwrap();
        assert_eq!(report.merged, 5);
        let groups = Checkpoint::open(&groups).unwrap();
        for weight in WEIGHTS {
            let shape = shape_of(&checkpoint, weight);
            let want = exact.matrix_f32(weight, shape).unwrap();
            let rounded: Vec<f32> = want.iter().map(|v| bf16::from_f32(*v).to_f32()).collect();
            assert_eq!(halves.matrix_f32(weight, shape).unwrap(), rounded);
            if !weight.contains("kv_b_proj") {
                let format = GroupFormat::new(GroupBits::Int8, 64).unwrap();
                let rows = quantize_group_fitted(&want, shape, format, None).unwrap();
                let packed = dequantize_group(&rows, shape, format).unwrap();
                assert_eq!(groups.matrix_f32(weight, shape).unwrap(), packed);
            }
            let block = [128, 128];
            let packed = quantize_block(&want, shape, block, ScaleFmt::Ue8m0).unwrap();
            let rounded = dequantize_block(&packed.data, &packed.scale, shape, block).unwrap();
            assert_eq!(blocks.matrix_f32(weight, shape).unwrap(), rounded);
        }
        // What has no factors is what a conversion without an adapter writes.
        let plain = tmp.path().join("plain");
        let options = ConvertOptions {
            format: fp8,
            ..ConvertOptions::default()
        };
        convert(&checkpoint, &plain, &options, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        let plain = Checkpoint::open(&plain).unwrap();
        for tensor in plain.tensors() {
            let weight = tensor.name().trim_end_matches("_scale_inv");
            let other = blocks.tensor(tensor.name()).unwrap();
            let same = tensor.bytes() == other.bytes();
            assert_eq!(same, adapter.get(weight).is_none(), "{}", tensor.name());
        }
    }
}

/// A large matrix is merged in pieces.
///
/// Breaks with: a piece that gets the rows of another.
#[test]
fn pieces_of_a_weight_get_their_own_rows() {
    let checkpoint = golden("base");
    let adapter = open(&checkpoint, &config(), &honest(&checkpoint)).unwrap();
    let factors = adapter.get(WEIGHTS[2]).unwrap();
    let [out, input] = factors.shape;
    let mut whole = vec![0.5f32; out * input];
    factors.add_to(0, &mut whole);
    let mut pieces = vec![0.5f32; out * input];
    let mut first = 0;
    for piece in pieces.chunks_mut(input * 37) {
        factors.add_to(first, piece);
        first += 37;
    }
    assert_eq!(whole, pieces);
}

/// Breaks with: a half-merged checkpoint that is finished with another adapter.
#[test]
fn an_interrupted_merge_goes_on_with_the_same_adapter_only() {
    let checkpoint = golden("base");
    let tmp = tempfile::tempdir().unwrap();
    let mut tensors = honest(&checkpoint);
    let first = open(&checkpoint, &config(), &tensors).unwrap();
    let last = tensors.last_mut().unwrap();
    last.data[..4].copy_from_slice(&0.25f32.to_le_bytes());
    let second = open(&checkpoint, &config(), &tensors).unwrap();
    let out = tmp.path().join("out");
    let options = ConvertOptions {
        shard_bytes: 200_000,
        ..ConvertOptions::default()
    };
    let mut calls = 0;
    let stopped = merge(&checkpoint, &first, &out, &options, &mut |_| {
        calls += 1;
        match calls > 40 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(stopped, Err(WeightsError::Interrupted { .. })));
    let go = |adapter: Option<&Adapter>| {
        let progress = &mut |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
        match adapter {
            Some(adapter) => merge(&checkpoint, adapter, &out, &options, progress),
            None => convert(&checkpoint, &out, &options, progress),
        }
    };
    for other in [Some(&second), None] {
        let error = go(other).unwrap_err();
        assert!(
            matches!(error, WeightsError::ForeignPartial { .. }),
            "{error}"
        );
    }
    assert!(go(Some(&first)).unwrap().shards_kept > 0);
}
