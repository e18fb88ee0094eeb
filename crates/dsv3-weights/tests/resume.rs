//! What a half-finished conversion is gone on with by, and what it is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{contents, golden, safetensors_bytes, tensors_of, write_checkpoint};
use dsv3_weights::{
    Checkpoint, ConvertFormat, ConvertOptions, ConvertReport, Importance, Layout, Progress,
    WeightsError, convert, prepare,
};

fn options(importance: Option<Importance>) -> ConvertOptions {
    ConvertOptions {
        format: ConvertFormat::Int4 { group: 32 },
        shard_bytes: 100_000,
        importance,
    }
}

fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Begins a conversion and stops it in the third shard.
#[track_caller]
fn interrupt(source: &Checkpoint, out: &Path, options: &ConvertOptions) {
    let stopped = convert(source, out, options, &mut |p| match p.shard {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(WeightsError::Interrupted { .. })));
}

#[track_caller]
fn goes_on(result: Result<ConvertReport, WeightsError>) {
    let report = result.unwrap();
    assert!(report.shards_kept == 2, "{} kept", report.shards_kept);
}

#[track_caller]
fn foreign(result: Result<ConvertReport, WeightsError>) {
    let e = result.unwrap_err();
    assert!(matches!(e, WeightsError::ForeignPartial { .. }), "{e}");
}

/// A copy of `base` that may be changed, and what lies beside it.
fn copy(dir: &Path) -> Checkpoint {
    let tensors = tensors_of(&golden("base"));
    write_checkpoint(dir, "base", &safetensors_bytes(&tensors));
    std::fs::write(dir.join("tokenizer.json"), "{\"a\":1}").unwrap();
    Checkpoint::open(dir).unwrap()
}

/// How much columns count, by another rule for each `step`.
fn importance(source: &Checkpoint, step: usize) -> Importance {
    let layout = Layout::new(source.args());
    let matrices = layout.tensors().filter(|spec| spec.shape.len() == 2);
    let columns = |n: usize| (0..n).map(|i| (i * step % 13) as f32).collect();
    let values: BTreeMap<String, Vec<f32>> =
        matrices.map(|s| (s.name, columns(s.shape[1]))).collect();
    Importance::new(values).unwrap()
}

/// Breaks with: a calibrated conversion that takes another one's half-finished folder, or an
/// uncalibrated one's, for its own; one that never knows its own again.
#[test]
fn another_importance_is_another_conversion() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("base");
    let (whole, cut) = (tmp.path().join("whole"), tmp.path().join("cut"));
    let [a, b] = [7, 5].map(|step| options(Some(importance(&source, step))));
    convert(&source, &whole, &a, &mut go_on).unwrap();
    interrupt(&source, &cut, &a);
    foreign(convert(&source, &cut, &b, &mut go_on));
    foreign(convert(&source, &cut, &options(None), &mut go_on));
    goes_on(convert(&source, &cut, &a, &mut go_on));
    assert!(contents(&whole) == contents(&cut));

    let plain = tmp.path().join("plain");
    interrupt(&source, &plain, &options(None));
    foreign(convert(&source, &plain, &a, &mut go_on));
    goes_on(convert(&source, &plain, &options(None), &mut go_on));
    assert!(contents(&whole) != contents(&plain));
}

/// Breaks with: a conversion that a copy of its source, on another machine or written a second
/// time, cannot go on with.
#[test]
fn a_copy_of_the_source_is_the_source() {
    let tmp = tempfile::tempdir().unwrap();
    let (whole, out) = (tmp.path().join("whole"), tmp.path().join("out"));
    let source = copy(&tmp.path().join("source"));
    convert(&source, &whole, &options(None), &mut go_on).unwrap();
    interrupt(&source, &out, &options(None));
    let elsewhere = copy(&tmp.path().join("elsewhere"));
    let file = File::options()
        .write(true)
        .open(elsewhere.files()[0].path())
        .unwrap();
    let later = SystemTime::now() + Duration::from_secs(86_400);
    file.set_modified(later).unwrap();
    goes_on(convert(&elsewhere, &out, &options(None), &mut go_on));
    assert!(contents(&whole) == contents(&out));
}

/// Breaks with: two sources of the same names, shapes and lengths that are taken for one.
#[test]
fn other_values_are_another_source() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("source");
    let out = tmp.path().join("out");
    let source = copy(&dir);
    interrupt(&source, &out, &options(None));
    let (path, start) = (dir.join("model.safetensors"), source.files()[0].header());
    let start = usize::try_from(start.data_start).unwrap();
    drop(source);
    let honest = std::fs::read(&path).unwrap();
    // The lowest bit of the first value, of one in the middle of the sample, and of the last.
    for at in [
        start,
        start + (honest.len() - start - 512) / 7 * 3 + 100,
        honest.len() - 2,
    ] {
        let mut changed = honest.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let changed = Checkpoint::open(&dir).unwrap();
        foreign(convert(&changed, &out, &options(None), &mut go_on));
    }
    std::fs::write(&path, honest).unwrap();
    let source = Checkpoint::open(&dir).unwrap();
    goes_on(convert(&source, &out, &options(None), &mut go_on));
}

/// Breaks with: headers that differ by whether a report is wanted, so that a conversion whose
/// report can't be made is lost.
#[test]
fn with_and_without_a_report_it_is_one_conversion() {
    let tmp = tempfile::tempdir().unwrap();
    let source = golden("base");
    let at = |name: &str| tmp.path().join(name);
    convert(&source, at("whole"), &options(None), &mut go_on).unwrap();

    // Measuring failed; the same without --report needs only to give the name.
    let written = prepare(&source, None, at("first"), &options(None), &mut go_on).unwrap();
    drop(written);
    let report = convert(&source, at("first"), &options(None), &mut go_on).unwrap();
    assert_eq!(report.shards_kept, report.shards);

    interrupt(&source, &at("second"), &options(None));
    let written = prepare(&source, None, at("second"), &options(None), &mut go_on).unwrap();
    goes_on(written.finish());
    assert!(contents(&at("whole")) == contents(&at("first")));
    assert!(contents(&at("whole")) == contents(&at("second")));
}

/// Breaks with: a copy that takes over the permissions of a source that nobody may write to, and
/// is in the way of the next one. The superuser would not be stopped, so the mode is looked at.
#[cfg(unix)]
#[test]
fn a_read_only_source_can_be_converted_twice() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let (dir, out) = (tmp.path().join("source"), tmp.path().join("out"));
    let source = copy(&dir);
    std::fs::create_dir(dir.join("assets")).unwrap();
    std::fs::write(dir.join("assets/chat_template.jinja"), "{{ x }}").unwrap();
    let side = [
        "tokenizer.json",
        "assets/chat_template.jinja",
        "config.json",
    ];
    for name in side {
        std::fs::set_permissions(dir.join(name), Permissions::from_mode(0o444)).unwrap();
    }
    for _ in 0..2 {
        let written = prepare(&source, None, &out, &options(None), &mut go_on).unwrap();
        for name in side {
            let file = written.dir().join(name);
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o600, 0o600, "{name}: {mode:o}");
            // As an older version of this program left it.
            std::fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
        }
    }
    let report = convert(&source, &out, &options(None), &mut go_on).unwrap();
    assert_eq!(report.shards_kept, report.shards);
    assert_eq!(
        std::fs::read(out.join("tokenizer.json")).unwrap(),
        b"{\"a\":1}"
    );
}
