//! Files that lie. Each attack has its own error, which names what is wrong and where; none may
//! panic. See `fixtures/hostile/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::path::Path;

use common::{
    Raw, file_bytes, golden, golden_dir, safetensors_bytes, tensors_of, write_checkpoint,
};
use dsv3_weights::header::MAX_HEADER_BYTES;
use dsv3_weights::{Checkpoint, Dtype, Header, TensorFile, WeightsError};
use proptest::prelude::*;
use tempfile::TempDir;

/// Parses a header text in front of so many zero bytes of data.
fn parse(header: &str, data: usize) -> Result<Header, WeightsError> {
    let bytes = file_bytes(header, &vec![0; data]);
    let header = Header::parse(&bytes, bytes.len() as u64);
    if let Err(e) = &header {
        let message = e.to_string();
        assert!(message.len() < 1000, "a message of {} bytes", message.len());
        assert!(
            !message.contains('\u{1b}'),
            "control characters pass through"
        );
    }
    header
}

/// Asserts the variant and that the message contains every one of these words.
macro_rules! refused {
    ($result:expr, $variant:pat $(if $guard:expr)?, $($word:expr),*) => {
        match $result {
            Err(e) => {
                let message = e.to_string();
                assert!(matches!(&e, $variant $(if $guard)?), "{e:?}");
                $(assert!(message.contains($word), "`{}` is not in: {message}", $word);)*
            }
            Ok(_) => panic!("accepted"),
        }
    };
}

/// The counterpart: checks so strict that nothing passed would refuse every attack too.
#[test]
fn an_honest_header_reads() {
    let h = parse(
        r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[0,9],"data_offsets":[16,16]}}"#,
        16,
    )
    .unwrap();
    let names: Vec<&str> = h.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "z"]);
    assert_eq!(
        (h.tensors[1].dtype, h.tensors[1].shape.as_slice()),
        (Dtype::BF16, &[2, 3][..])
    );
    assert_eq!(h.metadata["format"], "pt");
    assert!(parse("{}", 0).unwrap().tensors.is_empty());
}

/// A slice past the end of an eight-byte prefix that is not there.
#[test]
fn truncated_before_the_header_length() {
    for len in 0..8 {
        refused!(
            Header::parse(&vec![1; len], len as u64),
            WeightsError::HeaderTruncated { .. },
            "too short",
            "fetch it again"
        );
    }
}

/// A download that was cut off anywhere in the header.
#[test]
fn truncated_inside_the_header() {
    let whole = file_bytes(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        &[0],
    );
    for len in 8..whole.len() - 1 {
        refused!(
            Header::parse(&whole[..len], len as u64),
            WeightsError::HeaderOutOfFile { .. },
            "cut off"
        );
    }
}

/// Adding 8 to such a length wraps; allocating it ends the process.
#[test]
fn header_length_of_exabytes() {
    for claimed in [
        MAX_HEADER_BYTES + 1,
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ] {
        let mut bytes = claimed.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        refused!(
            Header::parse(&bytes, bytes.len() as u64),
            WeightsError::HeaderTooLarge { claimed: c, .. } if *c == claimed,
            &claimed.to_string()
        );
    }
}

/// A length inside the format's bound and behind the file's end.
#[test]
fn header_within_the_bound_but_not_in_the_file() {
    let mut bytes = (MAX_HEADER_BYTES - 1).to_le_bytes().to_vec();
    bytes.extend(b"{}");
    refused!(
        Header::parse(&bytes, bytes.len() as u64),
        WeightsError::HeaderOutOfFile { available: 2, .. },
        "99999999"
    );
}

/// Offsets must not be believed up to a length when the header itself is not there.
#[test]
fn a_file_length_that_the_bytes_do_not_have() {
    let bytes = 100u64.to_le_bytes();
    refused!(
        Header::parse(&bytes, 1 << 40),
        WeightsError::HeaderOutOfFile { .. },
        "100"
    );
    refused!(
        Header::parse(&[0; 64], 3),
        WeightsError::HeaderTruncated { .. },
        "3 bytes"
    );
}

/// Text that a lenient reader would half accept.
#[test]
fn header_that_is_not_json() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{}{}",
        "{]",
        "{\"a\"}",
        "\u{0}",
        "{\"a\":1,}",
    ] {
        refused!(
            parse(text, 0),
            WeightsError::HeaderJson { .. },
            "header is not valid"
        );
    }
    let mut bytes = file_bytes("{\"xx\":1}", &[]);
    bytes[10] = 0xff; // not UTF-8
    refused!(
        Header::parse(&bytes, 16),
        WeightsError::HeaderJson { .. },
        "header"
    );
}

