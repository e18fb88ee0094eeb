//! Packed checkpoints: what conversion writes is what the quantiser gives, and reads back so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{contents, golden, golden_dir, safetensors_bytes, tensors_of, write_checkpoint};
use dsv3_weights::group::{dequantize_group, quantize_group_fitted};
use dsv3_weights::{
    Checkpoint, Component, ConvertFormat, ConvertOptions, ConvertReport, Dtype, GroupBits,
    GroupFormat, Inventory, Layout, LinearFormat, Plan, PlanFormat, PlanOptions, Recipe,
    WeightsError, convert,
};

const INT4: ConvertFormat = ConvertFormat::Int4 { group: 32 };
const INT8: ConvertFormat = ConvertFormat::Int8 { group: 64 };

fn recipe(text: &str) -> ConvertFormat {
    let recipe = Recipe::from_json_bytes(text.as_bytes()).unwrap();
    ConvertFormat::Recipe {
        recipe,
        ue8m0: true,
    }
}

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

fn tiny() -> Checkpoint {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/dsv3-tiny");
    Checkpoint::open(dir).unwrap()
}

/// What the formats without a recipe mean for a weight.
fn expected(format: &ConvertFormat, name: &str) -> Option<GroupFormat> {
    let (bits, group) = match format {
        _ if name.contains("kv_b_proj") => return None,
        ConvertFormat::Int8 { group } => (GroupBits::Int8, *group),
        ConvertFormat::Int4 { .. } if name.contains("q_a_proj") || name.contains("kv_a_proj") => {
            (GroupBits::Int8, 64)
        }
        ConvertFormat::Int4 { group } => (GroupBits::Int4, *group),
        _ => return None,
    };
    Some(GroupFormat::new(bits, group).unwrap())
}

/// Breaks with: chunks that lose a row, experts in another order, fp8 sources read without their
/// scales, a sum that the plan does not know.
#[test]
fn every_weight_is_what_the_quantiser_makes_of_it() {
    let sources = [
        ("base", golden("base")),
        ("mtp", golden("mtp")),
        ("noqlora", golden("noqlora")),
        ("fp8_ue8m0", golden("fp8_ue8m0")),
        ("dsv3-tiny", tiny()),
    ];
    for (set, source) in sources {
        for format in [INT4, INT8, ConvertFormat::Int4 { group: 128 }] {
            let tmp = tempfile::tempdir().unwrap();
            let out = tmp.path().join("out");
            let report = run(&source, &out, format.clone(), 400_000).unwrap();
            let result = Checkpoint::open(&out).unwrap();
            assert_eq!(result.verify().unwrap(), [], "{set}");
            assert!(result.args().packed && result.args().quantization.is_none());
            let mut packed = 0;
            for spec in Layout::new(source.args()).tensors() {
                let name = spec.name.as_str();
                let &[rows, columns] = spec.shape.as_slice() else {
                    let before = source.tensor(name).unwrap();
                    assert_eq!(result.tensor(name).unwrap().bytes(), before.bytes());
                    continue;
                };
                let shape = [rows, columns];
                let got = result.matrix_f32(name, shape).unwrap();
                let Some(group) = expected(&format, name).filter(|_| spec.quantizable) else {
                    assert_eq!(result.tensor(name).unwrap().dtype(), Dtype::BF16, "{name}");
                    assert!(
                        got == source.matrix_f32(name, shape).unwrap(),
                        "{set} {name}"
                    );
                    continue;
                };
                packed += 1;
                let values = source.matrix_f32(name, shape).unwrap();
                let rows = quantize_group_fitted(&values, shape, group, None).unwrap();
                assert!(
                    got == dequantize_group(&rows, shape, group).unwrap(),
                    "{set} {name}"
                );
                if spec.component == Component::RoutedExperts
                    || spec.component == Component::MtpRoutedExperts
                {
                    let e = result.linear(name, shape).unwrap_err();
                    assert!(matches!(e, WeightsError::StackedExpert { .. }), "{e}");
                    continue;
                }
                let linear = result.linear(name, shape).unwrap();
                let (bits, row_bytes) = (group.bits(), group.row_bytes(columns));
                let group = group.group();
                assert_eq!(
                    linear.format,
                    LinearFormat::Group {
                        bits,
                        group,
                        row_bytes
                    }
                );
                assert!(
                    linear.data == rows && linear.dequantize() == got,
                    "{set} {name}"
                );
            }
            assert_eq!(report.packed, packed, "{set}");
            assert_aligned(&result);
        }
    }
}

