//! Adapters in PEFT's files: read, refused, merged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{Raw, file_bytes, golden, safetensors_bytes};
use dsv3_weights::adapter::{ADAPTER_CONFIG, ADAPTER_MODEL, factor_names};
use dsv3_weights::fp8::{dequantize_block, quantize_block};
use dsv3_weights::group::{dequantize_group, quantize_group_fitted};
use dsv3_weights::{
    Adapter, AdapterConfig, Checkpoint, ConvertFormat, ConvertOptions, ConvertReport, Dtype,
    GroupBits, GroupFormat, Layout, ScaleFmt, WeightsError, convert, merge,
};
use half::bf16;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Weights of `golden/base` and `golden/fp8_ue8m0`, one of each kind that can be changed.
const WEIGHTS: [&str; 5] = [
    "model.layers.0.self_attn.q_a_proj.weight",
    "model.layers.1.self_attn.kv_b_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.1.mlp.shared_experts.up_proj.weight",
    "model.layers.1.mlp.experts.3.gate_proj.weight",
];

/// Values in (−1, 1) that follow from a seed.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn shape_of(checkpoint: &Checkpoint, weight: &str) -> [usize; 2] {
    let layout = Layout::new(checkpoint.args());
    let shape = layout.spec_of(weight).unwrap().shape;
    [shape[0], shape[1]]
}

/// The two factors of a weight.
fn pair(checkpoint: &Checkpoint, weight: &str, rank: usize, seed: u64) -> [Raw; 2] {
    let [out, input] = shape_of(checkpoint, weight);
    let [a, b] = factor_names(weight).unwrap();
    let raw = |name: &str, shape: [usize; 2], seed| {
        let data = bytes(&values(seed, shape[0] * shape[1]));
        Raw::new(name, Dtype::F32, &shape.map(|d| d as u64), data)
    };
    [
        raw(&a, [rank, input], seed),
        raw(&b, [out, rank], seed + 1000),
    ]
}

fn config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "bias": "none",
        "target_modules": ["q_a_proj"], "fan_in_fan_out": false, "lora_dropout": 0.05,
        "base_model_name_or_path": "base", "use_dora": false, "use_rslora": false,
        "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": true,
        "peft_version": "0.18.0", "megatron_core": "megatron.core", "a_field_of_next_year": 7,
    })
}

fn write(dir: &Path, config: &Value, tensors: &[Raw]) {
    std::fs::write(dir.join(ADAPTER_CONFIG), config.to_string()).unwrap();
    std::fs::write(dir.join(ADAPTER_MODEL), safetensors_bytes(tensors)).unwrap();
}

/// An adapter on [`WEIGHTS`].
fn honest(checkpoint: &Checkpoint) -> Vec<Raw> {
    let pairs = WEIGHTS
        .iter()
        .zip(1..)
        .map(|(weight, seed)| pair(checkpoint, weight, 4, seed));
    pairs.flatten().collect()
}

fn open(checkpoint: &Checkpoint, config: &Value, tensors: &[Raw]) -> Result<Adapter, WeightsError> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), config, tensors);
    Adapter::open(dir.path(), checkpoint.args())
}

/// What opening an adapter is refused for, which must name the file.
fn refusal(config: &Value, tensors: &[Raw]) -> String {
    let error = open(&golden("base"), config, tensors).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("adapter_"), "{message}");
    message
}

/// Breaks with: factors that go to another weight, values read as another dtype, a wrong scale.
#[test]
fn what_peft_writes_is_read() {
    let checkpoint = golden("base");
    let mut tensors = honest(&checkpoint);
    let halved: Vec<u8> = values(1, 4 * 128)
        .iter()
        .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
        .collect();
    tensors[0] = Raw::new(&tensors[0].name, Dtype::BF16, &[4, 128], halved);
    let adapter = open(&checkpoint, &config(), &tensors).unwrap();
    let mut names: Vec<&str> = adapter.factors().map(|(name, _)| name).collect();
    let mut wanted = WEIGHTS.to_vec();
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let first = adapter.get(WEIGHTS[0]).unwrap();
    assert_eq!((first.shape, first.rank, first.scale), ([96, 128], 4, 1.5));
    let rounded: Vec<f32> = values(1, 4 * 128)
        .iter()
        .map(|v| bf16::from_f32(*v).to_f32())
        .collect();
    assert_eq!(first.a, rounded);
    assert_eq!(first.b, values(1001, 96 * 4));
    let count = |weight: &str| shape_of(&checkpoint, weight).iter().sum::<usize>() * 4;
    assert_eq!(
        adapter.parameters(),
        WEIGHTS.iter().map(|w| count(w)).sum::<usize>()
    );
    assert_eq!(
        adapter.config().base_model_name_or_path.as_deref(),
        Some("base")
    );
}

