//! Wrong input of each kind: an exit code, and one paragraph that says what, where and how to mend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{dsv3, dsv3_with, failure, model, tokenizer};

/// Breaks with: wrong use that is not called so (exit code 2).
#[test]
fn wrong_use_exits_with_two() {
    let base = model("base");
    let cases: &[(&[&str], &str)] = &[
        (
            &[
                "generate",
                "--model",
                &base,
                "--input-ids",
                "1",
                "--temperature",
                "5",
            ],
            "temperature",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--input-ids",
                "1",
                "--temperature",
                "NaN",
            ],
            "temperature",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--input-ids",
                "1",
                "--top-p",
                "0",
            ],
            "top_p",
        ),
        (
            &["generate", "--model", &base, "--input-ids", "x"],
            "--input-ids",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--input-ids",
                "1",
                "--prompt",
                "a",
            ],
            "cannot be used with",
        ),
        (
            &[
                "generate", "--model", &base, "--raw", "--think", "--prompt", "a",
            ],
            "cannot be used with",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--max-new-tokens",
                "0",
                "--input-ids",
                "1",
            ],
            "max-new-tokens",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--preset",
                "poetry",
                "--input-ids",
                "1",
            ],
            "preset",
        ),
        (
            &["score", "--model", &base, "--input-ids", "1", "--top", "99"],
            "--top",
        ),
        (&["--device", "tpu", "doctor"], "cpu, wgpu"),
        (
            &["plan", "--config", "c.json", "--devices", "80 apples"],
            "80 apples",
        ),
        (&["tokenize", "hi"], "--tokenizer FILE"),
        (&["detokenize", "--tokenizer", &tokenizer(), "nine"], "nine"),
        (&["frobnicate"], "frobnicate"),
    ];
    for (args, part) in cases {
        let message = failure(dsv3(args), 2);
        assert!(message.contains(part), "{args:?}: {message}");
    }
}

/// Breaks with: a failure without what, where and how to mend, or with another exit code than 1.
#[test]
fn failures_exit_with_one_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for file in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(Path::new(&model("base")).join(file)).unwrap();
        let keep = if file == "config.json" {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        std::fs::write(path(file), &bytes[..keep]).unwrap();
    }
    std::fs::write(path("broken.json"), "[{\"role\": \"user\"").unwrap();
    std::fs::write(
        path("role.json"),
        "[{\"role\": \"wizard\", \"content\": \"x\"}]",
    )
    .unwrap();
    std::fs::write(path("latin1.txt"), b"caf\xe9").unwrap();
    let (base, truncated) = (model("base"), folder.path().display().to_string());
    let (broken, role, latin1) = (path("broken.json"), path("role.json"), path("latin1.txt"));
    let cases: &[(&[&str], &str)] = &[
        (
            &["generate", "--model", "no/such/folder", "--input-ids", "1"],
            "no/such/folder",
        ),
        (
            &["generate", "--model", &truncated, "--input-ids", "1"],
            "model.safetensors",
        ),
        (&["inspect", &truncated], "model.safetensors"),
        (
            &["generate", "--model", &base, "--input-ids", "1,512"],
            "512",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--input-ids",
                "1",
                "--device",
                "cuda:0",
                "--dtype",
                "f32",
            ],
            "cuda",
        ),
        (
            &[
                "generate",
                "--model",
                &base,
                "--prompt-file",
                &latin1,
                "--raw",
            ],
            "UTF-8",
        ),
        (
            &["generate", "--model", &base, "--prompt-file", "nowhere.txt"],
            "nowhere.txt",
        ),
        (&["render", "--messages", &broken], "broken.json"),
        (&["render", "--messages", &role], "wizard"),
        (
            &[
                "score",
                "--model",
                &base,
                "--input-ids",
                "1,2",
                "--logits-out",
                "/no/such/dir/x.safetensors",
            ],
            "/no/such/dir",
        ),
        (
            &["detokenize", "--tokenizer", &tokenizer(), "999999"],
            "999999",
        ),
        (&["plan", "--config", &broken], "broken.json"),
        (
            &[
                "generate",
                "--model",
                &base,
                "--input-ids",
                "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
                "--context",
                "2",
            ],
            "cache",
        ),
    ];
    for (args, part) in cases {
        let message = failure(dsv3(args), 1);
        assert!(message.contains(part), "{args:?}: {message}");
    }
    let message = failure(
        dsv3_with(b"\xff\xfe", &["tokenize", "--tokenizer", &tokenizer()]),
        1,
    );
    assert!(message.contains("UTF-8"), "{message}");
}
