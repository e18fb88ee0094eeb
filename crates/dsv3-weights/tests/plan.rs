//! The plan against the published sizes, and against what the golden checkpoints hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

use dsv3_weights::{
    CacheDtype, Checkpoint, Component, DeviceMemory, Dtype, Inventory, Layout, ModelArgs, Plan,
    PlanFormat, PlanOptions, Warning, WeightsError,
};
use proptest::prelude::*;

const SETS: [&str; 8] = [
    "base",
    "noqlora",
    "nogroup",
    "negbias",
    "realdims",
    "mtp",
    "fp8_ue8m0",
    "fp8_f32odd",
];

fn published() -> ModelArgs {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/config/config.json"
    );
    ModelArgs::from_file(path).unwrap()
}

fn golden(set: &str) -> Checkpoint {
    let dir = format!(
        "{}/../../fixtures/golden/{set}/model",
        env!("CARGO_MANIFEST_DIR")
    );
    Checkpoint::open(dir).unwrap()
}

/// The sizes that Hugging Face lists for DeepSeek-V3.1, to the byte.
#[test]
fn published_totals() {
    let plan = Plan::new(&published(), &PlanOptions::default()).unwrap();
    assert_eq!(plan.total_bytes, 688_574_839_360);
    assert_eq!(plan.total_parameters, 684_489_845_504);
    assert_eq!(plan.total_tensors, 91_991);
    assert_eq!(plan.total_scale_bytes, 166_161_984);
    assert_eq!(plan.main.parameters, 671_026_419_200);
    assert_eq!(plan.main.bytes, 673_150_611_808);
    assert_eq!(plan.mtp.parameters, 13_463_426_304);
    assert_eq!(plan.mtp.bytes, 15_424_227_552);
    assert_eq!(plan.per_token.activated_parameters, 36_625_618_432);
    assert_eq!(
        plan.per_token.activated_parameters_with_embedding,
        37_552_297_472
    );
}

/// Parameters, weight bytes and scale bytes of each component, worked out apart from this code.
#[test]
fn published_components() {
    let plan = Plan::new(&published(), &PlanOptions::default()).unwrap();
    let table = [
        (Component::Embedding, 926_679_040, 1_853_358_080, 0),
        (Component::LmHead, 926_679_040, 1_853_358_080, 0),
        (Component::Norm, 1_006_592, 2_013_184, 0),
        (
            Component::Attention,
            11_413_422_080,
            11_413_422_080,
            2_793_312,
        ),
        (Component::DenseMlp, 1_189_085_184, 1_189_085_184, 290_304),
        (Component::Router, 106_445_312, 212_920_320, 0),
        (
            Component::RoutedExperts,
            653_908_770_816,
            653_908_770_816,
            159_645_696,
        ),
        (
            Component::SharedExperts,
            2_554_331_136,
            2_554_331_136,
            623_616,
        ),
        (Component::MtpEmbedding, 926_679_040, 1_853_358_080, 0),
        (Component::MtpLmHead, 926_679_040, 1_853_358_080, 0),
        (Component::MtpNorm, 37_888, 75_776, 0),
        (Component::MtpProjection, 102_760_448, 205_520_896, 0),
        (Component::MtpAttention, 187_105_280, 187_105_280, 45_792),
        (Component::MtpRouter, 1_835_264, 3_671_040, 0),
        (
            Component::MtpRoutedExperts,
            11_274_289_152,
            11_274_289_152,
            2_752_512,
        ),
        (Component::MtpSharedExperts, 44_040_192, 44_040_192, 10_752),
    ];
    assert_eq!(plan.components.len(), table.len());
    for (component, parameters, weight_bytes, scale_bytes) in table {
        let got = plan.components[&component];
        assert_eq!(
            (got.parameters, got.weight_bytes, got.scale_bytes, got.bytes),
            (
                parameters,
                weight_bytes,
                scale_bytes,
                weight_bytes + scale_bytes
            ),
            "{component}"
        );
    }
}

/// MLA's small cache is the point of it: 1,152 bytes a token and layer in bf16.
#[test]
fn published_cache() {
    let options = PlanOptions {
        context: 131_072,
        ..PlanOptions::default()
    };
    let cache = Plan::new(&published(), &options).unwrap().cache;
    assert_eq!(
        (cache.bytes_per_token_layer, cache.bytes_per_token),
        (1152, 70_272)
    );
    assert_eq!(cache.bytes, 9_210_691_584);
    let with = |cache_dtype, mtp_cache| {
        let options = PlanOptions {
            cache_dtype,
            mtp_cache,
            ..PlanOptions::default()
        };
        Plan::new(&published(), &options)
            .unwrap()
            .cache
            .bytes_per_token
    };
    assert_eq!(with(CacheDtype::Bf16, true), 71_424);
    assert_eq!(with(CacheDtype::Fp8, false), 40_016);
    assert_eq!(with(CacheDtype::F32, false), 140_544);
}

