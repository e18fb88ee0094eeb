//! The golden checkpoints: every one opens, and its numbers are those that an independent reader
//! finds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

use dsv3_weights::{Checkpoint, Dtype, LinearFormat, TensorFile, WeightsError};

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

fn dir(set: &str) -> String {
    format!(
        "{}/../../fixtures/golden/{set}/model",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// Our header reader against the safetensors crate: names, dtypes, shapes and every byte.
#[test]
fn agrees_with_the_safetensors_crate() {
    for set in SETS {
        let checkpoint = Checkpoint::open(dir(set)).unwrap();
        let bytes = std::fs::read(format!("{}/model.safetensors", dir(set))).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(checkpoint.num_tensors(), theirs.len());
        for (name, view) in theirs.tensors() {
            let ours = checkpoint.tensor(&name).unwrap();
            assert_eq!(ours.shape(), view.shape(), "{set} {name}");
            assert_eq!(
                format!("{:?}", view.dtype()).replace('_', ""),
                ours.dtype().name().replace('_', "")
            );
            assert_eq!(ours.bytes(), view.data(), "{set} {name}");
        }
        let total: u64 = checkpoint.tensors().map(|t| t.byte_len()).sum();
        assert_eq!(total, checkpoint.data_bytes());
    }
}

/// A copy here would double the memory of every load.
#[test]
fn views_share_the_map() {
    let checkpoint = Checkpoint::open(dir("base")).unwrap();
    let view = checkpoint.tensor("lm_head.weight").unwrap();
    assert_eq!(view.bytes().as_ptr(), view.as_slice().as_ptr());
    assert_eq!(view.bytes().as_ptr(), view.bytes().as_ptr());
    // And the bytes outlive the checkpoint.
    let bytes = view.bytes();
    let first = bytes.first().copied();
    drop(checkpoint);
    assert_eq!(bytes.first().copied(), first);
}

/// Power-of-two scales must be seen in V3.1's format and not in V3's, tensor by tensor.
#[test]
fn fp8_weights_come_with_their_scales() {
    for (set, expected) in [("fp8_ue8m0", true), ("fp8_f32odd", false)] {
        let checkpoint = Checkpoint::open(dir(set)).unwrap();
        let mut seen = 0;
        for view in checkpoint.tensors().filter(|t| t.dtype() == Dtype::F8E4M3) {
            let shape = [view.shape()[0], view.shape()[1]];
            let linear = checkpoint.linear(view.name(), shape).unwrap();
            assert_eq!(
                linear.format,
                LinearFormat::Fp8Block {
                    block: [128, 128],
                    power_of_two: expected
                },
                "{set} {}",
                view.name()
            );
            // The oracle against the formula, element by element.
            let scale = linear.scale.as_ref().unwrap();
            let across = shape[1].div_ceil(128);
            let dense = linear.dequantize();
            for (i, value) in dense.iter().enumerate() {
                let (r, c) = (i / shape[1], i % shape[1]);
                let code = dsv3_weights::fp8::e4m3_to_f32(linear.data[i]);
                assert_eq!(*value, code * scale[r / 128 * across + c / 128]);
            }
            seen += 1;
        }
        assert_eq!(seen, 40, "{set}");
    }
}

/// A norm read as a matrix, or a matrix of another model, must be refused with both shapes.
#[test]
fn shapes_are_checked_against_the_caller() {
    let checkpoint = Checkpoint::open(dir("base")).unwrap();
    assert_eq!(
        checkpoint.vector("model.norm.weight", 128).unwrap().len(),
        128
    );
    let e = checkpoint.vector("model.norm.weight", 127).unwrap_err();
    assert!(
        matches!(&e, WeightsError::WrongShape { expected, found, .. }
        if expected == &[127] && found == &[128]),
        "{e}"
    );
    let e = checkpoint.linear("lm_head.weight", [128, 512]).unwrap_err();
    assert!(matches!(e, WeightsError::WrongShape { .. }));
    let e = checkpoint
        .linear("model.layers.9.none", [1, 1])
        .unwrap_err();
    assert!(
        e.to_string().contains("model.layers.9.none") && e.to_string().contains("base"),
        "{e}"
    );
    let head = checkpoint.matrix_f32("lm_head.weight", [512, 128]).unwrap();
    assert_eq!(head.len(), 512 * 128);
}

/// Files that are no checkpoints, such as the reference outputs, open alone.
#[test]
fn single_files_open_without_a_config() {
    let file = TensorFile::open(format!("{}/../golden.safetensors", dir("base"))).unwrap();
    let logits = file.tensor("f32.logits").unwrap();
    assert_eq!(logits.dtype(), Dtype::F32);
    assert_eq!(logits.to_f32_vec().unwrap().len(), logits.num_elements());
    assert!(matches!(
        file.tensor("none"),
        Err(WeightsError::MissingTensor { .. })
    ));
}
