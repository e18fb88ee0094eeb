//! The built binary as people call it: every command, on the golden checkpoints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{dsv3, dsv3_with, failure, fixture, json, model, text, tokenizer};
use serde_json::Value;

fn golden(set: &str) -> (String, Vec<u64>) {
    let bytes = std::fs::read(fixture(&format!("golden/{set}/golden.json"))).unwrap();
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let prompt: Vec<u64> = serde_json::from_value(json["prompt"].clone()).unwrap();
    let prompt: Vec<String> = prompt.iter().map(u64::to_string).collect();
    (
        prompt.join(","),
        serde_json::from_value(json["greedy_f32"].clone()).unwrap(),
    )
}

const SETS: [&str; 8] = [
    "base",
    "noqlora",
    "nogroup",
    "negbias",
    "realdims",
    "mtp",
    "fp8_ue8m0",
    "fp8_f32odd",
];

/// Breaks with: any drift on the way from the flags to the reference's greedy tokens.
#[test]
fn generate_writes_the_references_tokens() {
    for set in SETS {
        let (prompt, expected) = golden(set);
        let args = [
            "generate",
            "--model",
            &model(set),
            "--input-ids",
            &prompt,
            "--temperature",
            "0",
            "--max-new-tokens",
            "32",
        ];
        let answer = json(dsv3(&[&args[..], &["--json"]].concat()));
        let tokens: Vec<u64> = serde_json::from_value(answer["tokens"].clone()).unwrap();
        assert_eq!(tokens, expected, "{set}");
        let mut keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "finish_reason",
                "prompt_tokens",
                "text",
                "timings",
                "tokens"
            ]
        );
        let mut timings: Vec<&String> = answer["timings"].as_object().unwrap().keys().collect();
        timings.sort();
        assert_eq!(
            timings,
            [
                "decode_s",
                "decode_tok_s",
                "load_s",
                "prefill_s",
                "prefill_tok_s"
            ]
        );
        let words: Vec<String> = expected.iter().map(u64::to_string).collect();
        assert_eq!(text(dsv3(&args)), words.join(" ") + "\n");
    }
}

/// Breaks with: logits of another position, a header that lies, a sign lost in the perplexity.
#[test]
fn score_writes_the_references_logits() {
    let folder = tempfile::tempdir().unwrap();
    for set in SETS {
        let (prompt, _) = golden(set);
        let file = folder.path().join(format!("{set}.safetensors"));
        let output = dsv3(&[
            "score",
            "--model",
            &model(set),
            "--input-ids",
            &prompt,
            "--top",
            "2",
            "--json",
            "--logits-out",
            file.to_str().unwrap(),
        ]);
        let lines = text(output);
        let lines: Vec<Value> = lines
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.len(), prompt.split(',').count());
        assert!(lines[0]["logprob"].is_null());
        let (ours, golden) = (
            floats(&file, "logits"),
            floats(
                &fixture(&format!("golden/{set}/golden.safetensors")),
                "f32.logits",
            ),
        );
        assert_eq!(ours.0, golden.0, "{set}: shape");
        let apart = ours
            .1
            .iter()
            .zip(&golden.1)
            .map(|(a, b)| (a - b).abs())
            .fold(0f32, f32::max);
        assert!(apart <= 1e-4, "{set}: {apart}");
        // log p(token i) from the reference's logits of position i − 1
        let vocab = golden.0[1];
        for (i, line) in lines.iter().enumerate().skip(1) {
            let row = &golden.1[(i - 1) * vocab..i * vocab];
            let token = line["token"].as_u64().unwrap() as usize;
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            let expected = f64::from(row[token]) - sum.ln();
            assert!(
                (line["logprob"].as_f64().unwrap() - expected).abs() < 1e-3,
                "{set} {i}"
            );
            assert_eq!(line["top"].as_array().unwrap().len(), 2);
        }
    }
}

fn floats(file: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let values = tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (tensor.shape().to_vec(), values.collect())
}

