//! `config.json`: what is read, and what is refused by which name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

use dsv3_weights::config::{HiddenAct, MAX_CONFIG_BYTES, QuantFmt, ScoringFunc, TopkMethod};
use dsv3_weights::{ModelArgs, ScaleFmt, WeightsError};
use proptest::prelude::*;
use serde_json::{Value, json};

fn published() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/config/config.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn parse(config: &Value) -> Result<ModelArgs, WeightsError> {
    ModelArgs::from_json_bytes(&serde_json::to_vec(config).unwrap())
}

/// The published configuration with one field set, at a dotted path.
fn with(field: &str, value: Value) -> Value {
    let mut config = published();
    let mut at = &mut config;
    for key in field.split('.') {
        at = &mut at[key];
    }
    *at = value;
    config
}

fn without(field: &str) -> Value {
    let mut config = published();
    config.as_object_mut().unwrap().remove(field).unwrap();
    config
}

fn refused_field(config: &Value) -> String {
    match parse(config) {
        Err(WeightsError::ConfigField { field, .. }) => field,
        other => panic!("not refused by a field's name: {other:?}"),
    }
}

/// A wrong default or a swapped field would build another model.
#[test]
fn published_config_reads() {
    let a = parse(&published()).unwrap();
    assert_eq!(
        [
            a.vocab_size,
            a.hidden_size,
            a.intermediate_size,
            a.moe_intermediate_size
        ],
        [129280, 7168, 18432, 2048]
    );
    assert_eq!([a.num_hidden_layers, a.num_nextn_predict_layers], [61, 1]);
    assert_eq!(
        [a.num_attention_heads, a.qk_head_dim(), a.v_head_dim],
        [128, 192, 128]
    );
    assert_eq!(
        (a.q_lora_rank, a.kv_lora_rank, a.latent_dim()),
        (Some(1536), 512, 576)
    );
    assert_eq!(
        [
            a.n_routed_experts,
            a.n_shared_experts,
            a.num_experts_per_tok
        ],
        [256, 1, 8]
    );
    assert_eq!([a.n_group, a.topk_group, a.experts_per_group()], [8, 4, 32]);
    assert_eq!((a.routed_scaling_factor, a.norm_topk_prob), (2.5, true));
    assert_eq!((a.rms_norm_eps, a.rope_theta), (1e-6, 10000.0));
    let yarn = a.rope_scaling.unwrap();
    assert_eq!(
        (yarn.factor, yarn.original_max_position_embeddings),
        (40.0, 4096)
    );
    assert_eq!((yarn.beta_fast, yarn.beta_slow), (32.0, 1.0));
    assert_eq!((yarn.mscale, yarn.mscale_all_dim), (1.0, 1.0));
    let q = a.quantization.unwrap();
    assert_eq!(
        (q.weight_block_size, q.scale_fmt, q.fmt),
        ([128, 128], ScaleFmt::Ue8m0, QuantFmt::E4m3)
    );
    assert_eq!(
        (a.bos_token_id.as_slice(), a.eos_token_id.as_slice()),
        (&[0][..], &[1][..])
    );
    assert_eq!(
        (a.scoring_func, a.topk_method, a.hidden_act),
        (ScoringFunc::Sigmoid, TopkMethod::NoauxTc, HiddenAct::Silu)
    );
    let moe: Vec<usize> = (0..62).filter(|i| a.is_moe_layer(*i)).collect();
    assert_eq!(moe, (3..62).collect::<Vec<_>>());
}

/// Fields that newer or older releases add must not stop a load.
#[test]
fn unknown_fields_are_ignored() {
    let mut config = published();
    config["aux_loss_alpha"] = json!(0.001);
    config["something_new"] = json!({"a": [1, {"b": null}], "c": "[[[[[{{{"});
    assert_eq!(parse(&config).unwrap(), parse(&published()).unwrap());
}

/// A missing size must not become a guess.
#[test]
fn missing_fields_are_refused_by_name() {
    for field in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "moe_intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_experts_per_tok",
        "first_k_dense_replace",
        "norm_topk_prob",
        "routed_scaling_factor",
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "rms_norm_eps",
        "rope_theta",
        "max_position_embeddings",
    ] {
        assert_eq!(refused_field(&without(field)), field);
    }
}