/// A recursive reader would overflow its stack, which no error handling catches.
#[test]
fn header_of_nested_json() {
    for text in [
        "[".repeat(1 << 20),
        format!("{{\"a\":{}", "{\"a\":".repeat(1 << 20)),
        format!(
            r#"{{"a":{{"x":{}{}}}}}"#,
            "[".repeat(1 << 20),
            "]".repeat(1 << 20)
        ),
        format!(
            r#"{{"a":{{"shape":{}{}}}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        ),
    ] {
        refused!(
            parse(&text, 0),
            WeightsError::HeaderJson { .. },
            "nests deeper"
        );
    }
}

/// Missing, doubled, negative, fractional and over-long fields, refused with the tensor's name.
#[test]
fn tensor_entries_of_the_wrong_form() {
    for (entry, word) in [
        (r#"7"#, "evil"),
        (r#"{}"#, "missing field"),
        (r#"{"dtype":"U8","shape":[1]}"#, "data_offsets"),
        (r#"{"dtype":"U8","data_offsets":[0,1]}"#, "shape"),
        (r#"{"shape":[1],"data_offsets":[0,1]}"#, "dtype"),
        (r#"{"dtype":8,"shape":[1],"data_offsets":[0,1]}"#, "evil"),
        (
            r#"{"dtype":"U8","shape":1,"data_offsets":[0,1]}"#,
            "dimensions",
        ),
        (r#"{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#, "-1"),
        (
            r#"{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}"#,
            "1.5",
        ),
        (
            r#"{"dtype":"U8","shape":[1e30],"data_offsets":[0,1]}"#,
            "evil",
        ),
        (
            r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}"#,
            "evil",
        ),
        (
            r#"{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}"#,
            "8 dimensions",
        ),
        (r#"{"dtype":"U8","shape":[1],"data_offsets":[0]}"#, "evil"),
        (
            r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}"#,
            "evil",
        ),
        (r#"{"dtype":"U8","shape":[1],"data_offsets":[-1,1]}"#, "-1"),
        (
            r#"{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,1]}"#,
            "duplicate field",
        ),
    ] {
        let text = format!(r#"{{"evil":{entry}}}"#);
        refused!(
            parse(&text, 1),
            WeightsError::HeaderJson { .. },
            word,
            "tensor `evil`"
        );
    }
    for metadata in [
        r#"{"__metadata__":7}"#,
        r#"{"__metadata__":{"a":7}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        refused!(
            parse(metadata, 0),
            WeightsError::HeaderJson { .. },
            "header is not valid"
        );
    }
}

/// Which of the two a reader takes decides what the model computes.
#[test]
fn duplicate_names_in_one_header() {
    let entry = |at: u32| {
        format!(
            r#"{{"dtype":"U8","shape":[1],"data_offsets":[{at},{}]}}"#,
            at + 1
        )
    };
    // The second spelling is the same name by an escape.
    for second in ["weight", r"wei\u0067ht"] {
        let text = format!(r#"{{"weight":{},"{second}":{}}}"#, entry(0), entry(1));
        refused!(
            parse(&text, 2),
            WeightsError::DuplicateTensor { tensor, .. } if tensor == "weight",
            "`weight`", "twice"
        );
    }
}

/// A guessed element size would misread every tensor behind.
#[test]
fn unknown_dtypes() {
    for dtype in ["", "bf16", "F4", "Q4_K", "F8_E4M3 "] {
        let text = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,1]}}}}"#);
        refused!(
            parse(&text, 1),
            WeightsError::UnknownDtype { .. },
            "`w`",
            dtype
        );
    }
}

/// A product that wraps to a small number passes the comparison with the bytes.
#[test]
fn shapes_that_overflow() {
    for shape in [
        "[18446744073709551615,2]",
        "[4294967296,4294967296]",
        "[9223372036854775808]", // overflows by the element size
        "[65536,65536,65536,65536]",
        "[2,9223372036854775808,0]", // the zero comes too late to hide it
    ] {
        let text = format!(r#"{{"w":{{"dtype":"BF16","shape":{shape},"data_offsets":[0,0]}}}}"#);
        refused!(
            parse(&text, 0),
            WeightsError::ShapeOverflow { .. },
            "`w`",
            "64 bits"
        );
    }
}

/// Reading by shape would run past the tensor.
#[test]
fn shapes_that_do_not_fit_their_bytes() {
    for (dtype, shape, bytes) in [
        ("F32", "[2]", 4),
        ("F8_E4M3", "[128,128]", 8),
        ("BF16", "[0]", 2),
        ("U8", "[]", 2),
        ("F64", "[1]", 0),
    ] {
        let text =
            format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#);
        refused!(
            parse(&text, bytes),
            WeightsError::ShapeBytesMismatch { .. },
            "`w`",
            dtype
        );
    }
}

/// Shape, dtype and offsets agree with each other; only the file disagrees.
#[test]
fn a_logical_tensor_of_an_exabyte() {
    let n = 1u64 << 60;
    let text = format!(r#"{{"w":{{"dtype":"U8","shape":[{n}],"data_offsets":[0,{n}]}}}}"#);
    refused!(
        parse(&text, 4),
        WeightsError::OffsetsOutOfFile { available: 4, .. },
        "`w`"
    );
}

/// A slice out of the map, or one of negative length.
#[test]
fn offsets_out_of_the_file_and_backwards() {
    for (begin, end) in [(1, 5), (4, 8), (u64::MAX - 4, u64::MAX)] {
        let text =
            format!(r#"{{"w":{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{end}]}}}}"#);
        refused!(
            parse(&text, 4),
            WeightsError::OffsetsOutOfFile { .. },
            "`w`",
            "4 bytes of data"
        );
    }
    for (begin, end) in [(4u64, 0u64), (u64::MAX, 0), (1, 0)] {
        let text =
            format!(r#"{{"w":{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{end}]}}}}"#);
        refused!(
            parse(&text, 4),
            WeightsError::OffsetsReversed { .. },
            "`w`",
            "backwards"
        );
    }
    // A tensor without bytes must not point out of the file either.
    let text = r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}}"#;
    refused!(parse(text, 0), WeightsError::OffsetsOutOfFile { .. }, "`w`");
}

/// Thousands of tensors on one megabyte: a small file that loads as a huge model.
#[test]
fn overlapping_tensors() {
    let pair = |a: (u32, u32), b: (u32, u32)| {
        let entry = |(x, y): (u32, u32)| {
            format!(
                r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{x},{y}]}}"#,
                y - x
            )
        };
        format!(r#"{{"first":{},"second":{}}}"#, entry(a), entry(b))
    };
    for (a, b) in [
        ((0, 6), (4, 8)),
        ((0, 8), (0, 8)),
        ((0, 8), (2, 4)),
        ((0, 8), (7, 8)),
    ] {
        refused!(
            parse(&pair(a, b), 8),
            WeightsError::Overlap { .. },
            "`first`",
            "`second`",
            "overlap"
        );
    }
    assert!(parse(&pair((0, 4), (4, 8)), 8).is_ok());
}

/// Room to hide something, or the sign of a header from another file.
#[test]
fn bytes_that_belong_to_no_tensor() {
    let text = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#;
    refused!(
        parse(text, 4),
        WeightsError::Hole {
            begin: 0,
            end: 2,
            ..
        },
        "belong to no tensor"
    );
    let text = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    refused!(
        parse(text, 3),
        WeightsError::Hole {
            begin: 2,
            end: 3,
            ..
        },
        "belong to no tensor"
    );
    refused!(
        parse("{}", 1),
        WeightsError::Hole {
            begin: 0,
            end: 1,
            ..
        },
        "belong to no tensor"
    );
}

/// An error message that carries a megabyte, or moves the cursor.
#[test]
fn names_that_would_flood_or_fool_a_terminal() {
    let name = format!("\\u001b[2J{}", "n".repeat(1 << 20));
    let text = format!(r#"{{"{name}":{{"dtype":"X","shape":[],"data_offsets":[0,0]}}}}"#);
    refused!(parse(&text, 0), WeightsError::UnknownDtype { .. }, "…");
    let text = format!(r#"{{"a":{{"dtype":"{name}","shape":[],"data_offsets":[0,0]}}}}"#);
    refused!(parse(&text, 0), WeightsError::UnknownDtype { .. }, "…");
    let text = format!(r#"{{"a":{{"{name}":1,"dtype":"{name}"}}}}"#);
    refused!(
        parse(&text, 0),
        WeightsError::HeaderJson { .. },
        "missing field"
    );
}

// ---- folders, shards, indexes ----

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
            WeightsError::IndexPathEscape { .. },
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
        WeightsError::MissingShard { tensors: 2, .. },
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
            refused!(opened, WeightsError::IndexMismatch { .. }, "index");
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
        WeightsError::IndexUnlisted { tensor, .. } if tensor == "smuggled",
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
            WeightsError::IndexJson { .. },
            "index.json"
        );
    }
    let dir = sharded(&[], &"[".repeat(10 << 20));
    refused!(
        Checkpoint::open(dir.path()),
        WeightsError::IndexJson { .. },
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
        WeightsError::HeaderTruncated { .. },
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

// ---- scales ----

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

// ---- anything at all ----

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
