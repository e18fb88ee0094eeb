//! Conversion against its oracles, and everything that may go wrong on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{golden, golden_dir, safetensors_bytes, tensors_of, write_checkpoint};
use dsv3_weights::fp8::{is_power_of_two, quantize_block};
use dsv3_weights::{
    Checkpoint, ConvertFormat, ConvertOptions, ConvertReport, Dtype, Layout, LinearFormat, Plan,
    PlanFormat, PlanOptions, ScaleFmt, WeightsError, convert,
};
use half::bf16;

const BF16: ConvertFormat = ConvertFormat::Bf16;
const UE8M0: ConvertFormat = ConvertFormat::Fp8 { ue8m0: true };
const ANY_SCALE: ConvertFormat = ConvertFormat::Fp8 { ue8m0: false };

fn run(
    source: &Checkpoint,
    out: &Path,
    format: ConvertFormat,
    shard_bytes: u64,
) -> Result<ConvertReport, WeightsError> {
    let options = ConvertOptions {
        format,
        shard_bytes,
        ..ConvertOptions::default()
    };
    convert(source, out, &options, &mut |_| ControlFlow::Continue(()))
}

/// Every file of a folder with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries
        .map(|p| (p.file_name().unwrap().into(), std::fs::read(&p).unwrap()))
        .collect()
}

fn bf16_bytes(x: &[f32]) -> Vec<u8> {
    x.iter()
        .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
        .collect()
}

/// Each weight must be `bf16(e4m3 · scale)`, each other tensor unchanged.
#[test]
fn fp8_to_bf16_equals_the_oracle() {
    for set in ["fp8_ue8m0", "fp8_f32odd"] {
        let tmp = tempfile::tempdir().unwrap();
        let (source, out) = (golden(set), tmp.path().join("out"));
        let report = run(&source, &out, BF16, u64::MAX).unwrap();
        assert_eq!(
            (report.dequantized, report.shards, report.shards_kept),
            (40, 1, 0)
        );
        let result = Checkpoint::open(&out).unwrap();
        assert_eq!(result.verify().unwrap(), []);
        assert_eq!(result.args().quantization, None);
        let plan = PlanOptions {
            format: PlanFormat::Bf16,
            ..PlanOptions::default()
        };
        let plan = Plan::new(source.args(), &plan).unwrap();
        assert_eq!(result.data_bytes(), plan.total_bytes, "{set}");
        assert_eq!(result.num_tensors() as u64, plan.total_tensors, "{set}");
        for spec in Layout::new(source.args()).tensors() {
            let (before, after) = (
                source.tensor(&spec.name).unwrap(),
                result.tensor(&spec.name).unwrap(),
            );
            if before.dtype() == Dtype::F8E4M3 {
                let shape = [spec.shape[0], spec.shape[1]];
                let dense = source.linear(&spec.name, shape).unwrap().dequantize();
                assert_eq!(after.bytes(), bf16_bytes(&dense), "{set} {}", spec.name);
            } else {
                assert_eq!(after.bytes(), before.bytes(), "{set} {}", spec.name);
                assert_eq!(after.dtype(), before.dtype());
            }
        }
    }
}

/// Codes and scales must be those of the block quantiser, only for the published linears.
#[test]
fn bf16_to_fp8_equals_the_oracle() {
    for (format, fmt) in [(UE8M0, ScaleFmt::Ue8m0), (ANY_SCALE, ScaleFmt::F32)] {
        for set in ["base", "noqlora", "mtp"] {
            let tmp = tempfile::tempdir().unwrap();
            let (source, out) = (golden(set), tmp.path().join("out"));
            run(&source, &out, format.clone(), 300_000).unwrap();
            let result = Checkpoint::open(&out).unwrap();
            assert_eq!(result.verify().unwrap(), []);
            assert_eq!(result.args().quantization.unwrap().scale_fmt, fmt);
            let plan = Plan::new(result.args(), &PlanOptions::default()).unwrap();
            assert_eq!(result.data_bytes(), plan.total_bytes);
            for spec in Layout::new(source.args()).tensors() {
                let before = source.tensor(&spec.name).unwrap();
                let after = result.tensor(&spec.name).unwrap();
                if !spec.quantizable {
                    assert_eq!(after.bytes(), before.bytes(), "{}", spec.name);
                    continue;
                }
                let shape = [spec.shape[0], spec.shape[1]];
                let values = before.to_f32_vec().unwrap();
                let want = quantize_block(&values, shape, [128, 128], fmt).unwrap();
                let linear = result.linear(&spec.name, shape).unwrap();
                assert_eq!(linear.data, want.data, "{}", spec.name);
                assert_eq!(linear.scale.unwrap(), want.scale, "{}", spec.name);
            }
        }
    }
}