/// Packed data starts at multiples of 64 in every file, and the format's own crate reads them.
fn assert_aligned(checkpoint: &Checkpoint) {
    for file in checkpoint.files() {
        assert_eq!(file.header().data_start % 64, 0);
        assert!(file.header().metadata.contains_key("dsv3"));
        for t in &file.header().tensors {
            let align = if checkpoint.packed(&t.name).is_some() {
                64
            } else {
                t.dtype.size_bytes() as u64
            };
            assert_eq!(t.begin % align, 0, "{}", t.name);
        }
        let raw = std::fs::read(file.path()).unwrap();
        safetensors::SafeTensors::deserialize(&raw).unwrap();
    }
}

/// Breaks with: gate and up rows swapped or not in turn, an expert's slice that begins in its
/// neighbour.
#[test]
fn stacked_experts_are_the_experts_rows_in_turn() {
    let source = tiny();
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    run(&source, &out, INT4, u64::MAX).unwrap();
    let result = Checkpoint::open(&out).unwrap();
    let args = source.args();
    let (hidden, wide) = (args.hidden_size, args.moe_intermediate_size);
    let int4 = GroupFormat::of(GroupBits::Int4);
    let pack = |name: String, shape| {
        let values = source.matrix_f32(&name, shape).unwrap();
        quantize_group_fitted(&values, shape, int4, None).unwrap()
    };
    assert!(
        result
            .stacked_experts("model.layers.0.mlp")
            .unwrap()
            .is_none()
    ); // dense
    assert!(
        source
            .stacked_experts("model.layers.1.mlp")
            .unwrap()
            .is_none()
    );
    for layer in 1..args.num_stored_layers() {
        let prefix = format!("model.layers.{layer}.mlp");
        let stacked = result.stacked_experts(&prefix).unwrap().unwrap();
        let experts = args.n_routed_experts;
        assert_eq!(
            (stacked.gate_up.experts, stacked.down.experts),
            (experts, experts)
        );
        for e in 0..experts {
            let gate_up = stacked.gate_up.expert(e).unwrap();
            let down = stacked.down.expert(e).unwrap();
            assert_eq!(
                (gate_up.shape, down.shape),
                ([2 * wide, hidden], [hidden, wide])
            );
            let gate = pack(
                format!("{prefix}.experts.{e}.gate_proj.weight"),
                [wide, hidden],
            );
            let up = pack(
                format!("{prefix}.experts.{e}.up_proj.weight"),
                [wide, hidden],
            );
            let row = int4.row_bytes(hidden);
            let in_turn: Vec<u8> = gate
                .chunks(row)
                .zip(up.chunks(row))
                .flat_map(|(gate, up)| [gate, up].concat())
                .collect();
            assert!(gate_up.data == in_turn, "layer {layer} expert {e}");
            let want = pack(
                format!("{prefix}.experts.{e}.down_proj.weight"),
                [hidden, wide],
            );
            assert!(down.data == want, "layer {layer} expert {e}");
        }
        assert!(stacked.gate_up.expert(experts).is_none());
        assert!(stacked.down.expert(usize::MAX).is_none());
    }
    // A slice of the map, not a copy.
    let file = result.files()[0].clone();
    let name = "model.layers.1.mlp.experts.gate_up_proj.weight";
    let whole = file.tensor(name).unwrap().bytes();
    let stacked = result
        .stacked_experts("model.layers.1.mlp")
        .unwrap()
        .unwrap();
    let third = stacked.gate_up.expert(3).unwrap();
    assert_eq!(whole[3 * third.data.len()..].as_ptr(), third.data.as_ptr());
}

