//! Running the built binary.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)] // each test binary uses its part

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

pub fn model(set: &str) -> String {
    fixture(&format!("golden/{set}/model"))
        .display()
        .to_string()
}

pub fn tokenizer() -> String {
    fixture("tokenizer/tokenizer.json").display().to_string()
}

pub fn dsv3_with(stdin: &[u8], args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dsv3"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its flags never reads: a broken pipe is its right.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

pub fn dsv3(args: &[&str]) -> Output {
    dsv3_with(b"", args)
}

#[track_caller]
pub fn text(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn json(output: Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

/// The exit code and the message of a command that must fail, as one paragraph.
#[track_caller]
pub fn failure(output: Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(
        !stderr.contains("panicked") && !stderr.contains("backtrace"),
        "{stderr}"
    );
    stderr
}
