//! Packed tensors: U8 bytes that mean what the metadata say, and metadata that lie.

use std::ops::ControlFlow;
use std::path::Path;

use dsv3_weights::{Checkpoint, ConvertFormat, ConvertOptions, Header, WeightsError, convert};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{file_bytes, golden};

const WEIGHT: &str = "model.layers.1.self_attn.o_proj.weight";
const STACK: &str = "model.layers.1.mlp.experts.gate_up_proj.weight";

/// A packed `base`, as JSON header and data.
struct Victim {
    dir: TempDir,
    header: Value,
    data: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ConvertOptions {
            format: ConvertFormat::Int4 { group: 32 },
            shard_bytes: u64::MAX,
            ..ConvertOptions::default()
        };
        let out = dir.path().join("model");
        let go = &mut |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
        convert(&golden("base"), &out, &options, go).unwrap();
        let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
        let parsed = Header::parse(&bytes, bytes.len() as u64).unwrap();
        let (header, data) = bytes.split_at(usize::try_from(parsed.data_start).unwrap());
        Self {
            header: serde_json::from_slice(&header[8..]).unwrap(),
            data: data.to_vec(),
            dir,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The metadata `dsv3`, changed.
    fn packed(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let text = self.header["__metadata__"]["dsv3"].as_str().unwrap();
        let mut packed: Value = serde_json::from_str(text).unwrap();
        change(&mut packed);
        self.header["__metadata__"]["dsv3"] = packed.to_string().into();
        self
    }

    /// The metadata `dsv3` of this very text.
    fn text(mut self, text: &str) -> Self {
        self.header["__metadata__"]["dsv3"] = text.into();
        self
    }

    fn open(self) -> Result<Checkpoint, WeightsError> {
        let out = self.path().join("model");
        let file = file_bytes(&self.header.to_string(), &self.data);
        std::fs::write(out.join("model.safetensors"), file).unwrap();
        let opened = Checkpoint::open(&out);
        if let Err(e) = &opened {
            let message = e.to_string();
            assert!(
                message.len() < 1000 && !message.contains('\u{1b}'),
                "{message}"
            );
            assert!(message.contains("model.safetensors"), "{message}");
        }
        opened
    }
}

/// Breaks with: a victim that is refused for another reason than the attack.
#[test]
fn the_unchanged_victim_opens() {
    let victim = Victim::new().packed(|_| {});
    assert!(victim.open().unwrap().packed(WEIGHT).is_some());
}

/// Breaks with: an unknown meaning guessed.
#[test]
fn attack_unknown_version_or_format() {
    for version in [json!(0), json!(2)] {
        let opened = Victim::new().packed(|p| p["version"] = version).open();
        refused!(opened, WeightsError::PackedMetadata { .. }, "version");
    }
    for format in ["int3", "INT4", "fp8", "\u{1b}[2J"] {
        let opened = Victim::new()
            .packed(|p| p["tensors"][WEIGHT]["format"] = format.into())
            .open();
        refused!(opened, WeightsError::PackedTensor { tensor, .. } if tensor == WEIGHT, "int8 and int4");
    }
}

/// Breaks with: a division by zero, or scales read out of codes.
#[test]
fn attack_group_of_zero_or_no_multiple_of_32() {
    for group in [0u64, 1, 16, 33, 1 << 40, u64::MAX] {
        let opened = Victim::new()
            .packed(|p| p["tensors"][WEIGHT]["group"] = group.into())
            .open();
        refused!(opened, WeightsError::PackedTensor { tensor, .. } if tensor == WEIGHT, "32");
    }
}

/// Breaks with: rows of another length than the format's, so that each begins in its neighbour.
#[test]
fn attack_row_bytes_of_another_format() {
    // A format whose rows are as long: what cannot be told from lengths must still decode in
    // bounds; all others are refused.
    for (field, value) in [("format", json!("int8")), ("group", json!(1024))] {
        let opened = Victim::new()
            .packed(|p| p["tensors"][STACK][field] = value)
            .open();
        match opened {
            Ok(checkpoint) => {
                let args = checkpoint.args();
                let shape = [args.moe_intermediate_size, args.hidden_size];
                let name = STACK.replace("gate_up_proj", "0.gate_proj");
                let values = checkpoint.matrix_f32(&name, shape).unwrap();
                assert_eq!(values.len(), shape[0] * shape[1]);
            }
            Err(e) => assert!(matches!(e, WeightsError::PackedTensor { .. }), "{e}"),
        }
    }
    let mut victim = Victim::new();
    let shape = victim.header[WEIGHT]["shape"].as_array().unwrap();
    let (rows, row) = (shape[0].as_u64().unwrap(), shape[1].as_u64().unwrap());
    victim.header[WEIGHT]["shape"] = json!([rows * 2, row / 2]);
    refused!(victim.open(), WeightsError::PackedTensor { tensor, .. } if tensor == WEIGHT, "bytes");
    let mut victim = Victim::new();
    victim.header[WEIGHT]["shape"] = json!([rows * row]);
    refused!(victim.open(), WeightsError::PackedTensor { tensor, .. } if tensor == WEIGHT, "bytes");
    let mut victim = Victim::new();
    victim.header[WEIGHT]["dtype"] = "I8".into();
    refused!(victim.open(), WeightsError::PackedTensor { tensor, .. } if tensor == WEIGHT, "I8");
}

/// Breaks with: a shape believed that config.json contradicts.
#[test]
fn attack_shape_of_another_weight() {
    for shape in [
        json!([]),
        json!([1]),
        json!([128, 128, 128]),
        json!([u64::MAX, u64::MAX]),
        json!([256, 128]),
    ] {
        let opened = Victim::new()
            .packed(|p| p["tensors"][WEIGHT]["shape"] = shape)
            .open();
        refused!(opened, WeightsError::PackedTensor { tensor, .. } if tensor == WEIGHT, "config.json");
    }
}

/// Breaks with: an entry that nothing stands behind.
#[test]
fn attack_entry_without_tensor() {
    let lost = "model.layers.0.mlp.up_proj.weight";
    let mut victim = Victim::new();
    victim.header.as_object_mut().unwrap().remove(lost).unwrap();
    // Its bytes under another name, so that the file has no hole.
    let entry =
        serde_json::from_str::<Value>(&Victim::new().header.to_string()).unwrap()[lost].clone();
    victim.header["something"] = entry;
    refused!(victim.open(), WeightsError::PackedTensor { tensor, .. } if tensor == lost, "not in the file");
}

/// Breaks with: bytes without a meaning taken for weights.
#[test]
fn attack_tensor_without_entry() {
    for name in [WEIGHT, STACK] {
        let victim = Victim::new().packed(|p| {
            p["tensors"].as_object_mut().unwrap().remove(name).unwrap();
        });
        refused!(victim.open(), WeightsError::PackedTensor { tensor, .. } if tensor == name, "entry");
    }
}

/// Breaks with: a packed embedding read row by row as if it were f32, a packed kv_b taken apart by
/// heads.
#[test]
fn attack_packed_weights_that_have_no_packed_reader() {
    for (name, shape) in [
        ("model.embed_tokens.weight", json!([512, 128])),
        ("model.layers.1.mlp.gate.weight", json!([16, 128])),
        (
            "model.layers.1.self_attn.kv_b_proj.weight",
            json!([512, 64]),
        ),
        (
            "model.layers.1.mlp.experts.0.gate_proj.weight",
            json!([64, 128]),
        ),
        (
            "model.layers.1.mlp.experts.16.gate_proj.weight",
            json!([64, 128]),
        ),
        (
            "model.layers.0.mlp.experts.gate_up_proj.weight",
            json!([16, 128, 128]),
        ), // a dense layer
        ("model.layers.01.self_attn.o_proj.weight", json!([128, 256])),
        ("nobody", json!([64, 64])),
    ] {
        let opened = Victim::new()
            .packed(|p| {
                p["tensors"][name] = json!({ "format": "int8", "group": 32, "shape": shape })
            })
            .open();
        refused!(opened, WeightsError::PackedTensor { tensor, .. } if tensor == name, name);
    }
}

/// Breaks with: a map that keeps one of two, a field that a later version gives a meaning ignored,
/// a stack overflow.
#[test]
fn attack_metadata_that_are_no_metadata() {
    let twice = r#"{"version":1,"tensors":{"a":{"format":"int4","group":32,"shape":[1,32]},"a":{"format":"int8","group":32,"shape":[1,32]}}}"#;
    for (text, word) in [
        ("", "not readable"),
        ("[]", "not readable"),
        ("{}", "version"),
        (r#"{"version":1}"#, "tensors"),
        (r#"{"version":1,"tensors":{},"codebook":1}"#, "codebook"),
        (
            r#"{"version":1,"tensors":{"a":{"format":"int4"}}}"#,
            "group",
        ),
        (
            r#"{"version":1,"tensors":{"a":{"format":"int4","group":-32,"shape":[1,32]}}}"#,
            "`a`",
        ),
        (twice, "twice"),
        (&"[".repeat(50_000), "nests"),
    ] {
        let opened = Victim::new().text(text).open();
        refused!(opened, WeightsError::PackedMetadata { .. }, "dsv3", word);
    }
}

/// Breaks with: files and config.json of two checkpoints mixed.
#[test]
fn attack_config_of_another_checkpoint() {
    let mut victim = Victim::new();
    victim.header["__metadata__"]
        .as_object_mut()
        .unwrap()
        .remove("dsv3")
        .unwrap();
    refused!(
        victim.open(),
        WeightsError::PackedMetadata { .. },
        "missing"
    );

    let victim = Victim::new();
    let config = victim.path().join("model/config.json");
    std::fs::copy(golden("base").dir().join("config.json"), config).unwrap();
    refused!(
        victim.open(),
        WeightsError::PackedMetadata { .. },
        "config.json"
    );

    let victim = Victim::new();
    let config = victim.path().join("model/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["quantization_config"]["version"] = 2.into();
    std::fs::write(&config, value.to_string()).unwrap();
    let opened = Checkpoint::open(victim.path().join("model"));
    refused!(opened, WeightsError::ConfigField { field, .. } if field == "quantization_config.version", "2");
}

/// Breaks with: one stack of two read as if experts were whole.
#[test]
fn attack_half_of_the_experts_stacks() {
    let down = STACK.replace("gate_up_proj", "down_proj");
    let mut victim = Victim::new().packed(|p| {
        p["tensors"].as_object_mut().unwrap().remove(&down).unwrap();
    });
    let entry = victim
        .header
        .as_object_mut()
        .unwrap()
        .remove(&down)
        .unwrap();
    victim.header["something"] = entry;
    let checkpoint = victim.open().unwrap();
    refused!(
        checkpoint.stacked_experts("model.layers.1.mlp"),
        WeightsError::MissingTensor { tensor, .. } if *tensor == down, "down_proj"
    );
    refused!(
        checkpoint.verify(),
        WeightsError::IncompleteLayout { count: 16, .. },
        "down_proj"
    );
}

/// Breaks with: a NaN scale that spreads beyond its own group, or a panic over it.
#[test]
fn attack_scale_that_is_not_a_number() {
    let mut victim = Victim::new();
    let offset = victim.header[WEIGHT]["data_offsets"][0].as_u64().unwrap();
    let at = usize::try_from(offset).unwrap() + 256 / 2; // behind the codes of the first row
    victim.data[at..at + 2].copy_from_slice(&[0xff, 0x7f]);
    let checkpoint = victim.open().unwrap();
    let values = checkpoint.matrix_f32(WEIGHT, [128, 256]).unwrap();
    assert!(values[..32].iter().all(|x| x.is_nan()));
    assert!(values[32..].iter().all(|x| x.is_finite()));
}
