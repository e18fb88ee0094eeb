//! Random checkpoints: they open, they can be made again, and half of one is never taken for one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use common::{contents, golden_dir};
use dsv3_weights::bench_model::{
    BenchModelOptions, BenchModelReport, parameters, slice, small, write,
};
use dsv3_weights::{
    Checkpoint, Dtype, Layout, ModelArgs, Plan, PlanOptions, Quantization, SCALE_SUFFIX,
    WeightsError,
};

/// Every kind of tensor, and blocks that are cut off at the edges.
fn tiny(quantization: Option<Quantization>) -> ModelArgs {
    let mut args = small().unwrap();
    args.vocab_size = 300;
    args.hidden_size = 192;
    args.intermediate_size = 320;
    args.moe_intermediate_size = 64;
    args.num_hidden_layers = 2;
    args.num_nextn_predict_layers = 1;
    args.num_attention_heads = 2;
    args.n_routed_experts = 16;
    args.q_lora_rank = Some(96);
    args.kv_lora_rank = 64;
    args.qk_nope_head_dim = 32;
    args.qk_rope_head_dim = 16;
    args.v_head_dim = 32;
    args.quantization = quantization;
    args
}

fn run(
    args: &ModelArgs,
    out: &Path,
    options: &BenchModelOptions,
) -> Result<BenchModelReport, WeightsError> {
    write(args, out, options, &mut |_| ControlFlow::Continue(()))
}

/// Breaks with: a tensor that is forgotten or misshapen, a dtype that is not the published one, a
/// scale that is no power of two, values that are not finite, an index that does not match.
#[test]
fn it_opens_as_the_published_checkpoint_does() {
    for quantization in [None, Some(Quantization::V3_1)] {
        for shard_bytes in [u64::MAX, 300_000] {
            let tmp = tempfile::tempdir().unwrap();
            let (args, out) = (tiny(quantization), tmp.path().join("out"));
            let options = BenchModelOptions {
                shard_bytes,
                ..BenchModelOptions::default()
            };
            let report = run(&args, &out, &options).unwrap();
            assert_eq!(report.shards == 1, shard_bytes == u64::MAX);
            let checkpoint = Checkpoint::open(&out).unwrap();
            assert_eq!(checkpoint.verify().unwrap(), []);
            assert_eq!(*checkpoint.args(), args);
            let plan = Plan::new(&args, &PlanOptions::default()).unwrap();
            assert_eq!(checkpoint.data_bytes(), plan.total_bytes);
            assert_eq!(
                (report.bytes, report.tensors),
                (plan.total_bytes, plan.total_tensors)
            );
            for spec in Layout::new(&args).tensors() {
                let tensor = checkpoint.tensor(&spec.name).unwrap();
                assert_eq!(tensor.dtype(), spec.dtype_published, "{}", spec.name);
                if tensor.dtype() == Dtype::F8E4M3 {
                    let shape = [spec.shape[0], spec.shape[1]];
                    let linear = checkpoint.linear(&spec.name, shape).unwrap();
                    let values = linear.dequantize();
                    assert!(values.iter().all(|x| x.is_finite()), "{}", spec.name);
                    let scale = format!("{}{SCALE_SUFFIX}", spec.name);
                    assert_eq!(checkpoint.tensor(&scale).unwrap().dtype(), Dtype::F32);
                } else {
                    let values = tensor.to_f32_vec().unwrap();
                    assert!(values.iter().all(|x| x.is_finite()), "{}", spec.name);
                }
            }
            assert!(quantization.is_none() || power_of_two_scales(&checkpoint));
        }
    }
}

fn power_of_two_scales(checkpoint: &Checkpoint) -> bool {
    let mut scales = checkpoint
        .tensors()
        .filter(|t| t.name().ends_with(SCALE_SUFFIX));
    scales.all(|t| {
        let mut values = t.to_f32_vec().unwrap().into_iter();
        values.all(dsv3_weights::fp8::is_power_of_two)
    })
}

