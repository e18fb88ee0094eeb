//! What rounding cost, written into a checkpoint after it was measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::golden;
use dsv3_weights::{
    Checkpoint, ConvertFormat, ConvertOptions, WeightsError, Written, convert, prepare,
};

const NOTE: &str = r#"{"kl_mean": 0.001, "text": "a \"quoted\" line\nand é"}"#;

fn options() -> ConvertOptions {
    ConvertOptions {
        format: ConvertFormat::Bf16,
        shard_bytes: 1 << 18,
        ..ConvertOptions::default()
    }
}

fn written(out: &Path) -> Written {
    let go_on = &mut |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
    prepare(&golden("fp8_ue8m0"), None, out, &options(), go_on).unwrap()
}

/// Breaks with: a note that moves the data, that another reader of the format would stumble over,
/// that comes back changed; a folder that can't be opened before it has its name.
#[test]
fn a_note_comes_back() {
    let tmp = tempfile::tempdir().unwrap();
    let (out, bare) = (tmp.path().join("out"), tmp.path().join("bare"));
    let written = written(&out);
    assert_eq!(Checkpoint::open(written.dir()).unwrap().rounding(), None);
    written.set_rounding(NOTE).unwrap();
    assert!(!out.exists());
    let report = written.finish().unwrap();
    assert!(report.shards > 1);

    let noted = Checkpoint::open(&out).unwrap();
    assert_eq!(noted.rounding(), Some(NOTE));
    let go_on = &mut |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
    convert(&golden("fp8_ue8m0"), &bare, &options(), go_on).unwrap();
    let bare = Checkpoint::open(&bare).unwrap();
    assert_eq!(bare.rounding(), None);
    for tensor in bare.tensors() {
        let same = noted.tensor(tensor.name()).unwrap();
        assert_eq!(same.bytes(), tensor.bytes(), "{}", tensor.name());
    }
}

/// Breaks with: a note of another length that leaves a part of the one before.
#[test]
fn a_second_note_takes_the_place_of_the_first() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    let written = written(&out);
    written.set_rounding(NOTE).unwrap();
    written.set_rounding("{}").unwrap();
    written.finish().unwrap();
    assert_eq!(Checkpoint::open(&out).unwrap().rounding(), Some("{}"));
}

/// Breaks with: a note that runs over into the tensors' entries.
#[test]
fn a_note_that_is_too_long_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    let written = written(&out);
    let error = written.set_rounding(&"x".repeat(9000)).unwrap_err();
    assert!(
        matches!(error, WeightsError::BadOption { option: "note", .. }),
        "{error}"
    );
    written.finish().unwrap();
    assert_eq!(Checkpoint::open(&out).unwrap().rounding(), None);
}

/// Breaks with: a conversion whose measuring was broken off, and that begins again from nothing or
/// keeps a file that was being written to.
#[test]
fn after_a_break_the_files_are_there() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    drop(written(&out));
    let again = written(&out);
    again.set_rounding(NOTE).unwrap();
    drop(again);
    // Only the file with the note differs from what is to be written.
    let report = written(&out).finish().unwrap();
    assert_eq!(report.shards_kept, report.shards - 1);
    assert_eq!(Checkpoint::open(&out).unwrap().rounding(), None);
}
