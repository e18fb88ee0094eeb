//! Names of tensors that attack whoever reads an error.

use std::ops::ControlFlow;

use dsv3_weights::{Checkpoint, ConvertOptions, Dtype, Progress, WeightsError, convert};
use tempfile::TempDir;

use crate::common::{Raw, golden, safetensors_bytes, tensors_of, write_checkpoint};

/// Clears the screen, sets the window's title, writes from right to left, and goes on for long.
fn evil() -> String {
    format!("\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}{}", "x".repeat(5000))
}

/// A golden set with these tensors beside its own.
fn with(set: &str, more: Vec<Raw>) -> (TempDir, Checkpoint) {
    let mut tensors = tensors_of(&golden(set));
    tensors.extend(more);
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(dir.path(), set, &safetensors_bytes(&tensors));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

#[track_caller]
fn harmless(text: &str) {
    assert!(text.len() < 1000, "a message of {} bytes", text.len());
    let control = |c: char| c.is_control() || c == '\u{202e}';
    assert!(!text.contains(control), "control characters pass through");
    assert!(text.contains("owned"), "the name is not told: {text}");
}

fn converted(checkpoint: &Checkpoint) -> Result<(), WeightsError> {
    let tmp = tempfile::tempdir().unwrap();
    let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
    convert(
        checkpoint,
        tmp.path().join("out"),
        &ConvertOptions::default(),
        go_on,
    )
    .map(|_| ())
}

/// An fp8 weight of the evil name, `[out, in]`, and what its scales are.
fn fp8(shape: &[u64], codes: Vec<u8>, scales: Option<(Dtype, Vec<u8>)>) -> Vec<Raw> {
    let mut tensors = vec![Raw::new(&evil(), Dtype::F8E4M3, shape, codes)];
    let name = format!("{}_scale_inv", evil());
    tensors.extend(scales.map(|(dtype, data)| Raw::new(&name, dtype, &[1, 1], data)));
    tensors
}

/// Breaks with: an error of reading or converting that prints a name as it stands in the file.
#[test]
fn a_name_that_rewrites_the_terminal() {
    let f32 = |value: f32| Some((Dtype::F32, value.to_le_bytes().to_vec()));
    let scale = |value: f32| f32(value);
    let two = || vec![0x38; 2];
    type Expected = fn(&WeightsError) -> bool;
    let cases: [(&str, Vec<Raw>, Expected); 6] = [
        ("base", fp8(&[1, 2], two(), None), |e| {
            matches!(e, WeightsError::UndeclaredQuantization { .. })
        }),
        ("fp8_ue8m0", fp8(&[1, 2], two(), None), |e| {
            matches!(e, WeightsError::MissingScale { .. })
        }),
        ("fp8_ue8m0", fp8(&[2], two(), scale(1.0)), |e| {
            matches!(e, WeightsError::NotAMatrix { .. })
        }),
        ("fp8_ue8m0", fp8(&[1, 2], two(), scale(f32::NAN)), |e| {
            matches!(e, WeightsError::BadScale { .. })
        }),
        (
            "fp8_ue8m0",
            fp8(&[1, 2], two(), Some((Dtype::I32, vec![0; 4]))),
            |e| matches!(e, WeightsError::WrongDtype { .. }),
        ),
        (
            "fp8_ue8m0",
            fp8(&[1, 2], vec![0x38, 0x7f], scale(1.0)),
            |e| matches!(e, WeightsError::NotFinite { index: 1, .. }),
        ),
    ];
    for (set, tensors, expected) in cases {
        let (_dir, checkpoint) = with(set, tensors);
        let e = converted(&checkpoint).unwrap_err();
        assert!(expected(&e), "{}", e.to_string().escape_debug());
        harmless(&e.to_string());
    }

    let (_dir, checkpoint) = with("base", vec![Raw::new(&evil(), Dtype::U8, &[2], vec![0; 2])]);
    let tensor = checkpoint.tensor(&evil()).unwrap();
    harmless(&tensor.expect_shape(&[3]).unwrap_err().to_string());
    harmless(&tensor.to_f32_vec().unwrap_err().to_string());
    for read in [
        checkpoint.vector(&evil(), 2).map(|_| ()),
        checkpoint.vector(&evil(), 3).map(|_| ()),
        checkpoint.linear(&evil(), [1, 2]).map(|_| ()),
        checkpoint.tensor(&format!("{}?", evil())).map(|_| ()),
        checkpoint.files()[0]
            .tensor(&format!("{}?", evil()))
            .map(|_| ()),
    ] {
        harmless(&read.unwrap_err().to_string());
    }
}

/// Breaks with: a progress bar that prints a name as it stands in the file.
#[test]
fn a_name_that_rewrites_the_progress_bar() {
    let progress = Progress {
        tensor: &evil(),
        tensors_done: 0,
        tensors_total: 1,
        bytes_done: 0,
        bytes_total: 1,
        shard: 1,
        shards: 1,
        bytes_short: 0,
    };
    harmless(&progress.shown_tensor());
}