/// Breaks with: values that depend on the clock, the order of the work, the number of threads or
/// the cut of the files; a seed without effect.
#[test]
fn bytes_follow_from_configuration_and_seed() {
    let tmp = tempfile::tempdir().unwrap();
    for quantization in [None, Some(Quantization::V3_1)] {
        let args = tiny(quantization);
        let written = |name: &str, threads, seed, shard_bytes| {
            let out = tmp.path().join(name);
            let options = BenchModelOptions {
                seed,
                shard_bytes,
                ..BenchModelOptions::default()
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| run(&args, &out, &options)).unwrap();
            let files = contents(&out);
            let checkpoint = Checkpoint::open(&out).unwrap();
            let tensors = checkpoint.tensors();
            let tensors: BTreeMap<_, _> = tensors
                .map(|t| (t.name().to_owned(), t.bytes().to_vec()))
                .collect();
            drop(checkpoint);
            std::fs::remove_dir_all(&out).unwrap();
            (files, tensors)
        };
        let first = written("first", 1, 7, 300_000);
        assert_eq!(first, written("second", 3, 7, 300_000));
        assert_eq!(first.1, written("one file", 2, 7, u64::MAX).1);
        let other = written("other seed", 1, 8, 300_000);
        for (name, bytes) in &first.1 {
            let scales = name.ends_with(SCALE_SUFFIX); // a few powers of two, often the same
            assert!(scales || other.1[name] != *bytes, "{name}");
        }
    }
}

/// Breaks with: a matrix larger than a piece whose second piece repeats or misses values, or whose
/// scales are written to the wrong place.
#[test]
fn large_matrices_cross_pieces() {
    let tmp = tempfile::tempdir().unwrap();
    let mut args = tiny(Some(Quantization::V3_1));
    args.vocab_size = 25_000; // 4.8 million values
    args.intermediate_size = 23_000; // 4.4 million
    run(
        &args,
        &tmp.path().join("out"),
        &BenchModelOptions::default(),
    )
    .unwrap();
    let checkpoint = Checkpoint::open(tmp.path().join("out")).unwrap();
    let embedding = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    let rows = embedding.to_f32_vec().unwrap();
    let (first, last) = (&rows[..192], &rows[24_999 * 192..]);
    assert!(first != last && last.iter().any(|x| x.abs() > 0.5));
    let gate = "model.layers.0.mlp.gate_proj.weight";
    let linear = checkpoint.linear(gate, [23_000, 192]).unwrap();
    let values = linear.dequantize();
    for rows in values.chunks(192 * 1000) {
        let square = rows.iter().map(|x| f64::from(x * x)).sum::<f64>() / rows.len() as f64;
        assert!((square * 192.0 - 1.0).abs() < 0.02, "{square}");
    }
}

/// Breaks with: an output that overwrites what is there.
#[test]
fn what_exists_is_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let e = run(&tiny(None), &out, &BenchModelOptions::default()).unwrap_err();
    assert!(
        matches!(&e, WeightsError::OutputExists { path } if *path == out),
        "{e}"
    );
    assert_eq!(contents(tmp.path().join("out").as_path()), BTreeMap::new());
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1);
}

/// Breaks with: half a checkpoint under the name of a whole one, a stop that loses finished files,
/// a run that goes on with another seed's files.
#[test]
fn an_interrupted_run_leaves_no_folder_and_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let (args, out) = (tiny(Some(Quantization::V3_1)), tmp.path().join("out"));
    let options = BenchModelOptions {
        shard_bytes: 200_000,
        ..BenchModelOptions::default()
    };
    let stopped = write(&args, &out, &options, &mut |p| match p.shard {
        1 | 2 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    });
    let e = stopped.unwrap_err();
    assert!(matches!(e, WeightsError::Interrupted { .. }), "{e}");
    assert!(!out.exists());
    assert!(Checkpoint::open(tmp.path().join("out.partial")).is_err());

    let other = BenchModelOptions {
        seed: 1,
        ..options.clone()
    };
    let e = run(&args, &out, &other).unwrap_err();
    assert!(matches!(e, WeightsError::ForeignPartial { .. }), "{e}");

    let report = run(&args, &out, &options).unwrap();
    assert_eq!(report.shards_kept, 2);
    assert!(!tmp.path().join("out.partial").exists());
    let whole = tmp.path().join("whole");
    run(&args, &whole, &options).unwrap();
    assert_eq!(contents(&out), contents(&whole));
}