/// e4m3 times a power of two is exact in bf16, so there and back must lose nothing.
#[test]
fn there_and_back_is_exact_with_power_of_two_scales() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("fp8_ue8m0");
    run(&source, &tmp.path().join("bf16"), BF16, u64::MAX).unwrap();
    let middle = Checkpoint::open(tmp.path().join("bf16")).unwrap();
    run(&middle, &tmp.path().join("fp8"), UE8M0, u64::MAX).unwrap();
    let result = Checkpoint::open(tmp.path().join("fp8")).unwrap();
    for t in source.tensors().filter(|t| t.dtype() == Dtype::F8E4M3) {
        let shape = [t.shape()[0], t.shape()[1]];
        let (a, b) = (
            source.linear(t.name(), shape),
            result.linear(t.name(), shape),
        );
        assert_eq!(
            a.unwrap().dequantize(),
            b.unwrap().dequantize(),
            "{}",
            t.name()
        );
    }
}

/// fp8 to the same kind of fp8 must not round a second time; to power-of-two scales it must.
#[test]
fn fp8_to_fp8_copies_or_requantises() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("fp8_f32odd");
    let report = run(&source, &tmp.path().join("same"), ANY_SCALE, u64::MAX).unwrap();
    assert_eq!((report.quantized, report.dequantized), (0, 0));
    let same = Checkpoint::open(tmp.path().join("same")).unwrap();
    for t in source.tensors() {
        assert_eq!(
            same.tensor(t.name()).unwrap().bytes(),
            t.bytes(),
            "{}",
            t.name()
        );
    }
    let report = run(&source, &tmp.path().join("pow2"), UE8M0, u64::MAX).unwrap();
    assert_eq!(report.quantized, 40);
    let census = Checkpoint::open(tmp.path().join("pow2"))
        .unwrap()
        .scale_census()
        .unwrap();
    assert_eq!((census.power_of_two, census.any_value), (40, 0));
    let census = source.scale_census().unwrap();
    assert!(census.any_value > 0 && census.first_any_value.is_some());
}

/// A block of 128 rows that is not the last chunk's must find its own scales.
#[test]
fn large_matrices_cross_chunks() {
    // 40 strips of [128, 1100] are more than one chunk of 2^22 elements.
    let (rows, cols) = (5123usize, 1100usize);
    let tmp = tempfile::tempdir().unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden_dir("base").join("config.json")).unwrap())
            .unwrap();
    for (key, value) in [
        ("intermediate_size", rows),
        ("hidden_size", cols),
        ("num_hidden_layers", 1),
    ] {
        config[key] = value.into();
    }
    let args = dsv3_weights::ModelArgs::from_json_bytes(config.to_string().as_bytes()).unwrap();
    let mut state = 7u32;
    let tensors: Vec<common::Raw> = Layout::new(&args)
        .tensors()
        .map(|spec| {
            let n: usize = spec.shape.iter().product();
            let values: Vec<f32> = (0..n)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Another size in every strip of blocks, so that each needs its own scale.
                    let size = 2f32.powi((i / (128 * cols) % 9) as i32);
                    size * ((state >> 8) as f32 / 8e6 - 1.0)
                })
                .collect();
            let shape: Vec<u64> = spec.shape.iter().map(|d| *d as u64).collect();
            common::Raw::new(&spec.name, Dtype::BF16, &shape, bf16_bytes(&values))
        })
        .collect();
    let dir = tmp.path().join("source");
    write_checkpoint(&dir, "base", &safetensors_bytes(&tensors));
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let source = Checkpoint::open(&dir).unwrap();
    run(&source, &tmp.path().join("fp8"), UE8M0, u64::MAX).unwrap();
    let fp8 = Checkpoint::open(tmp.path().join("fp8")).unwrap();
    run(&fp8, &tmp.path().join("bf16"), BF16, u64::MAX).unwrap();
    let back = Checkpoint::open(tmp.path().join("bf16")).unwrap();
    let name = "model.layers.0.mlp.gate_proj.weight";
    let values = source.matrix_f32(name, [rows, cols]).unwrap();
    let want = quantize_block(&values, [rows, cols], [128, 128], ScaleFmt::Ue8m0).unwrap();
    let linear = fp8.linear(name, [rows, cols]).unwrap();
    assert!(linear.data == want.data && linear.scale.as_ref() == Some(&want.scale));
    assert!(back.tensor(name).unwrap().bytes() == bf16_bytes(&linear.dequantize()));
}