/// Breaks with: ids or text that change on the way through the shell.
#[test]
fn tokenize_and_detokenize() {
    let (flag, file) = ("--tokenizer", tokenizer());
    let vectors = std::fs::read(fixture("tokenizer/tokenizer_golden.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_slice(&vectors).unwrap();
    for vector in vectors.iter().step_by(5) {
        let input = vector["text"].as_str().unwrap();
        let ids = json(dsv3_with(
            input.as_bytes(),
            &["tokenize", flag, &file, "--special", "--json"],
        ));
        assert_eq!(ids["ids"], vector["ids"]);
        let list = ids["ids"].to_string();
        assert_eq!(
            text(dsv3(&["detokenize", flag, &file, &list])),
            format!("{input}\n")
        );
    }
    assert_eq!(
        text(dsv3(&["tokenize", flag, &file, "Hello!"])),
        "19923 3\n"
    );
    let typed = text(dsv3(&["tokenize", flag, &file, "<think>"]));
    assert!(
        !typed.contains("128798"),
        "typed text became a control token: {typed}"
    );
    // a folder without weights is enough
    let folder = fixture("tokenizer").display().to_string();
    assert_eq!(
        text(dsv3_with(
            b"[19923, 3]",
            &["detokenize", "--model", &folder]
        )),
        "Hello!\n"
    );
}

/// Breaks with: a byte more or less than the prompt and one newline.
#[test]
fn render_prints_the_golden_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let cases = std::fs::read(fixture("chat/chat_golden.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    let template = fixture("chat/chat_template.jinja").display().to_string();
    for case in cases {
        let write = |name: &str, value: &Value| {
            let file = folder.path().join(name);
            std::fs::write(&file, value.to_string()).unwrap();
            file.display().to_string()
        };
        let messages = write("messages.json", &case["messages"]);
        let mut args = vec!["render", "--messages", &messages];
        let tools = write("tools.json", case.get("tools").unwrap_or(&Value::Null));
        if case.get("tools").is_some() {
            args.extend(["--tools", &tools]);
        }
        if case["thinking"] == true {
            args.push("--think");
        }
        let expected = format!("{}\n", case["expected"].as_str().unwrap());
        assert_eq!(text(dsv3(&args)), expected);
        args.extend(["--template", &template]);
        assert_eq!(text(dsv3(&args)), expected, "through the template");
    }
}

/// Breaks with: an answer taken apart wrongly.
#[test]
fn parse_takes_an_answer_apart() {
    let answer = "Hm.</think>Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>\n";
    let parsed = json(dsv3_with(
        answer.as_bytes(),
        &["parse", "--think", "--tokenizer", &tokenizer()],
    ));
    assert_eq!(parsed["reasoning_content"], "Hm.");
    assert_eq!(parsed["content"], "Let me see.");
    assert_eq!(parsed["tool_calls"][0]["function"]["name"], "f");
    assert_eq!(
        parsed["tool_calls"][0]["function"]["arguments"],
        "{\"a\": 1}"
    );
}

/// Breaks with: a count that is not the published one.
#[test]
fn plan_counts_the_published_model() {
    let config = fixture("config/config.json").display().to_string();
    let plan = json(dsv3(&["plan", "--config", &config, "--json"]));
    assert_eq!(plan["total_bytes"], 688_574_839_360u64);
    assert_eq!(plan["total_parameters"], 684_489_845_504u64);
    assert_eq!(plan["cache"]["bytes_per_token"], 70_272);
    assert_eq!(
        plan["components"]["routed_experts"]["parameters"],
        653_908_770_816u64
    );
    let fits = |devices: &str| {
        let plan = json(dsv3(&[
            "plan",
            "--config",
            &config,
            "--json",
            "--devices",
            devices,
        ]));
        plan["fit"]["fits"].as_bool().unwrap()
    };
    assert!(!fits("80GiB×8") && fits("141GB×8"));
    assert!(
        text(dsv3(&["plan", "--config", &config, "--devices", "80GiB×8"])).contains("does not fit")
    );
}

/// Breaks with: an inventory that misses a tensor, or a config that needs weights.
#[test]
fn inspect_lists_what_there_is() {
    let all = json(dsv3(&[
        "inspect",
        &model("fp8_f32odd"),
        "--tensors",
        "--json",
    ]));
    let bytes: u64 = all["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(all["total"]["bytes"], bytes);
    let config = fixture("config").display().to_string();
    assert!(text(dsv3(&["inspect", &config])).contains("684,489,845,504"));
}

/// Breaks with: a conversion that changes the model.
#[test]
fn convert_to_bf16_keeps_the_greedy_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bf16").display().to_string();
    text(dsv3(&[
        "convert",
        "--model",
        &model("fp8_ue8m0"),
        "--out",
        &out,
        "--format",
        "bf16",
    ]));
    let (prompt, expected) = golden("fp8_ue8m0");
    let answer = json(dsv3(&[
        "generate",
        "--model",
        &out,
        "--input-ids",
        &prompt,
        "--temperature",
        "0",
        "--max-new-tokens",
        "32",
        "--json",
    ]));
    // e4m3 times a power of two is a bf16 number: nothing was rounded
    let tokens: Vec<u64> = serde_json::from_value(answer["tokens"].clone()).unwrap();
    assert_eq!(tokens, expected);
    let again = failure(
        dsv3(&[
            "convert",
            "--model",
            &model("base"),
            "--out",
            &out,
            "--format",
            "bf16",
        ]),
        1,
    );
    assert!(again.contains("bf16"), "{again}");
}

/// Breaks with: the same seed giving other text, or chat without a tokenizer going on.
#[test]
fn seeds_and_folders_without_a_tokenizer() {
    let run = |seed: &str| {
        text(dsv3(&[
            "generate",
            "--model",
            &model("base"),
            "--input-ids",
            "0,1,2",
            "--seed",
            seed,
            "--max-new-tokens",
            "20",
            "--preset",
            "creative",
        ]))
    };
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
    let message = failure(
        dsv3(&["generate", "--model", &model("base"), "--prompt", "hi"]),
        1,
    );
    assert!(message.contains("tokenizer.json"), "{message}");
    let message = failure(
        dsv3(&["chat", "--model", &model("base"), "--prompt", "hi"]),
        2,
    );
    assert!(message.contains("--input-ids"), "{message}");
}

/// Breaks with: a machine's description that no machine can read.
#[test]
fn doctor_describes_the_machine() {
    let found = json(dsv3(&["doctor", "--json"]));
    assert!(found["memory_read_gb_s"].as_f64().unwrap() > 0.0);
    assert_eq!(found["devices"][0]["device"], "cpu");
    assert_eq!(found["devices"][0]["usable"], true);
}

/// Breaks with: the one core that a pinned thread sees taken for the machine's.
#[test]
fn pinned_threads_do_not_hide_cores() {
    let free = json(dsv3(&["doctor", "--json"]));
    let pinned = json(dsv3(&[
        "doctor",
        "--json",
        "--pin-threads",
        "--threads",
        "2",
    ]));
    assert_eq!(pinned["cores"], free["cores"]);
    assert_eq!(pinned["threads"], 2);
}

/// Breaks with: a device that writes other tokens. Needs a build with wgpu and an adapter.
#[cfg(feature = "wgpu")]
#[test]
fn wgpu_writes_the_same_tokens() {
    if let Err(error) = dsv3_kernels::DeviceSpec::Wgpu(None).open() {
        println!("skipped: no wgpu adapter ({error})");
        return;
    }
    let (prompt, expected) = golden("fp8_ue8m0");
    let answer = json(dsv3(&[
        "generate",
        "--model",
        &model("fp8_ue8m0"),
        "--input-ids",
        &prompt,
        "--temperature",
        "0",
        "--max-new-tokens",
        "32",
        "--device",
        "wgpu",
        "--json",
    ]));
    let tokens: Vec<u64> = serde_json::from_value(answer["tokens"].clone()).unwrap();
    assert_eq!(tokens, expected);
}