/// Breaks with: a scale that forgets the root, a pattern that meets the wrong modules.
#[test]
fn scales_and_ranks_follow_the_configuration() {
    let checkpoint = golden("base");
    let mut config = config();
    config["use_rslora"] = true.into();
    let adapter = open(&checkpoint, &config, &honest(&checkpoint)).unwrap();
    assert_eq!(adapter.get(WEIGHTS[0]).unwrap().scale, 3.0);

    config["use_rslora"] = false.into();
    config["rank_pattern"] = json!({"_proj": 9, "0.mlp.down_proj": 2});
    config["alpha_pattern"] = json!({"down_proj": 1, "model.layers.1.self_attn.kv_b_proj": 0.5});
    let mut tensors = honest(&checkpoint);
    tensors.splice(4..6, pair(&checkpoint, WEIGHTS[2], 2, 5));
    let adapter = open(&checkpoint, &config, &tensors).unwrap();
    let scale = |i: usize| adapter.get(WEIGHTS[i]).unwrap().scale;
    assert_eq!([scale(0), scale(1), scale(2)], [1.5, 0.125, 0.5]);
    assert_eq!(adapter.get(WEIGHTS[2]).unwrap().rank, 2);
}

/// Breaks with: a field that is written under another name than it is read.
#[test]
fn a_configuration_survives_its_file() {
    let targets = vec!["q_a_proj".to_owned(), "mlp.down_proj".to_owned()];
    for alpha in [32.0, 0.75] {
        let config = AdapterConfig::new(8, alpha, targets.clone(), "../DeepSeek-V3.1");
        let text = config.to_json();
        let again = AdapterConfig::from_json(Path::new("x"), text.as_bytes()).unwrap();
        assert_eq!(config, again);
    }
    let text = AdapterConfig::new(8, 32.0, targets, "x").to_json();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value["peft_type"], &value["task_type"], &value["bias"]),
        (&"LORA".into(), &"CAUSAL_LM".into(), &"none".into())
    );
    assert_eq!(value["lora_alpha"], json!(32)); // PEFT's field is an integer
    assert_eq!(value["fan_in_fan_out"], json!(false));
}

/// Breaks with: a feature that changes what an adapter computes, passed over in silence.
#[test]
fn attack_what_the_configuration_asks_and_is_not_supported() {
    let tensors = honest(&golden("base"));
    for (field, value, part) in [
        ("peft_type", json!("LOHA"), "LOHA"),
        ("peft_type", json!(null), "missing"),
        ("use_dora", json!(true), "DoRA"),
        ("use_qalora", json!(true), "QALoRA"),
        ("use_something_new", json!(true), "not known"),
        ("lora_bias", json!(true), "bias"),
        ("bias", json!("all"), "all"),
        ("modules_to_save", json!(["lm_head"]), "as a whole"),
        ("trainable_token_indices", json!([1]), "embeddings"),
        ("target_parameters", json!(["experts.w"]), "parameters"),
        ("layer_replication", json!([[0, 2]]), "layers"),
        ("alora_invocation_tokens", json!([1, 2]), "text"),
        ("fan_in_fan_out", json!(true), "transposed"),
        ("task_type", json!("SEQ_CLS"), "SEQ_CLS"),
        ("init_lora_weights", json!("pissa"), "base"),
        ("init_lora_weights", json!("olora"), "base"),
        ("r", json!(0), "whole number"),
        ("r", json!(-4), "whole number"),
        ("r", json!(1u64 << 60), "whole number"),
        ("r", json!("4"), "whole number"),
        ("lora_alpha", json!("big"), "not a number"),
        ("lora_alpha", json!(1e300), "not a number"),
        ("rank_pattern", json!([4]), "no object"),
        ("rank_pattern", json!({"q_.*": 4}), "regular expression"),
        ("rank_pattern", json!({"q_a_proj": 0}), "whole number"),
    ] {
        let mut config = config();
        config[field] = value.clone();
        let message = refusal(&config, &tensors);
        assert!(
            message.contains(&format!("`{field}")) && message.contains(part),
            "{field} {value}: {message}"
        );
    }
    for field in ["r", "lora_alpha", "peft_type"] {
        let mut config = config();
        config.as_object_mut().unwrap().remove(field);
        assert!(refusal(&config, &tensors).contains("missing"), "{field}");
    }
}