/// Shards, index and names must be what other readers expect.
#[test]
fn shards_follow_the_published_naming() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, out) = (golden("base"), tmp.path().join("out"));
    let report = run(&source, &out, UE8M0, 100_000).unwrap();
    assert!(report.shards > 2);
    let result = Checkpoint::open(&out).unwrap();
    assert_eq!(result.files().len(), report.shards);
    for (i, file) in result.files().iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, report.shards);
        assert_eq!(
            file.path().file_name().unwrap().to_str(),
            Some(name.as_str())
        );
        let bytes: u64 = file.tensors().map(|t| t.byte_len()).sum();
        assert!(
            bytes <= 100_000 || file.tensors().len() <= 2,
            "{name}: {bytes}"
        );
        // The header is aligned and so is every tensor; the crate of the format agrees.
        assert_eq!(file.header().data_start % 8, 0);
        for t in &file.header().tensors {
            assert_eq!(t.begin % t.dtype.size_bytes() as u64, 0);
        }
        let raw = std::fs::read(file.path()).unwrap();
        assert_eq!(
            safetensors::SafeTensors::deserialize(&raw).unwrap().len(),
            file.tensors().len()
        );
        assert_eq!(
            file.header().metadata.get("format").map(String::as_str),
            Some("pt")
        );
    }
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("model.safetensors.index.json")).unwrap())
            .unwrap();
    assert_eq!(index["metadata"]["total_size"].as_u64(), Some(report.bytes));
    assert_eq!(
        index["weight_map"].as_object().unwrap().len() as u64,
        report.tensors
    );
}

/// The other fields of the configuration and the tokenizer belong to the model, not the format.
#[test]
fn config_and_side_files_come_along() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("source");
    let base = golden("base");
    write_checkpoint(&dir, "base", &safetensors_bytes(&tensors_of(&base)));
    std::fs::write(dir.join("tokenizer.json"), "{\"a\":1}").unwrap();
    std::fs::write(dir.join("generation_config.json"), "{}").unwrap();
    std::fs::create_dir(dir.join("assets")).unwrap();
    std::fs::write(dir.join("assets/chat_template.jinja"), "{{ x }}").unwrap();
    std::fs::write(dir.join("modeling_deepseek.py"), "import os").unwrap();
    let out = tmp.path().join("out");
    let report = run(&Checkpoint::open(&dir).unwrap(), &out, UE8M0, u64::MAX).unwrap();
    assert_eq!(
        report.side_files,
        [
            "generation_config.json",
            "tokenizer.json",
            "assets/chat_template.jinja"
        ]
    );
    assert_eq!(
        std::fs::read(out.join("tokenizer.json")).unwrap(),
        b"{\"a\":1}"
    );
    assert!(!out.join("modeling_deepseek.py").exists());
    assert!(!out.join(".dsv3-partial.json").exists());
    assert!(!tmp.path().join("out.partial").exists());
    let read = |dir: &Path| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap()
    };
    let (before, mut after) = (read(&dir), read(&out));
    let quantization = after.shift_remove("quantization_config").unwrap();
    assert_eq!(quantization["scale_fmt"], "ue8m0");
    assert_eq!(before, after);
    assert!(
        before.keys().eq(after.keys()),
        "the order of the fields changed"
    );
}

