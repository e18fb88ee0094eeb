//! Text in and text out: a golden checkpoint with a tokenizer of single bytes beside it, so that
//! prompts, chats, stop strings, pipes and Ctrl-C go the whole way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// V3.1's control tokens that a chat with tools and search needs.
const CONTROL: [&str; 15] = [
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
    "<｜search▁begin｜>",
    "<｜search▁end｜>",
];

/// A byte as byte-level BPE spells it: printable Latin-1 as itself, the rest from U+0100 on.
fn spelled(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match printable(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|b| !printable(*b)).count();
            char::from_u32(0x100 + before as u32).unwrap()
        }
    }
}

/// A tokenizer whose ids 0 to 255 are the bytes, and 256 on the control tokens.
fn byte_tokenizer() -> Value {
    let vocab: serde_json::Map<String, Value> = (0..=255u8)
        .map(|byte| (spelled(byte).to_string(), json!(byte)))
        .collect();
    let added: Vec<Value> = CONTROL
        .iter()
        .enumerate()
        .map(|(at, name)| {
            json!({ "id": 256 + at, "content": name, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": at < 2 })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "vocab": vocab, "merges": [] },
    })
}

/// The golden set `base` with that tokenizer.
fn checkpoint() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/base/model");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(base.join(file), folder.path().join(file)).unwrap();
    }
    let tokenizer = byte_tokenizer().to_string();
    fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    folder
}

