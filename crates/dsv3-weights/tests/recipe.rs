//! Recipes: which rule decides, and what is refused in which line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::ops::ControlFlow;

use common::golden;
use dsv3_weights::{ConvertFormat, ConvertOptions, Recipe, WeightFormat, WeightsError, convert};

fn read(text: &str) -> Result<Recipe, WeightsError> {
    Recipe::from_json_bytes(text.as_bytes())
}

/// Breaks with: an error without the line that a person has to mend.
#[test]
fn nonsense_is_refused_by_line() {
    // The rule in question stands in line 3 of each.
    let cases = [
        (
            r#"{ "component": "experts", "format": "int4" }"#,
            "routed_experts",
        ),
        (
            r#"{ "component": "embedding", "format": "int8" }"#,
            "embedding",
        ),
        (r#"{ "component": "router", "format": "int4" }"#, "router"),
        (r#"{ "component": "norm", "format": "int8" }"#, "norm"),
        (r#"{ "component": "lm_head", "format": "fp8" }"#, "bf16"),
        (r#"{ "component": "attention", "format": "int2" }"#, "int4"),
        (r#"{ "component": "attention", "format": "q4_0" }"#, "q4_0"),
        (
            r#"{ "component": "attention", "format": "int4", "group": 0 }"#,
            "multiple of 32",
        ),
        (
            r#"{ "component": "attention", "format": "int4", "group": 48 }"#,
            "48",
        ),
        (
            r#"{ "component": "attention", "format": "bf16", "group": 32 }"#,
            "group",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layers": "60-3" }"#,
            "3-60",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layers": "3-" }"#,
            "3-60",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layers": "-3" }"#,
            "3-60",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layers": "03-4" }"#,
            "03-4",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layers": "all" }"#,
            "all",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layers": "1-2-3" }"#,
            "1-2-3",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "projection": "k_proj" }"#,
            "kv_b_proj",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "projection": "kv_b_proj" }"#,
            "packed",
        ),
        (
            r#"{ "component": "lm_head", "format": "int8", "projection": "o_proj" }"#,
            "projection",
        ),
        (
            r#"{ "component": "routed_experts", "format": "int8", "projection": "down_proj" }"#,
            "in turn",
        ),
        (
            r#"{ "component": "attention", "format": "int8", "layer": "3" }"#,
            "layer",
        ),
        (r#"{ "component": "attention", "format": 8 }"#, "string"),
        (r#"{ "component": "attention" }"#, "format"),
        (
            r#"{ "component": "dense_mlp", "format": "int4" }"#,
            "never decides",
        ),
        (
            r#"{ "component": "dense_mlp", "layers": "2", "format": "int4" }"#,
            "line 2",
        ),
    ];
    for (rule, word) in cases {
        let text = format!(
            "{{ \"rules\": [\n{{ \"component\": \"dense_mlp\", \"format\": \"int8\" }},\n{rule}\n]}}"
        );
        let e = read(&text).unwrap_err();
        let message = e.to_string();
        assert!(
            matches!(e, WeightsError::Recipe { line: 3, .. }),
            "{rule}: {message}"
        );
        assert!(message.contains(word), "{rule}: {message}");
    }
    let crossing = "{ \"rules\": [\n{ \"component\": \"attention\", \"layers\": \"0-5\", \"format\": \"int8\" },\n\n{ \"component\": \"attention\", \"layers\": \"5-9\", \"format\": \"int4\" }\n]}";
    let e = read(crossing).unwrap_err();
    assert!(matches!(e, WeightsError::Recipe { line: 4, .. }), "{e}");
    let e = read("{ \"rules\": [],\n\n\"default\": \"int3\" }").unwrap_err();
    assert!(matches!(e, WeightsError::Recipe { line: 3, .. }), "{e}");
    for text in [
        "",
        "[]",
        "{}",
        "{\"rules\": {}}",
        "{\"rules\": [], \"rule\": 1}",
        "nonsense",
    ] {
        let e = read(text).unwrap_err();
        assert!(matches!(e, WeightsError::Recipe { .. }), "{text}: {e}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(read(&deep), Err(WeightsError::Recipe { .. })));
    let e = Recipe::from_file("no/such/recipe.json").unwrap_err();
    assert!(matches!(e, WeightsError::Io { .. }), "{e}");
}

/// Breaks with: a narrow rule before a wide one refused, which is what order is for.
#[test]
fn narrow_rules_stand_before_wide_ones() {
    let text = r#"{ "rules": [
        { "component": "attention", "projection": "o_proj", "layers": "0-3", "format": "bf16" },
        { "component": "attention", "projection": "o_proj", "format": "int8" },
        { "component": "attention", "layers": "0", "format": "fp8" },
        { "component": "attention", "format": "int4", "group": 128 }
    ] }"#;
    let recipe = read(text).unwrap();
    assert_eq!(recipe.default_format(), None);
    let filled = recipe.or(&Recipe::int4(32).unwrap());
    assert!(matches!(
        filled.default_format(),
        Some(WeightFormat::Group(_))
    ));
}

/// Breaks with: a recipe for another model followed as far as it goes.
#[test]
fn layers_that_the_model_lacks_are_refused() {
    let text = "{ \"rules\": [\n{ \"component\": \"attention\", \"layers\": \"1-3\", \"format\": \"int8\" }\n], \"default\": \"bf16\" }";
    let options = ConvertOptions {
        format: ConvertFormat::Recipe {
            recipe: read(text).unwrap(),
            ue8m0: true,
        },
        ..ConvertOptions::default()
    };
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("out");
    let go = &mut |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
    let e = convert(&golden("base"), &out, &options, go).unwrap_err();
    assert!(matches!(e, WeightsError::Recipe { line: 2, .. }), "{e}");
    assert!(e.to_string().contains("last is 2"), "{e}");
    assert!(!tmp.path().join("out.partial").exists());
}

/// Breaks with: a format or a group taken that was not meant, of two that disagree.
#[test]
fn flags_that_contradict_each_other_are_refused() {
    let named = |name, group| ConvertFormat::named(name, group, true);
    for name in ConvertFormat::NAMES {
        named(name, None).unwrap();
    }
    assert_eq!(
        named("int4", None).unwrap(),
        ConvertFormat::Int4 { group: 32 }
    );
    assert_eq!(
        named("int8", Some(128)).unwrap(),
        ConvertFormat::Int8 { group: 128 }
    );
    for (name, group) in [
        ("int4", Some(0)),
        ("int4", Some(33)),
        ("fp8", Some(128)),
        ("int2", None),
    ] {
        let e = named(name, group).unwrap_err();
        assert!(matches!(e, WeightsError::BadOption { .. }), "{name} {e}");
    }
    let with = read(r#"{ "rules": [], "default": "int8" }"#).unwrap();
    let without = read(r#"{ "rules": [] }"#).unwrap();
    let int4 = named("int4", None).unwrap();
    let by = |recipe: &Recipe, rest| ConvertFormat::by_recipe(recipe.clone(), rest, true);
    for (recipe, rest) in [(&with, Some(&int4)), (&without, None)] {
        let e = by(recipe, rest).unwrap_err();
        assert!(
            matches!(
                e,
                WeightsError::BadOption {
                    option: "format",
                    ..
                }
            ),
            "{e}"
        );
    }
    by(&with, None).unwrap();
    let ConvertFormat::Recipe { recipe, .. } = by(&without, Some(&int4)).unwrap() else {
        panic!("no recipe");
    };
    assert_eq!(recipe, without.or(&Recipe::int4(32).unwrap()));
}