/// Breaks with: a configuration that is believed or makes the reader fail in another way.
#[test]
fn attack_a_configuration_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = golden("base");
    write(dir.path(), &config(), &honest(&checkpoint));
    for text in [
        "".to_owned(),
        "[]".to_owned(),
        "{\"r\": 4".to_owned(),
        "[".repeat(100_000),
        "\u{0}".to_owned(),
    ] {
        std::fs::write(dir.path().join(ADAPTER_CONFIG), &text).unwrap();
        let error = Adapter::open(dir.path(), checkpoint.args()).unwrap_err();
        assert!(matches!(error, WeightsError::AdapterField { .. }));
        assert!(error.to_string().len() < 600, "{error}");
    }
    for missing in [ADAPTER_MODEL, ADAPTER_CONFIG] {
        std::fs::remove_file(dir.path().join(missing)).unwrap();
        let message = Adapter::open(dir.path(), checkpoint.args()).unwrap_err();
        assert!(message.to_string().contains(missing), "{message}");
    }
}

/// Breaks with: a tensor that is passed over, one that is taken for something that it isn't.
#[test]
fn attack_tensors_that_are_no_factors() {
    let name = |module: &str, end: &str| format!("base_model.model.model.layers.0.{module}.{end}");
    let raw = |name: &str| Raw::new(name, Dtype::F32, &[4, 128], vec![0; 4 * 128 * 4]);
    for (tensor, part) in [
        (name("self_attn.q_a_proj", "lora_magnitude_vector"), "DoRA"),
        (
            "base_model.model.model.embed_tokens.lora_embedding_A".to_owned(),
            "embedding",
        ),
        (
            "model.layers.0.self_attn.q_a_proj.lora_A.weight".to_owned(),
            "begin with",
        ),
        (
            name("self_attn.q_a_proj", "lora_A.default.weight"),
            "ends neither",
        ),
        (name("self_attn.q_a_proj", "lora_B.bias"), "ends neither"),
        ("base_model.model.lm_head.weight".to_owned(), "ends neither"),
        ("../../etc/passwd\u{1b}[2J".to_owned(), "begin with"),
    ] {
        let mut tensors = honest(&golden("base"));
        tensors.push(raw(&tensor));
        let message = refusal(&config(), &tensors);
        assert!(message.contains(part), "{tensor}: {message}");
        assert!(!message.contains('\u{1b}'), "{message}");
    }
    assert!(refusal(&config(), &[]).contains("no tensors"));
}

/// Breaks with: half a change that is applied, or left out.
#[test]
fn attack_a_missing_half() {
    for (gone, named) in [(0, "lora_A"), (1, "lora_B")] {
        let mut tensors = honest(&golden("base"));
        tensors.remove(gone);
        let message = refusal(&config(), &tensors);
        assert!(
            message.contains(&format!("q_a_proj.{named}.weight")) && message.contains("incomplete"),
            "{message}"
        );
    }
}

/// Breaks with: a factor that reaches a weight of another base.
#[test]
fn attack_an_adapter_of_another_base() {
    let base = golden("base");
    let with = |name: &str, shape: [u64; 2]| {
        let mut tensors = honest(&base);
        let [a, _] = factor_names(WEIGHTS[0]).unwrap();
        tensors.retain(|t| t.name != name);
        assert!(a.contains("q_a_proj"));
        let data = vec![0; (shape[0] * shape[1]) as usize * 4];
        tensors.push(Raw::new(name, Dtype::F32, &shape, data));
        refusal(&config(), &tensors)
    };
    let [a, b] = factor_names(WEIGHTS[0]).unwrap();
    for (name, shape) in [
        (&a, [4, 7168]),
        (&a, [128, 4]),
        (&a, [0, 128]),
        (&b, [1536, 4]),
        (&b, [96, 5]),
    ] {
        let message = with(name, shape);
        assert!(
            message.contains(name) && message.contains("another base"),
            "{message}"
        );
    }
    let three = Raw::new(&a, Dtype::F32, &[4, 2, 64], vec![0; 2048]);
    let mut tensors = honest(&base);
    tensors[0] = three;
    assert!(refusal(&config(), &tensors).contains("another base"));

    for (module, part) in [
        ("model.layers.3.self_attn.q_a_proj", "3 layers"),
        ("model.layers.60.mlp.experts.200.up_proj", "3 layers"),
        ("model.layers.1.mlp.experts.16.up_proj", "another model"),
        ("model.layers.01.self_attn.q_a_proj", "another model"),
        ("model.layers.0.self_attn.k_proj", "another model"),
        ("model.layers.1.mlp.experts.gate_up_proj", "one tensor"),
        ("model.layers.1.mlp.gate", "router"),
        ("model.layers.1.input_layernorm", "only the projections"),
        ("lm_head", "only the projections"),
        ("model.embed_tokens", "only the projections"),
    ] {
        let mut tensors = honest(&base);
        for name in factor_names(&format!("{module}.weight")).unwrap() {
            tensors.push(Raw::new(&name, Dtype::F32, &[4, 4], vec![0; 64]));
        }
        let message = refusal(&config(), &tensors);
        assert!(
            message.contains(module) && message.contains(part),
            "{module}: {message}"
        );
    }
    let mtp = golden("mtp");
    let layer = mtp.args().num_hidden_layers;
    let weight = format!("model.layers.{layer}.self_attn.o_proj.weight");
    let error = open(&mtp, &config(), &pair(&mtp, &weight, 4, 1)).unwrap_err();
    assert!(error.to_string().contains("MTP"), "{error}");
}