/// A conversion of hours must survive Ctrl-C: finished shards are kept, the result is the same.
#[test]
fn an_interrupted_conversion_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("mtp");
    let (whole, cut) = (tmp.path().join("whole"), tmp.path().join("cut"));
    run(&source, &whole, UE8M0, 100_000).unwrap();
    let options = ConvertOptions {
        format: UE8M0,
        shard_bytes: 100_000,
        ..ConvertOptions::default()
    };
    let mut rounds = 0;
    let report = loop {
        rounds += 1;
        // Each round gets a little further than the last, and stops in the middle of a shard.
        let mut left = 40 * rounds;
        let mut last = 0;
        let result = convert(&source, &cut, &options, &mut |p| {
            assert!(p.bytes_done >= last && p.bytes_done <= p.bytes_total);
            last = p.bytes_done;
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match result {
            Ok(report) => break report,
            Err(WeightsError::Interrupted { partial }) => {
                assert_eq!(partial, tmp.path().join("cut.partial"));
                assert!(!cut.exists(), "the output appeared before it was complete");
            }
            Err(e) => panic!("{e}"),
        }
    };
    assert!(rounds > 2 && report.shards_kept > 0 && report.shards_kept < report.shards);
    assert_eq!(contents(&whole), contents(&cut));
}

/// A finished shard that was damaged since must be written again, not believed.
#[test]
fn a_truncated_finished_shard_is_written_again() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("base");
    let (whole, cut) = (tmp.path().join("whole"), tmp.path().join("cut"));
    run(&source, &whole, BF16, 100_000).unwrap();
    let options = ConvertOptions {
        format: BF16,
        shard_bytes: 100_000,
        ..ConvertOptions::default()
    };
    let stop = convert(&source, &cut, &options, &mut |p| {
        if p.shard == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(stop, Err(WeightsError::Interrupted { .. })));
    let partial = tmp.path().join("cut.partial");
    let first = contents(&partial)
        .into_keys()
        .find(|p| p.to_string_lossy().contains("-00001-of-"))
        .unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(partial.join(first))
        .unwrap();
    // By one byte: the header still reads, and the end would be missed at the first use only.
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let report = run(&source, &cut, BF16, 100_000).unwrap();
    assert_eq!(report.shards_kept, 1);
    assert_eq!(contents(&whole), contents(&cut));
}

/// Nothing that is already there may be overwritten or mixed into.
#[test]
fn what_exists_is_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("base");
    let out = tmp.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let e = run(&source, &out, BF16, 1 << 20).unwrap_err();
    assert!(matches!(e, WeightsError::OutputExists { .. }), "{e}");
    std::fs::remove_dir(&out).unwrap();

    // A partial of somebody else's making.
    let partial = tmp.path().join("out.partial");
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("precious"), "x").unwrap();
    let e = run(&source, &out, BF16, 1 << 20).unwrap_err();
    assert!(matches!(e, WeightsError::ForeignPartial { .. }), "{e}");
    assert!(partial.join("precious").exists() && contents(&partial).len() == 1);
    std::fs::remove_dir_all(&partial).unwrap();

    // A partial of other options, and of another source.
    let options = ConvertOptions {
        format: UE8M0,
        shard_bytes: 1 << 20,
        ..ConvertOptions::default()
    };
    let stop = convert(&source, &out, &options, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stop, Err(WeightsError::Interrupted { .. })));
    for (set, format, shard_bytes) in [
        ("base", BF16, 1 << 20),
        ("base", UE8M0, 1 << 19),
        ("base", ANY_SCALE, 1 << 20),
        ("negbias", UE8M0, 1 << 20),
    ] {
        let e = run(&golden(set), &out, format, shard_bytes).unwrap_err();
        assert!(
            matches!(e, WeightsError::ForeignPartial { .. }),
            "{set} {e}"
        );
    }
    let e = run(&source, Path::new("/"), BF16, 1).unwrap_err();
    assert!(matches!(e, WeightsError::OutputExists { .. }), "{e}");
    let e = run(&source, &out, BF16, 0).unwrap_err();
    assert!(
        matches!(
            e,
            WeightsError::BadOption {
                option: "shard bytes",
                ..
            }
        ),
        "{e}"
    );
}

/// Two processes writing one partial would interleave their shards.
#[test]
fn one_writer_at_a_time() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, out) = (golden("base"), tmp.path().join("out"));
    let options = ConvertOptions {
        format: BF16,
        shard_bytes: 1 << 20,
        ..ConvertOptions::default()
    };
    let mut second = None;
    convert(&source, &out, &options, &mut |_| {
        second.get_or_insert_with(|| run(&source, &out, BF16, 1 << 20));
        ControlFlow::Continue(())
    })
    .unwrap();
    let e = second.unwrap().unwrap_err();
    assert!(matches!(e, WeightsError::PartialInUse { .. }), "{e}");
}