/// Breaks with: a tokenizer that is not copied, or whose absence shows only when all is written.
#[test]
fn the_tokenizer_comes_along() {
    let tmp = tempfile::tempdir().unwrap();
    let (args, out) = (tiny(None), tmp.path().join("out"));
    let options = |file: &str| BenchModelOptions {
        tokenizer: Some(tmp.path().join(file)),
        ..BenchModelOptions::default()
    };
    let e = run(&args, &out, &options("missing.json")).unwrap_err();
    assert!(e.to_string().contains("missing.json"), "{e}");
    assert!(!tmp.path().join("out.partial").exists());
    std::fs::write(tmp.path().join("mine.json"), "{}").unwrap();
    let report = run(&args, &out, &options("mine.json")).unwrap();
    assert_eq!(
        report.side_files,
        ["config.json", "generation_config.json", "tokenizer.json"]
    );
    assert_eq!(std::fs::read(out.join("tokenizer.json")).unwrap(), b"{}");
}

/// Breaks with: a number of layers or experts that no slice can have; a message that does not name
/// the bound.
#[test]
fn absurd_sizes_are_refused() {
    for (layers, experts, says) in [
        (0, 32, "`layers` is 0"),
        (62, 32, "1 to 61"),
        (usize::MAX, 32, "1 to 61"),
        (4, 0, "sent to 8"),
        (4, 7, "sent to 8"),
        (4, 257, "256 at most"),
        (4, usize::MAX, "256 at most"),
    ] {
        let e = slice(layers, experts).unwrap_err();
        assert!(matches!(e, WeightsError::BadOption { .. }), "{e}");
        assert!(e.to_string().contains(says), "{e}");
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut args = tiny(None);
    args.hidden_size = 1 << 40;
    let e = run(
        &args,
        &tmp.path().join("out"),
        &BenchModelOptions::default(),
    )
    .unwrap_err();
    assert!(e.to_string().contains("hidden_size"), "{e}");
    let options = BenchModelOptions {
        shard_bytes: 0,
        ..BenchModelOptions::default()
    };
    let e = run(&tiny(None), &tmp.path().join("out"), &options).unwrap_err();
    assert!(e.to_string().contains("shard bytes"), "{e}");
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
}

/// Breaks with: a slice without a MoE layer, with groups that do not divide its experts, or with
/// fewer experts to choose from than are chosen; the whole model not being V3.1.
#[test]
fn every_slice_is_a_possible_model() {
    for layers in 1..=61 {
        for experts in 8..=256 {
            let args = slice(layers, experts).unwrap();
            let json = args.to_config_json().to_string();
            assert_eq!(ModelArgs::from_json_bytes(json.as_bytes()).unwrap(), args);
            assert!(args.is_moe_layer(layers - 1), "{layers} {experts}");
        }
    }
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/config/config.json"
    );
    let mut published = ModelArgs::from_file(file).unwrap();
    assert_eq!(published.quantization, Some(Quantization::V3_1));
    published.quantization = None;
    published.num_nextn_predict_layers = 0;
    assert_eq!(slice(61, 256).unwrap(), published);
}

/// Breaks with: a small model that is not the one that other engines were measured with (1,695
/// million parameters, 3.4 GB in bf16).
#[test]
fn the_small_model_has_its_size() {
    let args = small().unwrap();
    assert_eq!(parameters(&args) / 1_000_000, 1695);
    let json = args.to_config_json().to_string();
    assert_eq!(ModelArgs::from_json_bytes(json.as_bytes()).unwrap(), args);
}

/// Breaks with: a field that is not written, or not as it is read.
#[test]
fn configurations_read_back_as_they_are() {
    for set in [
        "base",
        "fp8_ue8m0",
        "fp8_f32odd",
        "mtp",
        "nogroup",
        "noqlora",
        "realdims",
    ] {
        let args = ModelArgs::from_file(golden_dir(set).join("config.json")).unwrap();
        let json = args.to_config_json().to_string();
        let read = ModelArgs::from_json_bytes(json.as_bytes()).unwrap();
        assert_eq!(read, args, "{set}");
    }
}
