//! `dsv3 bench`: fields, arithmetic and refusals. No test looks at how fast anything is.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use common::{dsv3, failure, fixture, json, model, text};
use serde_json::Value;

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} in {value}"))
}

#[track_caller]
fn same(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()), "{a} and {b}");
}

fn config() -> String {
    fixture("config/config.json").display().to_string()
}

/// Breaks with: a flag that does not reach the run, a field that is missing, numbers that don't
/// follow from each other.
#[test]
fn json_has_every_field_and_its_numbers_agree() {
    let tiny = fixture("dsv3-tiny").display().to_string();
    let config = config();
    let report = json(dsv3(&[
        "bench",
        "--model",
        &tiny,
        "--prompt",
        "8,5",
        "--decode",
        "2",
        "--depth",
        "0,16",
        "--batch",
        "1,2",
        "--repeat",
        "2",
        "--threads",
        "2",
        "--cost-per-hour",
        "3.6",
        "--project",
        &config,
        "--json",
    ]));
    assert_eq!(report["machine"]["threads"], 2);
    assert!(report["machine"]["cores"].is_u64(), "{report}");
    assert_eq!(report["model"], tiny.as_str());
    assert_eq!(
        (&report["device"], &report["dtype"]),
        (&"cpu".into(), &"f32".into())
    );
    assert_eq!(report["interrupted"], false);
    assert!(number(&report, "weight_bytes") > 0.0);
    let bandwidth = number(&report, "bandwidth_gb_s");
    assert!(bandwidth >= number(&report, "bandwidth_median_gb_s"));

    let rows = report["rows"].as_array().unwrap();
    // In front of all rows and behind each of them.
    assert_eq!(report["limits_measured"], rows.len() + 1);
    let cases = rows.iter().map(|row| {
        let field = |key: &str| row[key].as_u64().unwrap();
        let kind = row["kind"].as_str().unwrap();
        (kind, field("tokens"), field("depth"), field("batch"))
    });
    let expected = [
        ("prefill", 5, 0, 1),
        ("prefill", 8, 0, 1),
        ("decode", 2, 0, 1),
        ("decode", 2, 16, 1),
        ("prefill", 5, 0, 2),
        ("prefill", 8, 0, 2),
        ("decode", 2, 0, 2),
        ("decode", 2, 16, 2),
    ];
    assert_eq!(cases.collect::<Vec<_>>(), expected);
    let costs = report["cost"]["rows"].as_array().unwrap();
    assert_eq!(costs.len(), rows.len());
    for (row, cost) in rows.iter().zip(costs) {
        let speed = &row["tokens_per_s"];
        let median = number(speed, "median");
        assert!(number(speed, "min") <= median && median <= number(speed, "max"));
        same(
            number(row, "gb_per_s"),
            number(row, "bytes_per_token") * median / 1e9,
        );
        same(
            number(row, "bandwidth_share"),
            number(row, "gb_per_s") / number(&row["limits"], "bandwidth_gb_s"),
        );
        assert!(number(&row["limits"], "bandwidth_gb_s") <= bandwidth);
        for (share, of) in [
            ("product_share", "product_gflop_s"),
            ("bf16_product_share", "bf16_product_gflop_s"),
            ("integer_product_share", "integer_product_gop_s"),
        ] {
            // A processor may have no instructions for bf16.
            if of == "bf16_product_gflop_s" && row["limits"][of].is_null() {
                assert!(row[share].is_null());
                continue;
            }
            same(
                number(row, share),
                number(row, "gflop_per_s") / number(&row["limits"], of),
            );
        }
        same(number(cost, "per_million_tokens"), 1e3 / median);
        assert_eq!((&row["repeats"], &cost["kind"]), (&2.into(), &row["kind"]));
    }
    // Two sequences share what all tokens need, and 16 tokens of cache are added at a depth of 16.
    let bytes = |row: usize| number(&rows[row], "bytes_per_token");
    assert!(bytes(6) < bytes(2) && bytes(6) > bytes(2) / 2.0);
    let args = dsv3_weights::ModelArgs::from_file(fixture("dsv3-tiny/config.json")).unwrap();
    let cached = args.latent_dim() * args.num_hidden_layers * 4;
    same(bytes(3) - bytes(2), (16 * cached) as f64);

    let projection = &report["projection"];
    assert_eq!(projection["config"], config.as_str());
    assert_eq!(projection["format"], "fp8");
    assert_eq!(projection["same_shapes"], false);
    assert_eq!(projection["weight_bytes"], 673_150_611_808_u64);
    same(number(projection, "bandwidth_gb_s"), bandwidth);
    let projected = projection["rows"].as_array().unwrap();
    assert_eq!(projected.len(), 4);
    for (row, measured) in projected.iter().zip(rows) {
        assert_eq!(
            (&row["kind"], &row["depth"]),
            (&measured["kind"], &measured["depth"])
        );
        let speed = number(row, "tokens_per_s");
        assert!(speed > 0.0, "{row}");
        same(number(row, "per_million_tokens"), 1e3 / speed);
        assert_eq!(row["bytes_per_token"].is_f64(), row["kind"] == "decode");
    }
}

