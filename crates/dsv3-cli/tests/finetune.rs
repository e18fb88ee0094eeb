//! `dsv3 finetune` and what its adapter is for, over a checkpoint of random weights with a small
//! vocabulary of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{dsv3, failure, json, model, text};
use dsv3_tasks::train_tokenizer;
use serde_json::Value;

/// A golden checkpoint with fp8 weights, a tokenizer that fits it, and conversations to learn.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.0.path().join("model")).unwrap();
        for file in ["config.json", "model.safetensors"] {
            let from = Path::new(&model("fp8_ue8m0")).join(file);
            std::fs::copy(from, folder.0.path().join("model").join(file)).unwrap();
        }
        let texts = (0..200).map(|i| format!("colour number {i} is blue, {} is red", i * 7));
        let tokenizer = train_tokenizer(texts, 290).unwrap();
        folder.write("model/tokenizer.json", &tokenizer);
        let lines: String = (0..30)
            .map(|i| {
                let answer = ["blue", "red"][i % 2];
                format!(
                    "{{\"messages\": [{{\"role\": \"user\", \"content\": \"colour {}?\"}}, \
                     {{\"role\": \"assistant\", \"content\": \"{answer}\"}}]}}\n",
                    i % 8
                )
            })
            .collect();
        folder.write("train.jsonl", &lines);
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    /// `dsv3 finetune` into `out`, with these flags in place of the usual ones.
    fn finetune(&self, out: &str, flags: &[&str]) -> Vec<String> {
        let usual = [
            ("--model", self.path("model")),
            ("--data", self.path("train.jsonl")),
            ("--out", self.path(out)),
            ("--rank", "4".to_owned()),
            ("--lr", "1e-2".to_owned()),
            ("--batch-tokens", "96".to_owned()),
            ("--eval-fraction", "0.3".to_owned()),
        ];
        let mut words = vec!["finetune".to_owned()];
        for (flag, value) in usual {
            if !flags.contains(&flag) {
                words.extend([flag.to_owned(), value]);
            }
        }
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        words
    }

    fn run(&self, out: &str, flags: &[&str]) -> std::process::Output {
        let words = self.finetune(out, flags);
        dsv3(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn logprobs(output: std::process::Output) -> Vec<f64> {
    let lines = text(output);
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["logprob"].as_f64();
    lines.lines().filter_map(line).collect()
}

/// Breaks with: an adapter that a command does not apply, a merge that computes something else, a
/// report that is not what was done.
#[test]
fn trained_applied_and_merged() {
    let folder = Folder::new();
    let output = folder.run("adapter", &["--steps", "10", "--experts", "--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let reports: Vec<Value> = text(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let steps: Vec<u64> = reports
        .iter()
        .map(|r| r["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (0..=10).collect::<Vec<u64>>());
    let eval = |report: &Value| report["eval_loss"].as_f64().unwrap();
    assert!(eval(&reports[10]) < 0.7 * eval(&reports[0]), "{reports:?}");
    assert!(reports[0]["loss"].is_null());
    for part in ["held out", "parameters", "before", "dsv3 chat", "--adapter"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }

    let (model, adapter) = (folder.path("model"), folder.path("adapter"));
    let score = [
        "score",
        "--text",
        "colour 3? red colour 5? blue",
        "--json",
        "--model",
    ];
    let base = logprobs(dsv3(&[&score[..], &[&model]].concat()));
    let applied = logprobs(dsv3(
        &[&score[..], &[&model, "--adapter", &adapter]].concat(),
    ));
    let merged = folder.path("merged");
    let convert = [
        "convert", "--model", &model, "--out", &merged, "--merge", &adapter, "--format", "f32",
    ];
    let said = text(dsv3(&convert));
    assert!(said.contains("merged into 38 weights"), "{said}");
    let merged = logprobs(dsv3(&[&score[..], &[&merged]].concat()));
    let apart = |a: &[f64], b: &[f64]| {
        let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        distances.fold(0.0, f64::max)
    };
    assert!(applied.len() > 8);
    assert!(apart(&applied, &base) > 0.1, "{applied:?} {base:?}");
    assert!(apart(&applied, &merged) < 1e-5, "{applied:?} {merged:?}");

    // The other commands take it as well.
    let answer = |command: &str, flags: &[&str]| {
        let words = [
            command,
            "--model",
            &model,
            "--prompt",
            "colour 3?",
            "--json",
        ];
        let greedy = ["--temperature", "0", "--max-new-tokens", "3"];
        json(dsv3(&[&words[..], &greedy, flags].concat()))["tokens"].clone()
    };
    for command in ["generate", "chat"] {
        let with = answer(command, &["--adapter", &adapter]);
        assert_ne!(with, answer(command, &[]), "{command}");
    }
    let eval = [
        "eval", "fixture", "--model", &model, "--count", "1", "--json",
    ];
    let only = [
        "--kinds",
        "facts",
        "--max-new-tokens",
        "4",
        "--adapter",
        &adapter,
    ];
    let report = json(dsv3(&[&eval[..], &only].concat()));
    assert!(
        report["model"].as_str().unwrap().ends_with(&adapter),
        "{report}"
    );
}

/// Breaks with: work that is lost to Ctrl-C, or an end that does not say how to go on.
#[test]
fn interrupted_it_saves_and_goes_on() {
    let folder = Folder::new();
    let words = folder.finetune("adapter", &["--steps", "1000000"]);
    let child = Command::new(env!("CARGO_BIN_EXE_dsv3"))
        .args(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = folder.path("adapter/log.jsonl");
    let began = Instant::now();
    let steps = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    while steps() < 3 {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "it does not begin"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("the same command goes on"), "{stderr}");
    let done = steps() - 1;

    // What is there can be ended as it stands.
    let output = folder.run("adapter", &["--steps", &done.to_string()]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    text(output);
    assert!(
        stderr.contains(&format!("going on after step {done}")),
        "{stderr}"
    );
    assert!(!Path::new(&folder.path("adapter/.run")).exists());
    let again = folder.run("adapter", &["--steps", "1"]);
    let message = failure(again, 1);
    assert!(message.contains("finished adapter"), "{message}");
}

/// Breaks with: a mistake that shows only after the weights are loaded, or is not named.
#[test]
fn what_can_not_be_done_is_refused() {
    let folder = Folder::new();
    folder.write("bad.jsonl", "{\"messages\": []}\n{\"messages\": 7}\n");
    for (flags, code, part) in [
        (&["--rank", "0"][..], 2, "rank"),
        (&["--alpha", "-1"], 2, "alpha"),
        (&["--lr", "0"], 2, "learning rate"),
        (&["--epochs", "-1"], 2, "epochs"),
        (&["--epochs", "1", "--steps", "1"], 2, "--epochs"),
        (
            &["--batch-tokens", "16", "--context", "32"],
            2,
            "does not fit",
        ),
        (&["--context", "100000"], 2, "max_position_embeddings"),
        (&["--eval-fraction", "2"], 2, "hold out"),
        (&["--on-bad-line", "fix"], 2, "refuse"),
        (&["--data", &folder.path("none.jsonl")], 1, "none.jsonl"),
        (&["--data", &folder.path("bad.jsonl")], 1, "bad.jsonl:1"),
        (&["--out", &folder.path("model")], 1, "something else"),
    ] {
        let message = failure(folder.run("out", flags), code);
        assert!(message.contains(part), "{flags:?}: {message}");
        assert!(!Path::new(&folder.path("out")).exists(), "{flags:?}");
    }
    let base = model("base");
    let no_tokenizer = ["finetune", "--model", &base, "--data", "x", "--out", "y"];
    assert!(failure(dsv3(&no_tokenizer), 1).contains("tokenizer.json"));

    let model = folder.path("model");
    let none = [
        "score",
        "--input-ids",
        "1,2",
        "--model",
        &model,
        "--adapter",
        &model,
    ];
    let message = failure(dsv3(&none), 1);
    assert!(message.contains("adapter_config.json"), "{message}");
    let out = folder.path("merged");
    let merge = [
        "convert", "--model", &model, "--out", &out, "--format", "bf16", "--merge", &model,
    ];
    let message = failure(dsv3(&merge), 1);
    assert!(message.contains("adapter_config.json"), "{message}");
}