fn start(folder: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_dsv3"))
        .arg("--model")
        .arg(folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(folder: &Path, args: &[&str], stdin: &[u8]) -> Output {
    let mut child = start(folder, args);
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn stdout(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn object(output: Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Breaks with: a prompt that is not the one that `render` and `tokenize` show, a BOS too many, a
/// final newline of `echo` taken for part of the prompt, or text that is not that of the ids.
#[test]
fn prompts_are_what_render_and_tokenize_say() {
    let folder = checkpoint();
    let dir = folder.path();
    let greedy = ["--temperature", "0", "--max-new-tokens", "12", "--json"];
    let generate = |flags: &[&str], stdin: &[u8]| {
        object(run(dir, &[&["generate"], flags, &greedy].concat(), stdin))
    };

    let messages = dir.join("messages.json");
    fs::write(&messages, r#"[{"role": "user", "content": "hi"}]"#).unwrap();
    let rendered = object(run(
        dir,
        &[
            "render",
            "--messages",
            messages.to_str().unwrap(),
            "--ids",
            "--json",
        ],
        b"",
    ));
    let ids = rendered["ids"].as_array().unwrap();
    let list: Vec<String> = ids.iter().map(Value::to_string).collect();
    let chat = generate(&["--prompt", "hi"], b"");
    assert_eq!(chat["prompt_tokens"], ids.len());
    let by_ids = generate(&["--input-ids", &list.join(",")], b"");
    assert_eq!(chat["tokens"], by_ids["tokens"]);
    assert_eq!(generate(&[], b"hi\n")["tokens"], chat["tokens"]);
    assert_eq!(
        object(run(
            dir,
            &[&["chat", "--prompt", "hi"][..], &greedy].concat(),
            b""
        ))["tokens"],
        chat["tokens"]
    );

    // Raw text: one BOS and the bytes; control tokens only where they are asked for.
    let raw = generate(&["--raw", "--prompt", "hi"], b"");
    let bos_hi = generate(&["--input-ids", "256,104,105"], b"");
    assert_eq!(
        (&raw["prompt_tokens"], &raw["tokens"]),
        (&json!(3), &bos_hi["tokens"])
    );
    let typed = generate(&["--raw", "--prompt", "<think>"], b"");
    assert_eq!(typed["prompt_tokens"], 1 + "<think>".len());
    let special = generate(&["--raw", "--special", "--prompt", "<think>"], b"");
    assert_eq!(special["prompt_tokens"], 2);

    // The text is that of the ids.
    let tokens = raw["tokens"].to_string();
    let text = stdout(run(dir, &["detokenize", &tokens], b""));
    assert_eq!(format!("{}\n", raw["text"].as_str().unwrap()), text);
}

/// Breaks with: reasoning among the answer, or missing from the object; keys that nobody asked for.
#[test]
fn reasoning_is_kept_apart() {
    let folder = checkpoint();
    let args = [
        "generate",
        "--think",
        "--prompt",
        "hi",
        "--temperature",
        "0",
    ];
    let args = [&args[..], &["--max-new-tokens", "6"]].concat();
    let answer = object(run(folder.path(), &[&args[..], &["--json"]].concat(), b""));
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    // Six tokens of an untrained model hold no </think>, so all of it is reasoning.
    assert_eq!(
        keys,
        [
            "prompt_tokens",
            "tokens",
            "text",
            "finish_reason",
            "reasoning",
            "timings"
        ]
    );
    assert_eq!(answer["text"], "");
    let output = run(folder.path(), &args, b"");
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stderr.contains(answer["reasoning"].as_str().unwrap()));
    assert!(
        !stderr.contains('\x1b'),
        "colour where there is no terminal"
    );
    assert_eq!(stdout(output), "\n");
}

/// Breaks with: a stop string that is shown, or doesn't stop.
#[test]
fn stop_strings_end_the_text_in_front_of_them() {
    let folder = checkpoint();
    let args = ["generate", "--raw", "--prompt", "hi", "--temperature", "0"];
    let args = [&args[..], &["--max-new-tokens", "24", "--json"]].concat();
    let whole = object(run(folder.path(), &args, b""));
    let whole = whole["text"].as_str().unwrap();
    let stop: String = whole.chars().skip(3).take(2).collect();
    let cut = object(run(
        folder.path(),
        &[&args[..], &["--stop", &stop]].concat(),
        b"",
    ));
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"], whole.split(&stop).next().unwrap());
}

/// Breaks with: settings of the checkpoint that are not used, or an impossible one that is.
#[test]
fn generation_config_is_read_and_checked() {
    let folder = checkpoint();
    let file = folder.path().join("generation_config.json");
    let args = [
        "generate",
        "--raw",
        "--prompt",
        "hi",
        "--max-new-tokens",
        "8",
        "--json",
    ];
    let tokens = |flags: &[&str]| {
        let output = run(folder.path(), &[&args[..], flags].concat(), b"");
        object(output)["tokens"].clone()
    };
    fs::write(&file, r#"{"do_sample": false, "temperature": 0.6}"#).unwrap();
    assert_eq!(tokens(&[]), tokens(&["--temperature", "0"]));
    fs::write(
        &file,
        r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.95}"#,
    )
    .unwrap();
    assert_eq!(
        tokens(&["--seed", "1"]),
        tokens(&["--seed", "1", "--preset", "chat"])
    );
    fs::write(&file, r#"{"do_sample": true, "temperature": 60}"#).unwrap();
    let output = run(folder.path(), &args, b"");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("generation_config.json") && stderr.contains("temperature is 60"));
}

/// Breaks with: a complaint, or a panic, when whoever reads has read enough.
#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = checkpoint();
    let args = [
        "generate",
        "--raw",
        "--prompt",
        "hi",
        "--ignore-eos",
        "--temperature",
        "0",
    ];
    let mut child = start(
        folder.path(),
        &[&args[..], &["--max-new-tokens", "500"]].concat(),
    );
    let mut first = [0; 1];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

/// Breaks with: Ctrl-C that loses the text so far, leaves a traceback, or is not told by 130.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_the_text_so_far() {
    let folder = checkpoint();
    let args = [
        "generate",
        "--input-ids",
        "256",
        "--ignore-eos",
        "--max-new-tokens",
        "500",
    ];
    let mut child = start(folder.path(), &args);
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(rest.last(), Some(&b'\n'), "the last line is not ended");
}

/// Breaks with: a file under the final name, or any other, after a score that failed.
#[test]
fn a_failed_score_leaves_no_file() {
    let folder = checkpoint();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("logits.safetensors");
    let args = [
        "score",
        "--text",
        "longer than one block of sixteen tokens",
        "--context",
        "1",
        "--logits-out",
    ];
    let output = run(
        folder.path(),
        &[&args[..], &[file.to_str().unwrap()]].concat(),
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}
