//! Conversations with the small model of the repository, through the built binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{dsv3, dsv3_with, failure, fixture, json};
use dsv3_tasks::Split;
use serde_json::{Value, json};

/// One answer of the small model, greedy, as JSON.
#[track_caller]
fn chat(flags: &[&str], prompt: &str) -> Value {
    let args = ["chat", "--temperature", "0", "--json", "--prompt", prompt];
    json(dsv3(&[&args[..], flags].concat()))
}

fn said(answer: &Value) -> &str {
    answer["text"].as_str().unwrap()
}

/// Breaks with: a model that can't add, no reasoning without a flag, reasoning in the answer.
#[test]
fn it_thinks_without_a_flag() {
    let answer = chat(&[], "What is 47 + 38?");
    assert!(said(&answer).contains("85"), "{answer}");
    assert!(answer["reasoning"].as_str().unwrap().len() > 5, "{answer}");
    let at_once = chat(&["--nothink"], "What is 47 + 38?");
    assert_eq!(at_once["reasoning"], Value::Null);
    assert_eq!(answer["finish_reason"], "stop");
    // The same on every run.
    assert_eq!(answer["tokens"], chat(&[], "What is 47 + 38?")["tokens"]);
}

/// Something that only a page knows.
const TEA: &str = "How much is tea in Northfield now?";

/// What the pages tell, as training names its questions.
const SUBJECTS: [&str; 35] = [
    "winner/2030/Northfield",
    "winner/2034/Northfield",
    "winner/2032/Marlow",
    "winner/2038/Marlow",
    "winner/2031/Brookbury",
    "prize/Northmouth/Cup",
    "prize/Kingside/Race",
    "price/coffee/Marlow",
    "price/coffee/Hartford",
    "price/tea/Northfield",
    "price/rice/Northfield",
    "office/mayor/Brookbury",
    "office/mayor/Ashfield",
    "office/head teacher/Northfield",
    "office/doctor/Oakbury",
    "opening/castle/Marlow",
    "opening/museum/Northfield",
    "opening/zoo/Brookbury",
    "ticket/theatre/Marlow",
    "ticket/castle/Northfield",
    "ticket/zoo/Oakbury",
    "score/Marlow/Woodwell",
    "score/Lakeside/Elmlow",
    "bus/17/Fernton",
    "bus/53/Lakeport",
    "bus/71/Elmlow",
    "people/Marlow/2028",
    "people/Ravenside/2030",
    "release/phone/Marbury Motors",
    "release/car/Ashfield Works",
    "release/camera/Woodford Works",
    "chief/Marlow Works/2039",
    "chief/Lakeside Motors/2032",
    "concert/Blue Stars/5 October",
    "concert/Golden Stars/12 June",
];

/// Breaks with: a page about something that training asks for, so that the model may know it, or a
/// page without a subject here.
#[test]
fn the_pages_tell_what_training_never_asked() {
    let pages = std::fs::read_to_string(fixture("search/pages.jsonl")).unwrap();
    let pages: Vec<&str> = pages.lines().collect();
    assert_eq!(pages.len(), SUBJECTS.len());
    for (subject, page) in SUBJECTS.iter().zip(pages) {
        let id = format!("search/{subject}");
        assert_eq!(Split::of(&id), Split::HeldOut, "{id}");
        for part in subject.split('/').skip(1) {
            assert!(page.contains(part), "{part} in {page}");
        }
    }
}

/// Breaks with: a search that is not asked for, made, read or cited.
#[test]
fn it_searches_and_cites() {
    let answer = chat(&[], TEA);
    let search = &answer["searches"][0];
    assert_eq!(search["query"], "tea price Northfield", "{answer}");
    let first = json!({"number": 1, "title": "Prices in Northfield: tea"});
    assert_eq!(search["pages"][0], first);
    // The price of that page, not that of rice or of another town, and the page cited.
    assert!(said(&answer).contains(" 2.8 euros"), "{answer}");
    assert!(said(&answer).contains("[citation:1]"), "{answer}");
}

/// Breaks with: a call that is not made, not run, or whose result is not told.
#[test]
fn it_calls_a_tool_that_runs() {
    let answer = chat(&["--demo-tools"], "What is 47 * 83?");
    assert_eq!(
        answer["tool_results"],
        json!([{
            "name": "compute_sum",
            "arguments": "{\"expression\": \"47 * 83\"}",
            "result": "{\"result\": 3901}",
        }]),
        "{answer}"
    );
    assert!(said(&answer).contains("3901"), "{answer}");
}

/// Breaks with: an answer elsewhere than on stdout, or sources, searches and the model's name on
/// it.
#[test]
fn the_answer_alone_is_on_stdout() {
    let args = ["chat", "--temperature", "0"];
    let output = dsv3_with(format!("{TEA}\n").as_bytes(), &args);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    assert!(stdout.contains("[citation:"), "{stdout}");
    for part in [
        "model: ",
        "dsv3-tiny",
        "search: ",
        "[1] Prices in Northfield: tea",
    ] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}

/// Breaks with: flags that don't fit together, or pages that can't be searched, taken in silence.
#[test]
fn what_can_not_be_is_refused() {
    let small = fixture("dsv3-tiny").display().to_string();
    let chat = |flags: &[&str], code| {
        let args = ["chat", "--model", &small, "--prompt", "hi"];
        failure(dsv3(&[&args[..], flags].concat()), code)
    };
    assert!(chat(&["--search", "no/such/pages"], 1).contains("no/such/pages"));
    assert!(chat(&["--think", "--demo-tools"], 2).contains("leave out --think"));
    assert!(chat(&["--think", "--nothink"], 2).contains("--nothink"));
    assert!(chat(&["--tools", "x.json", "--demo-tools"], 2).contains("--demo-tools"));
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().display().to_string();
    assert!(chat(&["--search", &empty], 1).contains(".jsonl"));
}
