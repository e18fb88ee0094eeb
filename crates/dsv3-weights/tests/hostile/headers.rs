//! Headers of safetensors files.

use dsv3_weights::header::MAX_HEADER_BYTES;
use dsv3_weights::{Dtype, Header, HeaderError, WeightsError};

use crate::common::file_bytes;
use crate::parse;

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
            WeightsError::Header(HeaderError::Truncated { .. }),
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
            WeightsError::Header(HeaderError::OutOfFile { .. }),
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
            WeightsError::Header(HeaderError::TooLarge { claimed: c, .. }) if *c == claimed,
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
        WeightsError::Header(HeaderError::OutOfFile { available: 2, .. }),
        "99999999"
    );
}

/// Offsets must not be believed up to a length when the header itself is not there.
#[test]
fn a_file_length_that_the_bytes_do_not_have() {
    let bytes = 100u64.to_le_bytes();
    refused!(
        Header::parse(&bytes, 1 << 40),
        WeightsError::Header(HeaderError::OutOfFile { .. }),
        "100"
    );
    refused!(
        Header::parse(&[0; 64], 3),
        WeightsError::Header(HeaderError::Truncated { .. }),
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
            WeightsError::Header(HeaderError::Json { .. }),
            "header is not valid"
        );
    }
    let mut bytes = file_bytes("{\"xx\":1}", &[]);
    bytes[10] = 0xff; // not UTF-8
    refused!(
        Header::parse(&bytes, 16),
        WeightsError::Header(HeaderError::Json { .. }),
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
            WeightsError::Header(HeaderError::Json { .. }),
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
            WeightsError::Header(HeaderError::Json { .. }),
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
            WeightsError::Header(HeaderError::Json { .. }),
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
            WeightsError::Header(HeaderError::UnknownDtype { .. }),
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
            WeightsError::Header(HeaderError::ShapeOverflow { .. }),
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
            WeightsError::Header(HeaderError::ShapeBytesMismatch { .. }),
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
        WeightsError::Header(HeaderError::OffsetsOutOfFile { available: 4, .. }),
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
            WeightsError::Header(HeaderError::OffsetsOutOfFile { .. }),
            "`w`",
            "4 bytes of data"
        );
    }
    for (begin, end) in [(4u64, 0u64), (u64::MAX, 0), (1, 0)] {
        let text =
            format!(r#"{{"w":{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{end}]}}}}"#);
        refused!(
            parse(&text, 4),
            WeightsError::Header(HeaderError::OffsetsReversed { .. }),
            "`w`",
            "backwards"
        );
    }
    // A tensor without bytes must not point out of the file either.
    let text = r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}}"#;
    refused!(
        parse(text, 0),
        WeightsError::Header(HeaderError::OffsetsOutOfFile { .. }),
        "`w`"
    );
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
            WeightsError::Header(HeaderError::Overlap { .. }),
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
        WeightsError::Header(HeaderError::Hole {
            begin: 0,
            end: 2,
            ..
        }),
        "belong to no tensor"
    );
    let text = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    refused!(
        parse(text, 3),
        WeightsError::Header(HeaderError::Hole {
            begin: 2,
            end: 3,
            ..
        }),
        "belong to no tensor"
    );
    refused!(
        parse("{}", 1),
        WeightsError::Header(HeaderError::Hole {
            begin: 0,
            end: 1,
            ..
        }),
        "belong to no tensor"
    );
}

/// An error message that carries a megabyte, or moves the cursor.
#[test]
fn names_that_would_flood_or_fool_a_terminal() {
    let name = format!("\\u001b[2J{}", "n".repeat(1 << 20));
    let text = format!(r#"{{"{name}":{{"dtype":"X","shape":[],"data_offsets":[0,0]}}}}"#);
    refused!(
        parse(&text, 0),
        WeightsError::Header(HeaderError::UnknownDtype { .. }),
        "…"
    );
    let text = format!(r#"{{"a":{{"dtype":"{name}","shape":[],"data_offsets":[0,0]}}}}"#);
    refused!(
        parse(&text, 0),
        WeightsError::Header(HeaderError::UnknownDtype { .. }),
        "…"
    );
    let text = format!(r#"{{"a":{{"{name}":1,"dtype":"{name}"}}}}"#);
    refused!(
        parse(&text, 0),
        WeightsError::Header(HeaderError::Json { .. }),
        "missing field"
    );
}