/// Breaks with: a plan that promises other bytes than conversion writes.
#[test]
fn plan_and_inventory_count_the_bytes_that_are_written() {
    let sources = [
        golden("base"),
        golden("mtp"),
        golden("fp8_f32odd"),
        golden("realdims"),
        tiny(),
    ];
    for source in sources {
        for (format, planned) in [(INT4, PlanFormat::Int4), (INT8, PlanFormat::Int8)] {
            let tmp = tempfile::tempdir().unwrap();
            let out = tmp.path().join("out");
            run(&source, &out, format, u64::MAX).unwrap();
            let result = Checkpoint::open(&out).unwrap();
            let options = PlanOptions {
                format: planned,
                ..PlanOptions::default()
            };
            let plan = Plan::new(source.args(), &options).unwrap();
            assert_eq!(
                result.data_bytes(),
                plan.total_bytes,
                "{}",
                source.dir().display()
            );
            assert_eq!(result.num_tensors() as u64, plan.total_tensors);
            let inventory = Inventory::of(&result);
            for (component, counts) in &inventory.components {
                let planned = plan.components[component];
                assert_eq!(counts.parameters, planned.parameters, "{component}");
                assert_eq!(counts.weight_bytes, planned.weight_bytes, "{component}");
                assert_eq!(counts.scale_bytes, planned.scale_bytes, "{component}");
            }
            for (name, packed) in &inventory.packed {
                // More where rows are short: these have to be padded to 64 bytes.
                let bits = packed.bits_per_weight();
                let least = if name.starts_with("int4") { 4.5 } else { 8.25 };
                assert!((least..16.0).contains(&bits), "{name}: {bits}");
            }
        }
    }
    let e = Plan::new(&packed_args(), &PlanOptions::default()).unwrap_err();
    assert!(
        matches!(
            e,
            WeightsError::BadOption {
                option: "format",
                ..
            }
        ),
        "{e}"
    );
}

fn packed_args() -> dsv3_weights::ModelArgs {
    let text = std::fs::read(golden_dir("base").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    config["quantization_config"] = serde_json::json!({ "quant_method": "dsv3", "version": 1 });
    dsv3_weights::ModelArgs::from_json_bytes(config.to_string().as_bytes()).unwrap()
}

/// Breaks with: a rule that is not looked at, fp8 weights beside packed ones without their block
/// size.
#[test]
fn a_recipe_decides_weight_by_weight() {
    let text = r#"{
        "rules": [
            { "component": "routed_experts", "layers": "1", "format": "int4", "group": 64 },
            { "component": "routed_experts", "layers": "2-3", "format": "fp8" },
            { "component": "routed_experts", "layers": "4", "format": "bf16" },
            { "component": "attention", "projection": "o_proj", "format": "fp8" },
            { "component": "lm_head", "format": "int8", "group": 128 },
            { "component": "mtp_attention", "format": "f32" }
        ],
        "default": "int8"
    }"#;
    let source = tiny();
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    run(&source, &out, recipe(text), 1_000_000).unwrap();
    let result = Checkpoint::open(&out).unwrap();
    assert_eq!(result.verify().unwrap(), []);
    assert!(result.args().packed);
    assert_eq!(result.args().quantization, source.args().quantization);
    let stacked = |layer: usize| {
        let prefix = format!("model.layers.{layer}.mlp");
        let stacked = result.stacked_experts(&prefix).unwrap();
        stacked.map(|s| (s.gate_up.format.to_string(), s.down.format.to_string()))
    };
    assert_eq!(stacked(1), Some(("int4/64".into(), "int4/64".into())));
    assert_eq!((stacked(2), stacked(3), stacked(4)), (None, None, None));
    // Not named by a rule, since the MTP module is another component.
    assert_eq!(stacked(5), Some(("int8/64".into(), "int8/64".into())));
    let dtype = |name: &str| match result.packed(name) {
        Some(packed) => packed.format.to_string(),
        None => result.tensor(name).unwrap().dtype().to_string(),
    };
    for (name, want) in [
        ("model.layers.3.mlp.experts.15.up_proj.weight", "F8_E4M3"),
        ("model.layers.4.mlp.experts.0.down_proj.weight", "BF16"),
        ("model.layers.4.self_attn.o_proj.weight", "F8_E4M3"),
        ("model.layers.4.self_attn.q_b_proj.weight", "int8/64"),
        ("model.layers.4.self_attn.kv_b_proj.weight", "BF16"),
        ("model.layers.5.self_attn.o_proj.weight", "F32"),
        ("model.layers.5.self_attn.q_a_layernorm.weight", "BF16"),
        ("lm_head.weight", "int8/128"),
        ("model.embed_tokens.weight", "BF16"),
        ("model.layers.2.mlp.gate.weight", "BF16"),
        ("model.layers.2.mlp.gate.e_score_correction_bias", "F32"),
    ] {
        assert_eq!(dtype(name), want, "{name}");
    }
    // The fp8 ones are the source's, not rounded twice.
    let name = "model.layers.3.mlp.experts.15.up_proj.weight";
    assert_eq!(
        result.tensor(name).unwrap().bytes(),
        source.tensor(name).unwrap().bytes()
    );
}

