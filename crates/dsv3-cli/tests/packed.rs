//! Packed checkpoints on the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{dsv3, failure, fixture, json, model, text};

/// Breaks with: a format that help names and convert does not write, packed tensors shown as bytes.
#[test]
fn what_convert_packs_inspect_shows() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("int4").display().to_string();
    let model = model("base");
    let convert = ["convert", "--model", &model, "--out", &out];
    let report = json(dsv3(
        &[&convert[..], &["--format", "int4", "--json"]].concat(),
    ));
    assert!(report["packed"].as_u64().unwrap() > 90, "{report}");
    let said = text(dsv3(&["inspect", &out]));
    assert!(
        said.contains("int4/32: ") && said.contains("int8/64: "),
        "{said}"
    );
    assert!(said.contains("bits each"), "{said}");
    let said = text(dsv3(&["inspect", &out, "--tensors"]));
    let stack = "model.layers.1.mlp.experts.gate_up_proj.weight";
    let line = said.lines().find(|l| l.contains(stack)).unwrap();
    assert!(line.contains("routed_experts"), "{line}");
    assert!(
        line.contains("int4/32") && line.contains("[16, 128, 128]"),
        "{line}"
    );
    let listed = json(dsv3(&["inspect", &out, "--tensors", "--json"]));
    let tensors = listed["tensors"].as_array().unwrap();
    let stack = tensors.iter().find(|t| t["name"] == stack).unwrap();
    assert_eq!(
        stack["packed"]["format"],
        serde_json::json!({ "bits": "int4", "group": 32 })
    );
    assert!(listed["packed"]["int4/32"]["parameters"].as_u64().is_some());
    let again = folder.path().join("again").display().to_string();
    let again = [
        "convert", "--model", &out, "--out", &again, "--format", "bf16",
    ];
    assert!(failure(dsv3(&again), 1).contains("packed"));
}

/// Breaks with: a text that is not read, or read for a format that has no use for it.
#[test]
fn calibration_changes_what_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, text_file) = (fixture("dsv3-tiny").display().to_string(), at("text.txt"));
    std::fs::write(&text_file, "What is 12 + 30? It is 42. ".repeat(40)).unwrap();
    let convert = |out: &str, more: &[&str]| {
        let always = ["convert", "--model", &model, "--out", out];
        dsv3(&[&always[..], more].concat())
    };
    let int4 = ["--format", "int4"];
    let calibrate = ["--calibrate", &text_file];
    text(convert(&at("plain"), &int4));
    text(convert(&at("weighed"), &[int4, calibrate].concat()));
    let weights = |name: &str| std::fs::read(folder.path().join(name).join("model.safetensors"));
    let (plain, weighed) = (weights("plain").unwrap(), weights("weighed").unwrap());
    assert_eq!(plain.len(), weighed.len());
    assert_ne!(plain, weighed);

    let refused = failure(
        convert(&at("no"), &[&["--format", "bf16"][..], &calibrate].concat()),
        2,
    );
    assert!(refused.contains("int8 and int4"), "{refused}");
    let missing = ["--calibrate", "no/such/file"];
    let refused = failure(convert(&at("no"), &[int4, missing].concat()), 1);
    assert!(refused.contains("no/such/file"), "{refused}");
    let refused = failure(convert(&at("plain"), &[int4, calibrate].concat()), 1);
    assert!(refused.contains("exists"), "{refused}");
    assert!(!folder.path().join("no").exists());
}

/// Breaks with: hours of converting before it shows that the result can't be measured.
#[test]
fn what_can_not_be_measured_is_refused_before_it_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    let empty = folder.path().join("empty.txt");
    std::fs::write(&empty, "").unwrap();
    let (bare, small) = (model("base"), fixture("dsv3-tiny").display().to_string());
    let refused = |model: &str, more: &[&str], code: i32| {
        let convert = ["convert", "--model", model, "--out", &out, "--format"];
        let said = failure(
            dsv3(&[&convert[..], &["int4", "--report"], more].concat()),
            code,
        );
        let left = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(left.count(), 1, "something was written: {said}");
        said
    };
    let said = refused(&bare, &[], 1);
    assert!(
        said.contains("tokenizer.json") && said.contains("--report"),
        "{said}"
    );
    let said = refused(&small, &["--report-text", "no/such/file"], 1);
    assert!(said.contains("no/such/file"), "{said}");
    let empty = empty.display().to_string();
    let said = refused(&small, &["--report-text", &empty], 2);
    assert!(said.contains("too little text"), "{said}");
}

/// Breaks with: a recipe's fault without its line, flags that contradict each other obeyed.
#[test]
fn recipes_are_followed_or_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.json");
    let out = folder.path().join("out").display().to_string();
    let (model, path) = (model("base"), recipe.display().to_string());
    let convert = [
        "convert", "--model", &model, "--out", &out, "--recipe", &path,
    ];
    let write = |text: &str| std::fs::write(&recipe, text).unwrap();

    write("{ \"rules\": [\n  { \"component\": \"expert\", \"format\": \"int4\" }\n] }");
    let said = failure(dsv3(&[&convert[..], &["--format", "int8"]].concat()), 1);
    assert!(
        said.contains("line 2") && said.contains("routed_experts"),
        "{said}"
    );

    write("{ \"rules\": [\n  { \"component\": \"routed_experts\", \"format\": \"int4\" }\n] }");
    let said = failure(dsv3(&convert), 2);
    assert!(said.contains("default"), "{said}");
    let said = failure(
        dsv3(&[&convert[..], &["--format", "fp8", "--group", "64"]].concat()),
        2,
    );
    assert!(said.contains("group"), "{said}");
    text(dsv3(&[&convert[..], &["--format", "bf16"]].concat()));
    let said = text(dsv3(&["inspect", &out]));
    assert!(
        said.contains("int4/32: ") && !said.contains("int8/"),
        "{said}"
    );
}

/// Breaks with: bytes of a token reckoned from a format that the configuration does not tell, which
/// packed weights were refused for and f32 ones counted by half.
#[test]
fn doctor_counts_what_lies_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("base");
    let found = |dir: &str| json(dsv3(&["doctor", "--model", dir, "--json"]))["model"].clone();
    let read = |dir: &str| found(dir)["weight_bytes_read_per_token"].as_u64().unwrap();
    let converted = |format: &str| {
        let out = folder.path().join(format).display().to_string();
        let convert = ["convert", "--model", &model, "--out", &out, "--format"];
        text(dsv3(&[&convert[..], &[format]].concat()));
        out
    };
    let bf16 = read(&model);
    assert!(read(&converted("f32")) > bf16 * 19 / 10, "{bf16}");
    assert!(read(&converted("int4")) < bf16, "{bf16}");
    let plan = json(dsv3(&["plan", "--model", &model, "--json"]));
    assert_eq!(plan["per_token"]["weight_bytes_read"], bf16);
}
