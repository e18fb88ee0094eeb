//! fp8 weights and the scales that they mean nothing without.

use dsv3_weights::{Checkpoint, Dtype, WeightsError};
use tempfile::TempDir;

use crate::common::{Raw, golden, golden_dir, safetensors_bytes, tensors_of, write_checkpoint};

const WEIGHT: &str = "model.layers.1.self_attn.o_proj.weight";

/// fp8_ue8m0 with its tensors changed.
fn changed(change: impl FnOnce(&mut Vec<Raw>)) -> (TempDir, Checkpoint) {
    let mut tensors = tensors_of(&golden("fp8_ue8m0"));
    change(&mut tensors);
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(dir.path(), "fp8_ue8m0", &safetensors_bytes(&tensors));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

fn scale_of(tensors: &mut [Raw]) -> &mut Raw {
    let name = format!("{WEIGHT}_scale_inv");
    tensors.iter_mut().find(|t| t.name == name).unwrap()
}

fn read(checkpoint: &Checkpoint) -> Result<dsv3_weights::LinearView, WeightsError> {
    let shape = checkpoint.tensor(WEIGHT).unwrap().shape();
    checkpoint.linear(WEIGHT, [shape[0], shape[1]])
}

/// One NaN scale makes 16,384 weights NaN.
#[test]
fn scales_that_are_nan_infinite_zero_or_negative() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -0.01] {
        let (_dir, checkpoint) =
            changed(|t| scale_of(t).data[8..12].copy_from_slice(&bad.to_le_bytes()));
        refused!(
            read(&checkpoint),
            WeightsError::BadScale { index: 2, tensor, .. } if tensor.ends_with("_scale_inv"),
            WEIGHT, "scale 2", "finite"
        );
    }
}

/// Without its own scales a weight decodes to plausible nonsense.
#[test]
fn scales_that_are_missing_or_of_another_shape_or_type() {
    let (_dir, checkpoint) = changed(|t| t.retain(|t| t.name != format!("{WEIGHT}_scale_inv")));
    refused!(
        read(&checkpoint),
        WeightsError::MissingScale { .. },
        WEIGHT,
        "_scale_inv"
    );
    refused!(
        checkpoint.verify(),
        WeightsError::MissingScale { .. },
        WEIGHT
    );

    let (_dir, checkpoint) = changed(|t| {
        let scale = scale_of(t);
        scale.shape.reverse();
        scale.shape.push(1);
    });
    refused!(
        read(&checkpoint),
        WeightsError::WrongShape { .. },
        "_scale_inv"
    );
    refused!(
        checkpoint.verify(),
        WeightsError::WrongShape { .. },
        "_scale_inv"
    );

    let (_dir, checkpoint) = changed(|t| scale_of(t).dtype = "I32".into());
    refused!(
        read(&checkpoint),
        WeightsError::WrongDtype {
            found: Dtype::I32,
            ..
        },
        "_scale_inv"
    );
}

/// The block size would be a guess.
#[test]
fn fp8_weights_without_a_quantization_config() {
    let dir = tempfile::tempdir().unwrap();
    let model = std::fs::read(golden_dir("fp8_ue8m0").join("model.safetensors")).unwrap();
    write_checkpoint(dir.path(), "fp8_ue8m0", &model);
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config
        .as_object_mut()
        .unwrap()
        .remove("quantization_config")
        .unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    refused!(
        read(&checkpoint),
        WeightsError::UndeclaredQuantization { .. },
        WEIGHT,
        "weight_block_size"
    );
    refused!(
        checkpoint.verify(),
        WeightsError::UndeclaredQuantization { .. },
        "quantization_config"
    );
}

/// Integers read as floats are plausible nonsense too.
#[test]
fn weights_of_a_type_that_cannot_be_one() {
    let (_dir, checkpoint) = changed(|t| {
        let weight = t.iter_mut().find(|t| t.name == WEIGHT).unwrap();
        weight.dtype = "I8".into();
    });
    refused!(
        read(&checkpoint),
        WeightsError::WrongDtype {
            found: Dtype::I8,
            ..
        },
        WEIGHT
    );
    refused!(checkpoint.verify(), WeightsError::WrongDtype { .. }, WEIGHT);
    // A norm in fp8 has no scales to be read with.
    let (_dir, checkpoint) = changed(|t| {
        let norm = t
            .iter_mut()
            .find(|t| t.name == "model.norm.weight")
            .unwrap();
        norm.dtype = "F8_E4M3".into();
        norm.data.truncate(256);
    });
    refused!(
        checkpoint.verify(),
        WeightsError::WrongDtype { .. },
        "model.norm.weight"
    );
    refused!(
        checkpoint.vector("model.norm.weight", 256),
        WeightsError::WrongDtype { .. },
        "norm"
    );
}