/// Breaks with: another engine taking packed rows for fp8, other fields of the configuration lost.
#[test]
fn the_configuration_names_a_method_of_its_own() {
    let source = golden("fp8_ue8m0");
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    run(&source, &out, INT4, u64::MAX).unwrap();
    let read = |dir: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap()
    };
    let (mut before, after) = (read(source.dir()), read(&out));
    before["quantization_config"] = serde_json::json!({ "quant_method": "dsv3", "version": 1 });
    assert_eq!(before, after);
}

/// Breaks with: half of a packed checkpoint rounded again, which no error would show.
#[test]
fn a_packed_checkpoint_is_not_packed_again() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    run(&golden("base"), &out, INT8, u64::MAX).unwrap();
    let packed = Checkpoint::open(&out).unwrap();
    for format in [INT4, ConvertFormat::Bf16] {
        let e = run(&packed, &tmp.path().join("again"), format, u64::MAX).unwrap_err();
        assert!(matches!(e, WeightsError::PackedSource { .. }), "{e}");
    }
}

/// Breaks with: a stack that is taken for finished when some of its experts are, a result that
/// depends on where it was stopped.
#[test]
fn an_interrupted_packing_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("mtp");
    let (whole, cut) = (tmp.path().join("whole"), tmp.path().join("cut"));
    run(&source, &whole, INT4, 60_000).unwrap();
    let options = ConvertOptions {
        format: INT4,
        shard_bytes: 60_000,
        ..ConvertOptions::default()
    };
    let mut rounds = 0;
    let report = loop {
        rounds += 1;
        let mut left = 12 * rounds; // within the stack of the first experts
        let result = convert(&source, &cut, &options, &mut |_| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        match result {
            Ok(report) => break report,
            Err(WeightsError::Interrupted { .. }) => assert!(!cut.exists()),
            Err(e) => panic!("{e}"),
        }
    };
    assert!(rounds > 2 && report.shards_kept > 0 && report.shards_kept < report.shards);
    assert!(contents(&whole) == contents(&cut));
    // Another group is another conversion.
    let stop = convert(&source, tmp.path().join("x"), &options, &mut |_| {
        ControlFlow::Break(())
    });
    assert!(matches!(stop, Err(WeightsError::Interrupted { .. })));
    let other = ConvertFormat::Int4 { group: 64 };
    let e = run(&source, &tmp.path().join("x"), other, 60_000).unwrap_err();
    assert!(matches!(e, WeightsError::ForeignPartial { .. }), "{e}");
}