/// One token must not be charged for experts that it does not visit.
#[test]
fn bytes_read_per_token() {
    let per_token = Plan::new(&published(), &PlanOptions::default())
        .unwrap()
        .per_token;
    // attention, dense, router, norms, head, 58 layers of 8 + 1 experts, one embedding row
    let expert = 44_040_192 + 10_752;
    let expected = 11_413_422_080
        + 2_793_312
        + 1_189_085_184
        + 290_304
        + 212_920_320
        + 2_013_184
        + 1_853_358_080
        + 58 * 9 * expert
        + 2 * 7168;
    assert_eq!(per_token.weight_bytes_read, expected);
    assert_eq!(per_token.cache_bytes_read, 4096 * 70_272);
}

/// Formats differ only in element size and scales.
#[test]
fn formats() {
    let args = published();
    let total = |format| {
        let plan = Plan::new(
            &args,
            &PlanOptions {
                format,
                ..PlanOptions::default()
            },
        )
        .unwrap();
        assert_eq!(plan.total_parameters, 684_489_845_504);
        (plan.total_bytes, plan.total_tensors)
    };
    let biases = 59 * 256; // e_score_correction_bias stays f32
    assert_eq!(total(PlanFormat::Fp8), (688_574_839_360, 91_991));
    let (bf16, tensors) = total(PlanFormat::Bf16);
    assert_eq!(bf16, 2 * 684_489_845_504 + 2 * biases);
    assert_eq!(tensors, Layout::new(&args).num_tensors());
    // No scale tensors: 5 an attention, 3 a dense MLP, 3 for each of 257 experts.
    assert_eq!(tensors, 91_991 - 62 * 5 - 3 * 3 - 59 * 257 * 3);
    assert_eq!(total(PlanFormat::F16).0, bf16);
    assert_eq!(total(PlanFormat::F32).0, 4 * 684_489_845_504);
    // Two stacks for the experts of a layer; rows of 3,584 + 448 and 1,024 + 128 bytes in int4
    // with groups of 32, of 7,168 + 224 + 32 and 2,048 + 64 in int8 with groups of 64.
    let stacks = 91_991 - 62 * 5 - 3 * 3 - 59 * 257 * 3 - 59 * 256 * 3 + 59 * 2;
    assert_eq!(total(PlanFormat::Int4).1, stacks);
    assert_eq!(total(PlanFormat::Int8).1, stacks);
    for (format, wide, narrow) in [
        (PlanFormat::Int4, 4032, 1152),
        (PlanFormat::Int8, 7424, 2112),
    ] {
        let options = PlanOptions {
            format,
            ..PlanOptions::default()
        };
        let plan = Plan::new(&args, &options).unwrap();
        let experts = plan.components[&Component::RoutedExperts];
        assert_eq!(experts.bytes, 58 * 256 * (4096 * wide + 7168 * narrow));
    }
    let main = PlanOptions {
        mtp_weights: false,
        ..PlanOptions::default()
    };
    assert_eq!(
        Plan::new(&args, &main).unwrap().total_bytes,
        673_150_611_808
    );
}

/// Every golden checkpoint holds exactly what plan and layout say of its config.
#[test]
fn plan_equals_inventory_equals_layout() {
    for set in SETS {
        let checkpoint = golden(set);
        assert_eq!(checkpoint.verify().unwrap(), [], "{set}");
        let inventory = Inventory::of(&checkpoint);
        let plan = Plan::new(checkpoint.args(), &PlanOptions::default()).unwrap();
        assert_eq!(inventory.total.tensors, plan.total_tensors, "{set}");
        assert_eq!(inventory.total.parameters, plan.total_parameters, "{set}");
        assert_eq!(inventory.total.bytes, plan.total_bytes, "{set}");
        assert_eq!(inventory.components.len(), plan.components.len(), "{set}");
        for (component, held) in &inventory.components {
            let planned = plan.components[component];
            assert_eq!(
                (
                    held.tensors,
                    held.parameters,
                    held.weight_bytes,
                    held.scale_bytes
                ),
                (
                    planned.tensors,
                    planned.parameters,
                    planned.weight_bytes,
                    planned.scale_bytes
                ),
                "{set} {component}"
            );
        }
        assert!(inventory.file_bytes > inventory.total.bytes);
        let layout = Layout::new(checkpoint.args());
        assert_eq!(layout.tensors().count() as u64, layout.num_tensors());
        for spec in layout.tensors() {
            assert_eq!(
                checkpoint.tensor(&spec.name).unwrap().dtype(),
                spec.dtype_published
            );
            assert_eq!(layout.spec_of(&spec.name).as_ref(), Some(&spec));
            let scale = format!("{}_scale_inv", spec.name);
            assert_eq!(layout.component_of(&scale), spec.component);
        }
    }
}

