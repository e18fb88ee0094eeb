//! Anything at all: random bytes and mutations of valid files.

use std::path::Path;

use dsv3_weights::{Checkpoint, Header};
use proptest::prelude::*;

use crate::common::{golden_dir, write_checkpoint};
use crate::parse;

/// Reads everything that can be read; whatever comes, it must come as a value or an error.
fn exercise(dir: &Path) {
    let Ok(checkpoint) = Checkpoint::open(dir) else {
        return;
    };
    let _ = checkpoint.verify();
    let _ = checkpoint.scale_census();
    let _ = dsv3_weights::Inventory::of(&checkpoint);
    for tensor in checkpoint.tensors() {
        assert_eq!(tensor.bytes().len() as u64, tensor.byte_len());
        let _ = tensor.to_f32_vec();
        if let &[rows, cols] = tensor.shape() {
            let _ = checkpoint.matrix_f32(tensor.name(), [rows, cols]);
        }
    }
}

proptest! {
    /// Any bytes, under any claimed length.
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), len in any::<u64>()) {
        let _ = Header::parse(&bytes, bytes.len() as u64);
        let _ = Header::parse(&bytes, len);
    }

    /// A plausible length in front, so that the JSON reader is reached.
    #[test]
    fn random_headers_never_panic(text in "[\\[\\]{}\",:a-c0-9\\-.eu\\\\]{0,200}", data in 0usize..64) {
        let _ = parse(&text, data);
    }

    /// Entries of the right form with any numbers: what is accepted lies in the file, disjoint.
    #[test]
    fn what_is_accepted_is_sound(
        entries in proptest::collection::vec(
            (proptest::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..4),
             prop_oneof![0u64..40, any::<u64>()], prop_oneof![0u64..40, any::<u64>()],
             prop::sample::select(vec!["U8", "BF16", "F32", "F64"])), 0..5),
        data in 0usize..40,
    ) {
        let fields: Vec<String> = entries.iter().enumerate().map(|(i, (shape, a, b, dtype))| {
            format!(r#""t{i}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{a},{b}]}}"#)
        }).collect();
        if let Ok(header) = parse(&format!("{{{}}}", fields.join(",")), data) {
            let mut owned = 0;
            for t in &header.tensors {
                prop_assert!(t.begin <= t.end && t.end <= data as u64);
                let elements: usize = t.shape.iter().product();
                prop_assert_eq!((elements * t.dtype.size_bytes()) as u64, t.byte_len());
                owned += t.byte_len();
            }
            prop_assert_eq!(owned, data as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A valid file with some bytes changed, mostly in its header, or cut off.
    #[test]
    fn mutations_of_a_valid_file_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(golden_dir("fp8_f32odd").join("model.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, byte, in_header) in edits {
            let i = at.index(if in_header { header } else { bytes.len() });
            bytes[i] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(dir.path(), "fp8_f32odd", &bytes);
        exercise(dir.path());
    }

    /// Digits of a valid header replaced by other digits: the JSON stays valid and lies.
    #[test]
    fn lying_digits_never_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..10), 1..4)) {
        let mut bytes = std::fs::read(golden_dir("fp8_f32odd").join("model.safetensors")).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let digits: Vec<usize> = (8..header).filter(|i| bytes[*i].is_ascii_digit()).collect();
        for (at, digit) in edits {
            bytes[digits[at.index(digits.len())]] = b'0' + digit;
        }
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(dir.path(), "fp8_f32odd", &bytes);
        exercise(dir.path());
    }
}