/// Breaks with: a NaN that a search for scales would hide, an infinite scale, an expert's fault
/// reported under the name of its stack.
#[test]
fn what_has_no_packed_form_is_refused_by_name() {
    let names = [
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.experts.5.gate_proj.weight",
        "model.layers.1.mlp.experts.6.up_proj.weight",
        "model.layers.1.mlp.experts.7.down_proj.weight",
        "model.layers.0.self_attn.kv_b_proj.weight",
    ];
    // NaN, infinity, and 2^120, of which no f16 scale knows
    for (name, bits) in names
        .into_iter()
        .flat_map(|n| [0x7fc0u16, 0x7f80, 0x7b80].map(|b| (n, b)))
    {
        if name.contains("kv_b") && bits == 0x7b80 {
            continue; // which stays bf16
        }
        let tmp = tempfile::tempdir().unwrap();
        let mut tensors = tensors_of(&golden("base"));
        let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
        tensor.data[2 * 70..2 * 71].copy_from_slice(&bits.to_le_bytes());
        let dir = tmp.path().join("source");
        write_checkpoint(&dir, "base", &safetensors_bytes(&tensors));
        let source = Checkpoint::open(&dir).unwrap();
        let e = run(&source, &tmp.path().join("out"), INT4, u64::MAX).unwrap_err();
        assert!(
            matches!(&e, WeightsError::NotFinite { tensor, index: 70, .. } if tensor == name),
            "{e}"
        );
        assert!(!tmp.path().join("out").exists());
    }
}

/// Breaks with: a stack of experts of which some are missing, as MTP modules often are.
#[test]
fn experts_that_are_not_all_there_stay_as_published() {
    let tmp = tempfile::tempdir().unwrap();
    let mut tensors = tensors_of(&golden("mtp"));
    let lost = "model.layers.2.mlp.experts.3.up_proj.weight";
    tensors.retain(|t| t.name != lost);
    let dir = tmp.path().join("source");
    write_checkpoint(&dir, "mtp", &safetensors_bytes(&tensors));
    let out = tmp.path().join("out");
    run(&Checkpoint::open(&dir).unwrap(), &out, INT4, u64::MAX).unwrap();
    let result = Checkpoint::open(&out).unwrap();
    assert_eq!(result.verify().unwrap().len(), 1); // the missing MTP tensor
    assert!(
        result
            .stacked_experts("model.layers.2.mlp")
            .unwrap()
            .is_none()
    );
    assert!(
        result
            .stacked_experts("model.layers.1.mlp")
            .unwrap()
            .is_some()
    );
    let name = "model.layers.2.mlp.experts.3.gate_proj.weight";
    assert_eq!(result.tensor(name).unwrap().dtype(), Dtype::BF16);
}

/// Breaks with: columns that fill no unit packed nevertheless. 200 = 6 · 32 + 8.
#[test]
fn columns_that_fill_no_unit_stay_bf16() {
    let source = golden("fp8_f32odd");
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    run(&source, &out, INT8, u64::MAX).unwrap();
    let result = Checkpoint::open(&out).unwrap();
    let args = source.args();
    let stacks = [args.hidden_size, args.moe_intermediate_size];
    let all = stacks.into_iter().all(GroupFormat::fits);
    let stacked = result.stacked_experts("model.layers.1.mlp").unwrap();
    assert_eq!(stacked.is_some(), all);
    for spec in Layout::new(args).tensors().filter(|s| s.quantizable) {
        if !GroupFormat::fits(spec.shape[1]) {
            let dtype = result.tensor(&spec.name).unwrap().dtype();
            assert_eq!(dtype, Dtype::BF16, "{}", spec.name);
        }
    }
}