/// Each impossible value is refused by the name of the field that holds it.
#[test]
fn impossible_values_are_refused_by_name() {
    let cases = [
        ("num_attention_heads", json!(0)),
        ("kv_lora_rank", json!(-512)),
        ("q_lora_rank", json!(-1)),
        ("hidden_size", json!(7168.5)),
        ("hidden_size", json!("7168")),
        ("hidden_size", json!(u64::MAX)),
        ("hidden_size", json!(i64::MIN)),
        ("vocab_size", json!(1u64 << 40)),
        ("num_hidden_layers", json!(1_000_000_000_000u64)),
        ("n_routed_experts", json!(1u64 << 33)),
        ("n_routed_experts", json!([256])),
        ("n_group", json!(7)),
        ("n_group", json!(0)),
        ("n_group", json!(256)), // one expert a group has no two best
        ("topk_group", json!(9)),
        ("topk_group", json!(0)),
        ("num_experts_per_tok", json!(129)), // 4 groups of 32
        ("num_experts_per_tok", json!(0)),
        ("first_k_dense_replace", json!(62)),
        ("moe_layer_freq", json!(0)),
        ("qk_rope_head_dim", json!(63)),
        ("rms_norm_eps", json!(0)),
        ("rms_norm_eps", json!(-1e-6)),
        ("rms_norm_eps", json!("NaN")),
        ("rms_norm_eps", json!(1e-300)), // zero in f32
        ("rope_theta", json!(0)),
        ("rope_theta", json!(1)),
        ("routed_scaling_factor", json!(1e300)),
        ("routed_scaling_factor", json!(-2.5)),
        ("norm_topk_prob", json!(1)),
        ("scoring_func", json!("softmax")),
        ("topk_method", json!("greedy")),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("eos_token_id", json!(129280)),
        ("eos_token_id", json!([1, -1])),
        ("bos_token_id", json!("<s>")),
        ("rope_scaling", json!("yarn")),
        ("rope_scaling.type", json!("dynamic")),
        ("rope_scaling.factor", json!(0)),
        ("rope_scaling.factor", json!(-40)),
        ("rope_scaling.factor", json!(0.5)),
        ("rope_scaling.original_max_position_embeddings", json!(0)),
        ("rope_scaling.beta_slow", json!(0)),
        ("rope_scaling.beta_fast", json!(0.5)), // below beta_slow
        ("rope_scaling.mscale", json!(-1)),
        ("quantization_config", json!(8)),
        ("quantization_config.quant_method", json!("gptq")),
        ("quantization_config.fmt", json!("e5m2")),
        ("quantization_config.activation_scheme", json!("static")),
        ("quantization_config.weight_block_size", json!([128])),
        ("quantization_config.weight_block_size", json!([0, 128])),
        ("quantization_config.weight_block_size", json!([128, -128])),
        ("quantization_config.weight_block_size", json!(128)),
        ("quantization_config.scale_fmt", json!("e4m3")),
    ];
    for (field, value) in cases {
        let config = with(field, value.clone());
        assert_eq!(refused_field(&config), field, "{value}");
        let message = parse(&config).unwrap_err().to_string();
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
    assert_eq!(
        refused_field(&with("rope_scaling", json!({"factor": 40}))),
        "rope_scaling.type"
    );
}

/// NaN and infinity are not JSON; a reader that let them in would accept any comparison.
#[test]
fn infinite_numbers_are_not_json() {
    let text = published().to_string();
    for bad in ["1e999", "NaN", "Infinity", "-Infinity"] {
        let text = text.replace("\"rms_norm_eps\":1e-6", &format!("\"rms_norm_eps\":{bad}"));
        assert!(text.contains(bad));
        let e = ModelArgs::from_json_bytes(text.as_bytes()).unwrap_err();
        assert!(matches!(e, WeightsError::ConfigJson { .. }), "{e}");
    }
}

/// Two values of one field: taking either would be a guess.
#[test]
fn duplicate_fields_are_refused() {
    let text = published()
        .to_string()
        .replacen('{', "{\"hidden_size\": 64,", 1);
    let e = ModelArgs::from_json_bytes(text.as_bytes()).unwrap_err();
    assert!(
        e.to_string().contains("duplicate field `hidden_size`"),
        "{e}"
    );
}

/// What the family's other members leave out.
#[test]
fn optional_fields_have_the_published_defaults() {
    for field in [
        "num_nextn_predict_layers",
        "moe_layer_freq",
        "scoring_func",
        "topk_method",
        "hidden_act",
        "attention_bias",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
        "quantization_config",
        "rope_scaling",
    ] {
        parse(&without(field)).unwrap_or_else(|e| panic!("{field}: {e}"));
    }
    assert_eq!(
        parse(&without("num_nextn_predict_layers"))
            .unwrap()
            .num_nextn_predict_layers,
        0
    );
    assert_eq!(
        parse(&without("quantization_config")).unwrap().quantization,
        None
    );
    assert_eq!(
        parse(&with("q_lora_rank", Value::Null))
            .unwrap()
            .q_lora_rank,
        None
    );
    assert_eq!(
        parse(&with("rope_scaling", json!({"type": "default"})))
            .unwrap()
            .rope_scaling,
        None
    );
    assert_eq!(
        parse(&with("eos_token_id", json!([1, 7])))
            .unwrap()
            .eos_token_id,
        [1, 7]
    );
    assert_eq!(
        parse(&with("n_shared_experts", Value::Null))
            .unwrap()
            .n_shared_experts,
        0
    );
    let mut v3 = published();
    v3["quantization_config"]
        .as_object_mut()
        .unwrap()
        .remove("scale_fmt")
        .unwrap();
    assert_eq!(
        parse(&v3).unwrap().quantization.unwrap().scale_fmt,
        ScaleFmt::F32
    );
}

/// Without routed experts every layer is dense, wherever `first_k_dense_replace` points.
#[test]
fn a_dense_model_needs_no_expert_fields() {
    let mut config = published();
    for field in [
        "n_routed_experts",
        "n_shared_experts",
        "num_experts_per_tok",
        "n_group",
        "topk_group",
        "first_k_dense_replace",
        "moe_intermediate_size",
        "norm_topk_prob",
        "routed_scaling_factor",
    ] {
        config.as_object_mut().unwrap().remove(field).unwrap();
    }
    let args = parse(&config).unwrap();
    assert!((0..62).all(|i| !args.is_moe_layer(i)));
}

/// Newer transformers write `rope_parameters` instead of `rope_scaling` and `rope_theta`.
#[test]
fn rope_parameters_is_the_same_thing() {
    let mut config = published();
    let mut rope = config
        .as_object_mut()
        .unwrap()
        .remove("rope_scaling")
        .unwrap();
    config
        .as_object_mut()
        .unwrap()
        .remove("rope_theta")
        .unwrap();
    rope["rope_theta"] = json!(10000.0);
    rope["rope_type"] = json!("yarn");
    rope.as_object_mut().unwrap().remove("type").unwrap();
    config["rope_parameters"] = rope;
    assert_eq!(parse(&config).unwrap(), parse(&published()).unwrap());

    config["rope_theta"] = json!(5000);
    assert_eq!(refused_field(&config), "rope_parameters.rope_theta");
    config["rope_theta"] = json!(10000);
    config["rope_scaling"] = published()["rope_scaling"].clone();
    assert_eq!(parse(&config).unwrap(), parse(&published()).unwrap());
    config["rope_scaling"]["factor"] = json!(4);
    assert_eq!(refused_field(&config), "rope_parameters");
}

/// A recursive reader would overflow its stack, which no error handling catches.
#[test]
fn nested_json_ends_in_an_error() {
    let deep = 5_000_000;
    for text in [
        "[".repeat(2 * deep),
        format!("{{\"x\":{}{}}}", "[".repeat(deep), "]".repeat(deep)),
        format!("{{\"rope_scaling\":{}", "{\"a\":".repeat(deep / 3)),
    ] {
        let e = ModelArgs::from_json_bytes(text.as_bytes()).unwrap_err();
        assert!(matches!(e, WeightsError::ConfigJson { .. }), "{e}");
        assert!(e.to_string().contains("nests deeper"), "{e}");
    }
    let long = vec![b' '; MAX_CONFIG_BYTES as usize + 1];
    let e = ModelArgs::from_json_bytes(&long).unwrap_err();
    assert!(matches!(e, WeightsError::FileTooLarge { .. }), "{e}");
}

/// A refusal must not quote megabytes of a hostile file, nor its control characters.
#[test]
fn messages_stay_short_and_printable() {
    let hostile = "\u{1b}[2J".to_owned() + &"x".repeat(1 << 20);
    for field in [
        "hidden_act",
        "hidden_size",
        "rope_scaling.type",
        "quantization_config.fmt",
    ] {
        let message = parse(&with(field, json!(hostile))).unwrap_err().to_string();
        assert!(
            message.len() < 600 && !message.contains('\u{1b}'),
            "{message:.200}"
        );
    }
}

proptest! {
    /// No text at all may bring the reader down.
    #[test]
    fn random_text_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ModelArgs::from_json_bytes(&bytes);
    }

    /// Any field set to any number: an answer, and if it is yes, sizes that multiply safely.
    #[test]
    fn random_numbers_never_panic(pick in any::<prop::sample::Index>(), value in any::<i64>(), small in any::<bool>()) {
        let mut config = published();
        let keys: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
        config[&keys[pick.index(keys.len())]] = json!(if small { value >> 52 } else { value });
        if let Ok(a) = parse(&config) {
            let experts = a.n_routed_experts.checked_mul(3 * a.hidden_size).unwrap();
            prop_assert!(experts.checked_mul(a.moe_intermediate_size * 4 * a.num_stored_layers()).is_some());
        }
    }

    /// A published file with bytes changed reads or is refused, and never panics.
    #[test]
    fn mutations_never_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut text = published().to_string().into_bytes();
        for (at, byte) in edits {
            let i = at.index(text.len());
            text[i] = byte;
        }
        let _ = ModelArgs::from_json_bytes(&text);
    }
}
