//! `dsv3 eval report` with the small model as the base.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{dsv3, failure, fixture, json, model, text};
use serde_json::Value;

fn small() -> String {
    fixture("dsv3-tiny").display().to_string()
}

/// A report of `model` on few tasks, with the flags behind.
#[track_caller]
fn report(model: &str, flags: &[&str]) -> Value {
    let base = small();
    let always = [
        "eval",
        "report",
        "--base",
        &base,
        "--model",
        model,
        "--count",
        "1",
        "--max-new-tokens",
        "24",
        "--json",
    ];
    json(dsv3(&[&always[..], flags].concat()))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Breaks with: anything that differs between two runs of one model, a base that is not the base.
#[test]
fn a_model_does_not_differ_from_itself() {
    let same = report(&small(), &["--kinds", "facts,arithmetic"]);
    assert_eq!(
        (number(&same["kl_mean"]), number(&same["kl_max"])),
        (0.0, 0.0)
    );
    assert_eq!(same["perplexity"], same["base_perplexity"]);
    assert_eq!(same["top_1"]["rate"], 1.0);
    assert_eq!(same["tasks"]["base"], same["tasks"]["model"]);
    for component in same["components"].as_array().unwrap() {
        assert_eq!(component["relative_rms"], 0.0, "{component}");
    }
}

/// Breaks with: a cache that is kept in another format than asked for, or so badly that answers go.
#[test]
fn a_cache_in_fewer_bits_shows_what_it_costs() {
    let cost = |cache: &str| {
        let flags = ["--kinds", "facts,arithmetic", "--cache", cache];
        number(&report(&small(), &flags)["kl_mean"])
    };
    let (f32, bf16, fp8) = (cost("f32"), cost("bf16"), cost("fp8"));
    assert_eq!(f32, 0.0);
    assert!(bf16 > 0.0 && fp8 > bf16 && fp8 < 0.01, "{bf16} {fp8}");
    let refused = failure(dsv3(&["generate", "--cache", "int8"]), 2);
    assert!(refused.contains("fp8"), "{refused}");
}

/// Breaks with: packed weights that are compared as they were before packing, an int4 that is no
/// worse than an int8, a text that is not read.
#[test]
fn packing_shows_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("book.txt");
    std::fs::write(&book, "What is 12 + 30? It is 42. ".repeat(30)).unwrap();
    let mut costs = Vec::new();
    for format in ["int8", "int4"] {
        let out = folder.path().join(format).display().to_string();
        let base = small();
        let convert = [
            "convert", "--model", &base, "--out", &out, "--format", format,
        ];
        text(dsv3(&convert));
        let flags = ["--text", book.to_str().unwrap(), "--window", "64"];
        let cost = report(
            &out,
            &[&flags[..], &["--kinds", "facts", "--modes", "nothink"]].concat(),
        );
        let components = cost["components"].as_array().unwrap();
        let experts = components
            .iter()
            .find(|c| c["component"] == "routed_experts");
        let error = number(&experts.unwrap()["relative_rms"]);
        assert!(number(&cost["kl_p99"]) >= number(&cost["kl_mean"]));
        assert_eq!(cost["tasks"]["model"][0]["count"], 1);
        costs.push((number(&cost["kl_mean"]), error));
    }
    let [(kl_8, error_8), (kl_4, error_4)] = costs[..] else {
        panic!("two formats")
    };
    assert!(kl_8 > 0.0 && kl_4 > 2.0 * kl_8, "{kl_8} {kl_4}");
    assert!(
        error_8 > 0.0 && error_4 > 5.0 * error_8,
        "{error_8} {error_4}"
    );
}

/// Breaks with: another model, or a text without words, taken for something to compare.
#[test]
fn what_can_not_be_compared_is_refused() {
    let (base, other) = (small(), model("mtp"));
    let flags = ["eval", "report", "--base", &base];
    let refused = failure(dsv3(&[&flags[..], &["--model", &other]].concat()), 1);
    assert!(refused.contains("two versions of one model"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.txt");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.display().to_string();
    let refused = failure(
        dsv3(&[&flags[..], &["--model", &base, "--text", &empty]].concat()),
        2,
    );
    assert!(refused.contains("too little text"), "{refused}");
    let missing = ["--model", &base, "--text", "no/such/file"];
    assert!(failure(dsv3(&[&flags[..], &missing].concat()), 1).contains("no/such/file"));
}

/// Breaks with: a report that is printed and not written down, or names a folder that is gone; one
/// whose numbers are not those of `eval report`.
#[test]
fn a_conversion_writes_down_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (book, out, plain, none) = (at("book.txt"), at("int4"), at("plain"), at("none"));
    std::fs::write(&book, "What is 12 + 30? It is 42. ".repeat(30)).unwrap();
    let model = small();
    let convert = ["convert", "--model", &model, "--format", "int4", "--out"];
    let flags = ["--report", "--report-text", &book, "--report-count", "1"];
    let said = text(dsv3(&[&convert[..], &[&out], &flags[..]].concat()));
    assert!(said.contains(&format!("{out} against ")), "{said}");

    let noted = json(dsv3(&["inspect", &out, "--json"]));
    let again = report(&out, &["--text", &book]);
    assert_eq!(noted["rounding"]["divergence"]["kl_mean"], again["kl_mean"]);
    assert_eq!(noted["rounding"]["divergence"]["top_1"], again["top_1"]);
    let shown = text(dsv3(&["inspect", &out]));
    assert!(
        shown.contains("rounding cost, by the converter's own report: KL"),
        "{shown}"
    );

    text(dsv3(&[&convert[..], &[&plain]].concat()));
    assert!(json(dsv3(&["inspect", &plain, "--json"]))["rounding"].is_null());
    let lone = [&convert[..], &[&none, "--report-count", "3"]].concat();
    assert!(failure(dsv3(&lone), 2).contains("--report"));
}