/// Breaks with: ranks that are taken from one file where the other says something else.
#[test]
fn attack_a_rank_that_the_configuration_does_not_say() {
    let base = golden("base");
    let mut tensors = honest(&base);
    tensors.splice(0..2, pair(&base, WEIGHTS[0], 5, 1));
    let message = refusal(&config(), &tensors);
    assert!(
        message.contains("rank 5") && message.contains("says 4"),
        "{message}"
    );
}

/// Breaks with: a NaN that reaches every logit.
#[test]
fn attack_values_that_are_none() {
    for (index, bad) in [(0, f32::NAN), (1, f32::INFINITY)] {
        let mut tensors = honest(&golden("base"));
        tensors[index].data[8..12].copy_from_slice(&bad.to_le_bytes());
        let message = refusal(&config(), &tensors);
        assert!(
            message.contains("element 2") && message.contains(&tensors[index].name),
            "{message}"
        );
    }
    let mut tensors = honest(&golden("base"));
    let codes = vec![0; 4 * 128];
    tensors[0] = Raw::new(&tensors[0].name, Dtype::F8E4M3, &[4, 128], codes);
    assert!(refusal(&config(), &tensors).contains("F8_E4M3"));
}

/// Breaks with: a header of the adapter that is believed where a checkpoint's is not.
#[test]
fn attack_headers_that_lie() {
    let dir = tempfile::tempdir().unwrap();
    let base = golden("base");
    write(dir.path(), &config(), &honest(&base));
    let whole = std::fs::read(dir.path().join(ADAPTER_MODEL)).unwrap();
    let name = &factor_names(WEIGHTS[0]).unwrap()[0];
    let entry = |shape: &str, offsets: &str| {
        format!(r#"{{"{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for bytes in [
        Vec::new(),
        u64::MAX.to_le_bytes().to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..40].to_vec(),
        [&whole[..], &[0]].concat(),
        file_bytes(&entry("[4,18446744073709551615]", "[0,16]"), &[0; 16]),
        file_bytes(&entry("[4,128]", "[0,16]"), &[0; 16]),
        file_bytes(&entry("[4,128]", "[2048,0]"), &[0; 2048]),
        file_bytes(&"[".repeat(1000), &[]),
    ] {
        std::fs::write(dir.path().join(ADAPTER_MODEL), bytes).unwrap();
        let error = Adapter::open(dir.path(), base.args()).unwrap_err();
        assert!(error.to_string().contains(ADAPTER_MODEL), "{error}");
    }
}

proptest! {
    /// Breaks with: a byte of either file that makes the reader panic.
    #[test]
    fn attack_any_byte(at: prop::sample::Index, byte: u8, model: bool) {
        let (dir, base) = (tempfile::tempdir().unwrap(), golden("base"));
        write(dir.path(), &config(), &honest(&base)[..2]);
        let path = dir.path().join(if model { ADAPTER_MODEL } else { ADAPTER_CONFIG });
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len().min(600)); // the header, or the whole configuration
        bytes[at] = byte;
        std::fs::write(path, bytes).unwrap();
        let _ = Adapter::open(dir.path(), base.args());
    }
}

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