/// A name that only looks like the layout's must not be counted as part of the model.
#[test]
fn near_names_are_other() {
    let layout = Layout::new(golden("base").args());
    for name in [
        "",
        "model",
        "model.layers.0",
        "model.layers.3.input_layernorm.weight",
        "model.layers.00.input_layernorm.weight",
        "model.layers.+0.input_layernorm.weight",
        "model.layers.0.mlp.experts.0.up_proj.weight",
        "model.layers.1.mlp.experts.16.up_proj.weight",
        "model.layers.1.mlp.experts.01.up_proj.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.embed_tokens.weight2",
        "embed_tokens.weight",
        "model.layers.1.norm.weight",
        "model.layers.99999999999999999999.input_layernorm.weight",
        "_scale_inv",
    ] {
        assert_eq!(layout.component_of(name), Component::Other, "{name:?}");
    }
    let up = layout
        .spec_of("model.layers.1.mlp.experts.15.up_proj.weight")
        .unwrap();
    assert_eq!(
        (up.component, up.shape.as_slice()),
        (Component::RoutedExperts, &[64, 128][..])
    );
    assert!(up.quantizable && up.dtype_published == Dtype::BF16);
}

/// Most people cut the MTP modules off; that must be said and must not stop them.
#[test]
fn missing_mtp_and_extra_tensors_are_warnings() {
    let source = golden("base");
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(
        source.dir().join("model.safetensors"),
        dir.path().join("model.safetensors"),
    )
    .unwrap();
    let edit = |key: &str, value: serde_json::Value| {
        let text = std::fs::read(source.dir().join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
        config[key] = value;
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        Checkpoint::open(dir.path()).unwrap().verify()
    };
    let warnings = edit("num_nextn_predict_layers", 1.into()).unwrap();
    assert!(
        matches!(&warnings[..], [Warning::MissingMtp { count, first }]
        if *count > 50 && first == "model.layers.3.embed_tokens.weight"),
        "{warnings:?}"
    );
    let warnings = edit("num_hidden_layers", 2.into()).unwrap();
    assert!(
        matches!(&warnings[..], [Warning::ExtraTensors { count, first }]
        if *count > 50 && first.len() == 8),
        "{warnings:?}"
    );
    let e = edit("num_hidden_layers", 4.into()).unwrap_err();
    assert!(
        matches!(&e, WeightsError::IncompleteLayout { count, first, .. }
        if *count > 50 && first[0] == "model.layers.3.input_layernorm.weight"),
        "{e}"
    );
    let e = edit("intermediate_size", 255.into()).unwrap_err();
    assert!(
        matches!(&e, WeightsError::WrongShape { tensor, .. }
        if tensor == "model.layers.0.mlp.gate_proj.weight"),
        "{e}"
    );
}

/// Layers stay whole and in order, and nothing is promised twice.
#[test]
fn fit_places_every_layer_or_counts_what_is_missing() {
    let args = published();
    let fit = |devices: &[&str]| {
        let devices = devices.iter().map(|d| d.parse().unwrap()).collect();
        Plan::new(
            &args,
            &PlanOptions {
                devices,
                ..PlanOptions::default()
            },
        )
        .unwrap()
    };
    let plan = fit(&["141GB×8"]);
    let placed = plan.fit.as_ref().unwrap();
    assert!(placed.fits && placed.missing_bytes == 0 && placed.devices.len() == 8);
    assert!(placed.devices[0].embedding);
    let mut next = 0;
    for d in placed.devices.iter().filter(|d| d.layers.is_some()) {
        let (first, end) = d.layers.unwrap();
        assert_eq!(first, next);
        next = end;
        assert_eq!(
            d.bytes,
            d.workspace_bytes + d.weight_bytes + d.cache_bytes + d.remaining_bytes
        );
    }
    assert_eq!(next, 62);
    assert_eq!(placed.devices.iter().filter(|d| d.head).count(), 1);
    assert_eq!(
        placed.devices.iter().map(|d| d.weight_bytes).sum::<u64>(),
        plan.total_bytes
    );
    assert_eq!(
        placed.devices.iter().map(|d| d.cache_bytes).sum::<u64>(),
        plan.cache.bytes
    );

    let plan = fit(&["80GiB×8"]);
    let short = plan.fit.as_ref().unwrap();
    let held: u64 = short
        .devices
        .iter()
        .map(|d| d.weight_bytes + d.cache_bytes)
        .sum();
    assert!(!short.fits && short.first_missing.is_some());
    assert_eq!(
        held + short.missing_bytes,
        plan.total_bytes + plan.cache.bytes
    );

    let tiny = fit(&["1KiB"]).fit.unwrap();
    assert_eq!(tiny.first_missing.as_deref(), Some("embedding"));
    assert_eq!(tiny.devices[0].remaining_bytes, 0); // all of it is workspace
}

/// JSON numbers must be exact integers: a float would lose the last digits of 688,574,839,360.
#[test]
fn json_holds_exact_integers() {
    let plan = Plan::new(&published(), &PlanOptions::default()).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["total_bytes"].as_u64(), Some(688_574_839_360));
    assert_eq!(json["total_parameters"].as_u64(), Some(684_489_845_504));
    let routed = &json["components"]["routed_experts"];
    assert_eq!(routed["weight_bytes"].as_u64(), Some(653_908_770_816));
    assert_eq!(routed["scale_bytes"].as_u64(), Some(159_645_696));
    let inventory = serde_json::to_value(Inventory::of(&golden("fp8_ue8m0"))).unwrap();
    assert_eq!(
        inventory["components"]["attention"]["dtypes"]["F8_E4M3"].as_u64(),
        Some(10)
    );
}