/// Breaks with: experts that no token chose, or an embedding, counted as read.
#[test]
fn bytes_of_a_token_are_those_counted_by_hand() {
    let report = json(dsv3(&[
        "bench",
        "--model",
        &model("base"),
        "--prompt",
        "0",
        "--decode",
        "2",
        "--repeat",
        "1",
        "--json",
    ]));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    // Three layers of attention (250,496) and norms (1,024), a dense MLP, two layers with router
    // (4,160), a shared and four routed experts (49,152 each), norm and head; 960 bytes of cache a
    // token, one token at the first step and two at the second.
    let weights = 3 * 251_520 + 196_608 + 2 * (4_160 + 5 * 49_152) + 512 + 131_072;
    same(
        number(&rows[0], "bytes_per_token"),
        f64::from(weights) + 960.0 * 1.5,
    );
    assert!(report.get("cost").is_none() && report.get("projection").is_none());
}

/// Breaks with: a table whose columns have no names, or Markdown that is text.
#[test]
fn text_and_markdown_are_tables() {
    let base = model("base");
    let run = |format: &str| {
        text(dsv3(&[
            "bench", "--model", &base, "--prompt", "4", "--decode", "2", "--repeat", "1",
            "--format", format,
        ]))
    };
    let plain = run("text");
    for part in [
        "machine  ",
        "memory   read at ",
        "model    ",
        "kind ",
        "\nprefill ",
        "\ndecode ",
    ] {
        assert!(plain.contains(part), "{part} in {plain}");
    }
    let markdown = run("markdown");
    for part in [
        "- machine: ",
        "| kind | tokens |",
        "| --- | ---: |",
        "| prefill | 4 | 0 | 1 |",
    ] {
        assert!(markdown.contains(part), "{part} in {markdown}");
    }
}

/// Breaks with: nonsense that is measured, or a refusal that does not name what to change.
#[test]
fn what_can_not_be_measured_is_refused() {
    let (base, config) = (model("base"), config());
    let project = ["--project", config.as_str()];
    let cases: &[(&[&str], &str)] = &[
        (&["--depth", "1000"], "max_position_embeddings"),
        (&["--prompt", "4000"], "max_position_embeddings"),
        (&["--prompt", "0", "--decode", "0"], "nothing to measure"),
        (&["--prompt", "many"], "--prompt"),
        (&["--depth", "-1"], "-1"),
        (&["--batch", "0"], "--batch"),
        (&["--repeat", "0"], "--repeat"),
        (&["--threads", "0"], "--threads"),
        (&["--format", "html"], "markdown"),
        (&["--format", "text", "--json"], "leave one of them out"),
        (&["--cost-per-hour", "-1"], "--cost-per-hour"),
        (&["--cost-per-hour", "inf"], "--cost-per-hour"),
        (&["--bandwidth", "100"], "--project"),
        (&[project[0], project[1], "--bandwidth", "0"], "--bandwidth"),
        (&[project[0], project[1], "--batch", "2"], "--batch"),
        (
            &[project[0], project[1], "--device", "wgpu"],
            "--device cpu",
        ),
        (&["--w8a8"], "--w8a8"),
        (&["--batch", "600", "--prompt", "1"], "--batch-tokens"),
    ];
    for (flags, part) in cases {
        let message = failure(dsv3(&[&["bench", "--model", &base], *flags].concat()), 2);
        assert!(message.contains(part), "{flags:?}: {message}");
    }
    let missing = failure(
        dsv3(&["bench", "--model", &base, "--project", "nowhere.json"]),
        1,
    );
    assert!(missing.contains("nowhere.json"), "{missing}");
}

/// Breaks with: Ctrl-C that throws away what was measured, or is not heard while decoding.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_what_was_measured() {
    let base = model("base");
    let mut child = Command::new(env!("CARGO_BIN_EXE_dsv3"))
        .args(["bench", "-v", "--json", "--model", &base, "--prompt", "4"])
        .args(["--decode", "1000", "--repeat", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The prompts are measured, and decoding would go on for an hour.
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines().map(Result::unwrap);
    lines.find(|line| line.contains("measured")).unwrap();
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let mut stdout = String::new();
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let row = &report["rows"][0];
    assert_eq!(
        (&row["kind"], &row["repeats"]),
        (&"prefill".into(), &1000.into())
    );
    assert!(report["rows"].as_array().unwrap().len() <= 2);
}
