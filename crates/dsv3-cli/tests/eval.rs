//! `dsv3 eval` over a checkpoint of random weights with a small vocabulary of its own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{dsv3, failure, json, model, text};
use dsv3_tasks::{Kind, held_out, modes, train_tokenizer};
use dsv3_tokenizer::Segment;
use serde_json::Value;

/// The golden checkpoint with an MTP module, and a tokenizer that fits it.
fn checkpoint() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(
            Path::new(&model("mtp")).join(file),
            folder.path().join(file),
        )
        .unwrap();
    }
    let mut texts = Vec::new();
    for kind in [Kind::Arithmetic, Kind::Facts, Kind::Tools, Kind::Buried] {
        for example in held_out(kind, modes(kind)[0], 20, 1).unwrap() {
            let turns = example.turns.iter();
            texts.extend(turns.flat_map(|turn| turn.given.iter()).filter_map(
                |segment| match segment {
                    Segment::Text(text) => Some(text.clone()),
                    Segment::Special(_) => None,
                },
            ));
        }
    }
    let tokenizer = train_tokenizer(texts.into_iter(), 512).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
    folder
}

/// Breaks with: a flag that does not reach the evaluation, a field that is missing, a length that
/// is scored although the model has no room for it.
#[test]
fn a_random_model_is_scored() {
    let folder = checkpoint();
    let dir = folder.path().display().to_string();
    let run = |flags: &[&str]| {
        let always = ["eval", "fixture", "--model", &dir, "--max-new-tokens", "8"];
        dsv3(&[&always, flags].concat())
    };
    let report = json(run(&[
        "--count",
        "2",
        "--seed",
        "3",
        "--show-failures",
        "1",
        "--json",
    ]));
    assert_eq!(report["model"], dir.as_str());
    assert_eq!((&report["count"], &report["seed"]), (&2.into(), &3.into()));
    let scores = report["scores"].as_array().unwrap();
    let groups: usize = Kind::ALL.iter().map(|kind| modes(*kind).len()).sum();
    assert_eq!(scores.len(), groups);
    for score in scores {
        assert_eq!(
            (&score["right"], &score["count"]),
            (&0.into(), &2.into()),
            "{score}"
        );
        assert!(score["high"].as_f64().unwrap() < 0.7, "{score}");
    }
    assert_eq!(report["failures"].as_array().unwrap().len(), groups);
    assert!(
        report["skipped_lengths"]
            .as_array()
            .unwrap()
            .contains(&2048.into())
    );
    assert!(report["mtp_acceptance"]["count"].as_u64().unwrap() > 50);
    assert!(report["tokens"].as_u64().unwrap() > 100);

    let chosen = [
        "--count",
        "3",
        "--kinds",
        "facts,buried",
        "--modes",
        "think",
    ];
    let again = json(run(&[&chosen[..], &["--json"]].concat()));
    let kinds: Vec<&Value> = again["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["kind"])
        .collect();
    assert_eq!(kinds, ["facts", "buried"]);
    let few = json(run(&[&chosen[..], &["--json", "--in-flight", "1"]].concat()));
    assert_eq!(
        (&again["set"], &again["scores"]),
        (&few["set"], &few["scores"])
    );
    assert_eq!(again["tokens"], few["tokens"]);

    let shown = text(run(&[&chosen[..], &["--show-failures", "1"]].concat()));
    for part in [
        "95% interval",
        "all     think      0   6",
        "MTP: second token",
        "left out",
        "got ",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

/// Breaks with: an evaluation that begins although it can't be done, or a mistake that is not
/// named.
#[test]
fn what_can_not_be_evaluated_is_refused() {
    let base = model("base");
    let message = failure(dsv3(&["eval", "fixture", "--model", &base]), 1);
    assert!(
        message.contains("tokenizer.json") && message.contains(&base),
        "{message}"
    );
    for (flags, part) in [
        (&["--kinds", "poetry"][..], "arithmetic"),
        (&["--modes", "loud"], "nothink"),
        (&["--count", "0"], "--count"),
    ] {
        let message = failure(
            dsv3(&[&["eval", "fixture", "--model", &base], flags].concat()),
            2,
        );
        assert!(message.contains(part), "{message}");
    }
    let folder = checkpoint();
    let dir = folder.path().display().to_string();
    let short = ["eval", "fixture", "--model", &dir, "--context", "50"];
    let message = failure(dsv3(&short), 1);
    assert!(
        message.contains("room for 50") && message.contains("--context"),
        "{message}"
    );
}