/// One NaN would make a whole block NaN; one infinity would flush it to zero.
#[test]
fn not_finite_weights_are_refused_by_name() {
    let lin = "model.layers.1.self_attn.o_proj.weight";
    let cases: [(&str, &str, usize, [u8; 2], ConvertFormat); 5] = [
        ("base", lin, 3, [0xc0, 0x7f], UE8M0),
        ("base", lin, 3, [0x80, 0x7f], UE8M0), // infinity
        ("base", lin, 5, [0xc0, 0x7f], BF16),  // a copy is checked too
        ("base", "model.norm.weight", 0, [0xc1, 0xff], UE8M0),
        ("base", "lm_head.weight", 65_535, [0xc0, 0x7f], BF16),
    ];
    for (set, name, index, bits, format) in cases {
        let tmp = tempfile::tempdir().unwrap();
        let mut tensors = tensors_of(&golden(set));
        let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
        tensor.data[2 * index..2 * index + 2].copy_from_slice(&bits);
        let dir = tmp.path().join("source");
        write_checkpoint(&dir, set, &safetensors_bytes(&tensors));
        let out = tmp.path().join("out");
        let e = run(&Checkpoint::open(&dir).unwrap(), &out, format, u64::MAX).unwrap_err();
        assert!(
            matches!(&e, WeightsError::NotFinite { tensor, index: i, .. } if tensor == name && *i == index),
            "{e}"
        );
        assert!(!out.exists());
    }
    for (code, format) in [(0x7f, BF16), (0xff, ANY_SCALE), (0x7f, UE8M0)] {
        let tmp = tempfile::tempdir().unwrap();
        let mut tensors = tensors_of(&golden("fp8_f32odd"));
        tensors.iter_mut().find(|t| t.name == lin).unwrap().data[9] = code;
        let dir = tmp.path().join("source");
        write_checkpoint(&dir, "fp8_f32odd", &safetensors_bytes(&tensors));
        let source = Checkpoint::open(&dir).unwrap();
        let e = run(&source, &tmp.path().join("out"), format, u64::MAX).unwrap_err();
        assert!(
            matches!(&e, WeightsError::NotFinite { tensor, index: 9, .. } if tensor == lin),
            "{e}"
        );
    }
}

/// A bad scale must stop the conversion before the first byte is written.
#[test]
fn bad_scales_are_refused_before_writing() {
    let name = "model.layers.1.self_attn.o_proj.weight_scale_inv";
    for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        let tmp = tempfile::tempdir().unwrap();
        let mut tensors = tensors_of(&golden("fp8_ue8m0"));
        let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
        tensor.data[4..8].copy_from_slice(&bad.to_le_bytes());
        let dir = tmp.path().join("source");
        write_checkpoint(&dir, "fp8_ue8m0", &safetensors_bytes(&tensors));
        let source = Checkpoint::open(&dir).unwrap();
        let e = run(&source, &tmp.path().join("out"), BF16, u64::MAX).unwrap_err();
        assert!(
            matches!(&e, WeightsError::BadScale { tensor, index: 1, .. } if tensor == name),
            "{e}"
        );
        assert!(!tmp.path().join("out.partial").exists());
    }
}

/// One tensor with other scales (as in Terminus) must not be taken for a power-of-two one.
#[test]
fn a_single_odd_tensor_is_seen_and_requantised_alone() {
    let name = "model.layers.1.self_attn.o_proj.weight";
    let tmp = tempfile::tempdir().unwrap();
    let mut tensors = tensors_of(&golden("fp8_ue8m0"));
    let scale = tensors
        .iter_mut()
        .find(|t| t.name == format!("{name}_scale_inv"))
        .unwrap();
    scale.data[0..4].copy_from_slice(&0.011f32.to_le_bytes());
    let shape = tensors
        .iter()
        .find(|t| t.name == name)
        .unwrap()
        .shape
        .clone();
    let shape = [shape[0] as usize, shape[1] as usize];
    let dir = tmp.path().join("source");
    write_checkpoint(&dir, "fp8_ue8m0", &safetensors_bytes(&tensors));
    let source = Checkpoint::open(&dir).unwrap();
    let format = source.linear(name, shape).unwrap().format;
    assert!(matches!(
        format,
        LinearFormat::Fp8Block {
            power_of_two: false,
            ..
        }
    ));
    let census = source.scale_census().unwrap();
    assert_eq!((census.power_of_two, census.any_value), (39, 1));
    assert_eq!(census.first_any_value.as_deref(), Some(name));
    let report = run(&source, &tmp.path().join("out"), UE8M0, u64::MAX).unwrap();
    assert_eq!(report.quantized, 1);
    let result = Checkpoint::open(tmp.path().join("out")).unwrap();
    let scale = result.linear(name, shape).unwrap().scale.unwrap();
    assert!(scale.iter().all(|s| is_power_of_two(*s)));
}
