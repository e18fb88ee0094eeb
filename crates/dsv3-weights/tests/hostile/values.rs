//! Numbers that are none, where all others are in order.

use dsv3_weights::{Checkpoint, WeightsError};

use crate::common::{golden, safetensors_bytes, tensors_of, write_checkpoint};

/// A NaN among the correction biases chooses its expert for every token, and no logit shows it; one
/// in a norm makes every answer NaN, with nothing that says from where.
#[test]
fn biases_and_norms_that_are_nan_or_infinite() {
    const NAMES: [&str; 2] = [
        "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.norm.weight",
    ];
    for name in NAMES {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut tensors = tensors_of(&golden("base"));
            let tensor = tensors.iter_mut().find(|t| t.name == name).unwrap();
            let len = tensor.shape[0] as usize;
            let size = tensor.data.len() / len;
            // f32 or its upper half.
            let bytes = &bad.to_le_bytes()[4 - size..];
            tensor.data[3 * size..4 * size].copy_from_slice(bytes);
            let dir = tempfile::tempdir().unwrap();
            write_checkpoint(dir.path(), "base", &safetensors_bytes(&tensors));
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            refused!(
                checkpoint.vector(name, len),
                WeightsError::NotFinite { index: 3, .. },
                name,
                "element 3",
                "damaged"
            );
        }
    }
}
