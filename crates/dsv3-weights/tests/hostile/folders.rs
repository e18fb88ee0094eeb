//! Folders, shards and the index between them.

use dsv3_weights::{Checkpoint, Dtype, HeaderError, IndexError, TensorFile, WeightsError};
use tempfile::TempDir;

use crate::common::{Raw, golden_dir, safetensors_bytes};

/// A folder with base's configuration, these shards and this index.
fn sharded(shards: &[(&str, Vec<Raw>)], index: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(
        golden_dir("base").join("config.json"),
        dir.path().join("config.json"),
    )
    .unwrap();
    for (name, tensors) in shards {
        std::fs::write(dir.path().join(name), safetensors_bytes(tensors)).unwrap();
    }
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    dir
}

fn byte(name: &str) -> Raw {
    Raw::new(name, Dtype::U8, &[1], vec![7])
}

/// The published index's `total_size` is wrong; a reader that checked it would refuse V3.1.
#[test]
fn an_honest_index_reads_and_its_total_size_is_not_trusted() {
    let dir = sharded(
        &[
            ("b.safetensors", vec![byte("x")]),
            ("a.safetensors", vec![byte("y"), byte("z")]),
        ],
        r#"{"metadata":{"total_size":1369062772000},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"a.safetensors"}}"#,
    );
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let names: Vec<&str> = checkpoint.tensors().map(|t| t.name()).collect();
    assert_eq!(names, ["y", "z", "x"]);
    assert_eq!(checkpoint.data_bytes(), 3);
    // Whatever the metadata are.
    for metadata in ["{}", "null", "{\"total_size\":-1}", "[1,2]", "\"x\""] {
        let dir = sharded(
            &[("a.safetensors", vec![byte("x")])],
            &format!(r#"{{"metadata":{metadata},"weight_map":{{"x":"a.safetensors"}}}}"#),
        );
        assert!(Checkpoint::open(dir.path()).is_ok(), "{metadata}");
    }
}

/// A checkpoint must not make its reader open files elsewhere.
#[test]
fn an_index_with_a_path_out_of_the_folder() {
    for target in [
        "../secret.safetensors",
        "/etc/passwd",
        "sub/x.safetensors",
        "..",
        ".",
        "",
        "./x",
        "..\\\\x.safetensors",
        "C:\\\\x",
        "a\\u0000b",
        "x/",
    ] {
        let dir = sharded(&[], &format!(r#"{{"weight_map":{{"w":"{target}"}}}}"#));
        refused!(
            Checkpoint::open(dir.path()),
            WeightsError::Index(IndexError::PathEscape { .. }),
            "`w`",
            "do not use"
        );
    }
}

/// Half a download must say which half is missing.
#[test]
fn an_index_with_a_missing_shard() {
    let dir = sharded(
        &[("a.safetensors", vec![byte("x")])],
        r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors","z":"b.safetensors"}}"#,
    );
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::Index(IndexError::MissingShard { tensors: 2, .. }),
        "b.safetensors",
        "2 tensors",
        "Download"
    );
}

/// Index and shards of two downloads in one folder.
#[test]
fn an_index_that_tells_another_story_than_the_shards() {
    let shards = || {
        [
            ("a.safetensors", vec![byte("x")]),
            ("b.safetensors", vec![byte("y")]),
        ]
    };
    let cases = [
        (
            r#"{"x":"a.safetensors","y":"b.safetensors","gone":"b.safetensors"}"#,
            "gone",
            true,
        ),
        (
            r#"{"x":"b.safetensors","y":"b.safetensors","_":"a.safetensors"}"#,
            "x",
            true,
        ),
        (r#"{"x":"a.safetensors"}"#, "", false), // b is not opened at all: nothing to refuse
    ];
    for (map, tensor, is_refused) in cases {
        let dir = sharded(&shards(), &format!(r#"{{"weight_map":{map}}}"#));
        let opened = Checkpoint::open(dir.path());
        if is_refused {
            refused!(
                opened,
                WeightsError::Index(IndexError::Mismatch { .. }),
                "index"
            );
        } else {
            assert!(opened.is_ok(), "{tensor}");
        }
    }
    let dir = sharded(
        &[("a.safetensors", vec![byte("x"), byte("smuggled")])],
        r#"{"weight_map":{"x":"a.safetensors"}}"#,
    );
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::Index(IndexError::Unlisted { tensor, .. }) if tensor == "smuggled",
        "smuggled"
    );
}

/// A stale shard beside its successor.
#[test]
fn one_tensor_in_two_shards() {
    let dir = sharded(
        &[
            ("a.safetensors", vec![byte("x")]),
            ("b.safetensors", vec![byte("x"), byte("y")]),
        ],
        r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#,
    );
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::DuplicateAcrossFiles { .. },
        "`x`",
        "a.safetensors",
        "b.safetensors"
    );
}

/// The index is as foreign as the rest.
#[test]
fn an_index_of_the_wrong_form() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"weight_map":7}"#,
        r#"{"weight_map":{"x":7}}"#,
        r#"{"weight_map":{"x":{"y":"a"}}}"#,
        r#"{"weight_map":{},"weight_map":{}}"#,
    ] {
        let dir = sharded(&[], text);
        refused!(
            Checkpoint::open(dir.path()),
            WeightsError::Index(IndexError::Json { .. }),
            "index.json"
        );
    }
    let dir = sharded(&[], &"[".repeat(10 << 20));
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::Index(IndexError::Json { .. }),
        "nests deeper"
    );
    let twice = r#"{"weight_map":{"x":"a.safetensors","x":"b.safetensors"}}"#;
    let dir = sharded(&[], twice);
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::DuplicateTensor { .. },
        "`x`",
        "index.json"
    );
}

/// Wrong paths are the commonest error of all and deserve their own words.
#[test]
fn folders_that_are_no_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    refused!(
        Checkpoint::open(dir.path().join("none")),
        WeightsError::Io { .. },
        "none"
    );
    std::fs::write(dir.path().join("file"), "x").unwrap();
    refused!(
        Checkpoint::open(dir.path().join("file")),
        WeightsError::NotADirectory { .. },
        "folder"
    );
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::Io { .. },
        "config.json"
    );
    std::fs::copy(
        golden_dir("base").join("config.json"),
        dir.path().join("config.json"),
    )
    .unwrap();
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::NoWeights { .. },
        "neither"
    );
    std::fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::NotAFile { .. },
        "ordinary file"
    );
    std::fs::remove_dir(dir.path().join("model.safetensors")).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), "").unwrap();
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::Header(HeaderError::Truncated { .. }),
        "0 bytes"
    );
}

/// Opening a pipe waits for a writer that never comes.
#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        let status = std::process::Command::new("mkfifo").arg(&path).status();
        status.is_ok_and(|s| s.success()).then_some(path)
    };
    let Some(path) = make("pipe.safetensors") else {
        return;
    }; // no such command here
    refused!(
        TensorFile::open(&path),
        WeightsError::NotAFile { .. },
        "pipe.safetensors"
    );
    make("config.json").unwrap();
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::NotAFile { .. },
        "config.json"
    );
}

/// Download caches hold links to files elsewhere; refusing them would refuse every download.
#[cfg(unix)]
#[test]
fn links_to_files_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::os::unix::fs::symlink(golden_dir("base").join(name), dir.path().join(name)).unwrap();
    }
    assert_eq!(Checkpoint::open(dir.path()).unwrap().num_tensors(), 139);
}
