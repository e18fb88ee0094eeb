//! Adapters in PEFT's files: read, refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod adapters;
mod common;

use std::path::Path;

use adapters::{WEIGHTS, config, honest, open, pair, shape_of, values, write};
use common::{Raw, file_bytes, golden};
use dsv3_weights::adapter::{ADAPTER_CONFIG, ADAPTER_MODEL, factor_names};
use dsv3_weights::{Adapter, AdapterConfig, AdapterError, Dtype, WeightsError};
use half::bf16;
use proptest::prelude::*;
use serde_json::{Value, json};

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
        assert!(matches!(
            error,
            WeightsError::Adapter(AdapterError::Field { .. })
        ));
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