/// Absurd requests are refused, not wrapped into small numbers.
#[test]
fn overflow_is_an_error() {
    let args = published();
    for options in [
        PlanOptions {
            context: u64::MAX,
            ..PlanOptions::default()
        },
        PlanOptions {
            context: 1 << 40,
            sequences: 1 << 40,
            ..PlanOptions::default()
        },
        PlanOptions {
            batch_tokens: u64::MAX,
            ..PlanOptions::default()
        },
        PlanOptions {
            sequences: u64::MAX,
            ..PlanOptions::default()
        },
    ] {
        let e = Plan::new(&args, &options).unwrap_err();
        assert!(matches!(e, WeightsError::PlanOverflow { .. }), "{e}");
    }
    for options in [
        PlanOptions {
            context: 0,
            ..PlanOptions::default()
        },
        PlanOptions {
            sequences: 0,
            ..PlanOptions::default()
        },
        PlanOptions {
            batch_tokens: 0,
            ..PlanOptions::default()
        },
    ] {
        assert!(matches!(
            Plan::new(&args, &options),
            Err(WeightsError::BadOption { .. })
        ));
    }
    let devices = vec![DeviceMemory {
        bytes: 1,
        count: u32::MAX,
    }];
    let e = Plan::new(
        &args,
        &PlanOptions {
            devices,
            ..PlanOptions::default()
        },
    )
    .unwrap_err();
    assert!(
        matches!(
            e,
            WeightsError::BadOption {
                option: "devices",
                ..
            }
        ),
        "{e}"
    );
}

/// The largest configuration that is accepted must still be countable.
#[test]
fn the_bounds_of_the_config_keep_products_in_range() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/config/config.json"
    );
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (key, value) in [
        ("vocab_size", 1u64 << 22),
        ("hidden_size", 1 << 17),
        ("intermediate_size", 1 << 20),
        ("moe_intermediate_size", 1 << 17),
        ("num_hidden_layers", 1 << 10),
        ("num_nextn_predict_layers", 64),
        ("num_attention_heads", 1 << 12),
        ("n_shared_experts", 64),
        ("n_routed_experts", 1 << 13),
        ("q_lora_rank", 1 << 17),
        ("kv_lora_rank", 1 << 17),
        ("qk_nope_head_dim", 1 << 12),
        ("qk_rope_head_dim", 1 << 12),
        ("v_head_dim", 1 << 12),
        ("max_position_embeddings", 1 << 32),
        ("first_k_dense_replace", 0),
    ] {
        config[key] = value.into();
    }
    config["quantization_config"]["weight_block_size"] = serde_json::json!([1, 1]);
    let args = ModelArgs::from_json_bytes(config.to_string().as_bytes()).unwrap();
    for format in [PlanFormat::F32, PlanFormat::Fp8] {
        let plan = Plan::new(
            &args,
            &PlanOptions {
                format,
                ..PlanOptions::default()
            },
        )
        .unwrap();
        assert!(plan.total_bytes > 1 << 60);
    }
}

proptest! {
    /// More context never needs less, and the parts always add up.
    #[test]
    fn totals_add_up(context in 1u64..1 << 20, sequences in 1u64..64, batch_tokens in 1u64..8192) {
        let args = published();
        let options = PlanOptions { context, sequences, batch_tokens, ..PlanOptions::default() };
        let plan = Plan::new(&args, &options).unwrap();
        let sum: u64 = plan.components.values().map(|c| c.weight_bytes + c.scale_bytes).sum();
        prop_assert_eq!(sum, plan.total_bytes);
        prop_assert_eq!(plan.required_bytes, plan.total_bytes + plan.cache.bytes + plan.activation_bytes);
        let longer = PlanOptions { context: context + 1, ..options };
        prop_assert!(Plan::new(&args, &longer).unwrap().required_bytes > plan.required_bytes);
    }
}
