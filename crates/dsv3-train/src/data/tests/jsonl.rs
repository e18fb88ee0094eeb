use std::io::Write;
use std::sync::LazyLock;

use dsv3_tasks::{Corpus, Mix};
use dsv3_tokenizer::Tokenizer;

use crate::TrainError;
use crate::data::*;

pub(super) static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let path = "/../../fixtures/tokenizer/tokenizer.json";
    Tokenizer::from_file(format!("{}{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
});

/// Reads a file of these bytes; the lines that were reported beside it.
fn read(bytes: &[u8], on_bad_line: OnBadLine) -> (Result<Dataset, TrainError>, Vec<BadLine>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let mut reported = Vec::new();
    let options = ConversationOptions { context: 100 };
    let dataset = read_jsonl(&path, &TOKENIZER, &options, on_bad_line, &mut |bad| {
        reported.push(bad.clone());
    });
    (dataset, reported)
}

pub(super) fn line(user: &str, assistant: &str) -> String {
    let messages = serde_json::json!([
        {"role": "user", "content": user},
        {"role": "assistant", "content": assistant},
    ]);
    serde_json::json!({"messages": messages}).to_string() + "\n"
}

pub(super) fn dataset(text: &str) -> Dataset {
    read(text.as_bytes(), OnBadLine::Refuse).0.unwrap()
}

// Breaks with: a spelling of the same conversations that gives other sequences.
#[test]
fn spellings_of_a_file() {
    let (a, b) = (line("a", "A"), line("b", "B"));
    let plain = dataset(&(a.clone() + &b));
    assert_eq!(plain.sequences().len(), 2);
    let bare = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"A"}]"#;
    for text in [
        format!("{bare}\n{b}"),
        format!("\u{feff}{a}{b}"),
        format!("\n \n{a}\n\r\n{b}\n\n"),
        format!("{a}{b}").replace('\n', "\r\n"),
        format!("{a}{}", b.trim_end()),
        format!(
            "{a}{}",
            b.replace("\"messages\"", "\"tools\":null,\"id\":7,\"messages\"")
        ),
        format!(
            "{a}{}",
            b.replace("\"role\":\"user\"", "\"weight\":0,\"role\":\"user\"")
        ),
    ] {
        let read = dataset(&text);
        assert_eq!(read, plain, "{text}");
        assert_eq!(read.fingerprint(), plain.fingerprint());
    }
    let (tokens, targets) = plain.token_counts();
    assert_eq!((tokens, targets), (2 * 7, 2 * 2));
    assert_ne!(dataset(&(b + &a)).fingerprint(), plain.fingerprint());
}

/// Lines that are refused, and what is said of each.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let long = line("a", &"word ".repeat(200));
    vec![
        (
            text("{\"messages\": [}"),
            "not JSON: expected value, at byte 15",
        ),
        (text("{\"messages\": ["), "ends inside of its JSON"),
        (text("["), "`jq -c . FILE`"),
        (text("hello"), "not JSON"),
        (text("7"), "neither an object with `messages` nor a list"),
        (
            text("{\"prompt\": \"a\", \"completion\": \"b\"}"),
            "no field `messages`",
        ),
        (
            text("{\"messages\": {}}"),
            "`messages` is an object, not a list",
        ),
        (
            text(&format!("[{}]", line("a", "A").trim())),
            "a list of conversations",
        ),
        (
            text(&line("a", "A").replace("user", "bot")),
            "messages[0]: unknown role `bot`",
        ),
        (
            text("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"),
            "no assistant message",
        ),
        (text("{\"messages\": []}"), "no assistant message"),
        (
            text(&line("a", "A").replace(
                "\"role\":\"assistant\"",
                "\"role\":\"assistant\",\"weight\":0.5",
            )),
            "messages[1]: `weight` is 0.5",
        ),
        (
            text(&line("a", "A").replace(
                "\"role\":\"assistant\"",
                "\"role\":\"assistant\",\"weight\":0",
            )),
            "`weight` 0 don't count",
        ),
        (
            text(&line("a", "").replace("\"\"", "null")),
            "messages[1]: an assistant message needs",
        ),
        (
            text(&line("a", "A").replace("{\"messages\"", "{\"tools\":[{}],\"messages\"")),
            "tools[0]",
        ),
        (
            text(&line("a", "A").replace("{\"messages\"", "{\"tools\":7,\"messages\"")),
            "the list of tools",
        ),
        (text(&long), "tokens, more than the 100 of the context"),
        (
            b"{\"messages\": \"\xff\"}".to_vec(),
            "byte 15 of the line is not UTF-8",
        ),
        (
            b"\xff\xfe{\0}\0".to_vec(),
            "byte 1 of the line is not UTF-8",
        ),
        (text("\0\0\0"), "not JSON"),
        (text(&"[".repeat(100_000)), "not JSON: recursion limit"),
        (
            text(&("{\"messages\":[".repeat(100_000))),
            "not JSON: recursion limit",
        ),
    ]
}

// Breaks with: a bad line that is taken, or refused without its place, the reason and a way out.
#[test]
fn attack_bad_lines_are_named() {
    for (bad, names) in bad_lines() {
        let mut file = line("a", "A").into_bytes();
        file.extend_from_slice(b"\n");
        file.extend(bad);
        let (dataset, reported) = read(&file, OnBadLine::Refuse);
        let error = dataset.unwrap_err().to_string();
        assert!(
            error.contains("train.jsonl:3: ") && error.contains(names),
            "{names}: {error}"
        );
        assert!(reported.is_empty());
    }
}

// Breaks with: a line that is skipped without a word, or one that takes others with it.
#[test]
fn bad_lines_are_skipped_aloud() {
    let good = dataset(&(line("a", "A") + &line("b", "B")));
    let mut file = line("a", "A").into_bytes();
    let bad = bad_lines();
    for (bad, _) in &bad {
        file.extend(bad.strip_suffix(b"\n").unwrap_or(bad));
        file.push(b'\n');
    }
    file.extend(line("b", "B").into_bytes());
    let (read, reported) = read(&file, OnBadLine::Skip);
    let read = read.unwrap();
    assert_eq!(read.sequences(), good.sequences());
    assert_eq!(read.skipped_lines, bad.len() as u64);
    assert_eq!(read.skipped, reported);
    for (at, (skipped, (_, names))) in reported.iter().zip(&bad).enumerate() {
        assert_eq!(skipped.line, at as u64 + 2);
        assert!(skipped.problem.contains(names), "{skipped}");
    }
}

// Breaks with: training on nothing, or an error that does not say why there is nothing.
#[test]
fn nothing_to_train_on() {
    for text in ["", "\n", " \r\n\n", "\u{feff}"] {
        for on_bad_line in [OnBadLine::Refuse, OnBadLine::Skip] {
            let error = read(text.as_bytes(), on_bad_line).0.unwrap_err();
            assert!(matches!(error, TrainError::EmptyData { .. }), "{error}");
        }
    }
    let (dataset, reported) = read(b"{}\n7\n", OnBadLine::Skip);
    let error = dataset.unwrap_err().to_string();
    assert!(error.contains("all 2 conversations"), "{error}");
    assert!(
        error.contains("train.jsonl:1: the object has no field"),
        "{error}"
    );
    assert_eq!(reported.len(), 2);
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("none.jsonl"), dir.path().to_owned()] {
        let options = ConversationOptions { context: 100 };
        let read = read_jsonl(&path, &TOKENIZER, &options, OnBadLine::Skip, &mut |_| {});
        let error = read.unwrap_err();
        assert!(matches!(error, TrainError::Read { .. }), "{error}");
    }
}

// Breaks with: a line of any size taken into memory; a file without a single newline.
#[test]
fn attack_a_line_over_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(line("a", "A").as_bytes()).unwrap();
    // Sparse: zeros that take no room on the disk.
    file.set_len(MAX_LINE_BYTES + 1000).unwrap();
    let options = ConversationOptions { context: 100 };
    let read = read_jsonl(&path, &TOKENIZER, &options, OnBadLine::Refuse, &mut |_| {});
    let error = read.unwrap_err().to_string();
    assert!(
        error.contains(":2: the line has") && error.contains("67108864"),
        "{error}"
    );
}

// Breaks with: a summary of skipped lines that grows with the file.
#[test]
fn attack_millions_of_bad_lines() {
    let file = "x\n".repeat(Dataset::MAX_KEPT * 2) + &line("a", "A");
    let (dataset, reported) = read(file.as_bytes(), OnBadLine::Skip);
    let dataset = dataset.unwrap();
    assert_eq!(dataset.skipped.len(), Dataset::MAX_KEPT);
    assert_eq!(dataset.skipped_lines, reported.len() as u64);
    assert_eq!(reported.len(), Dataset::MAX_KEPT * 2);
}

// Breaks with: a task whose question is trained, or whose answer isn't.
#[test]
fn answers_of_examples_are_targets() {
    let corpus = Corpus::new(1, Mix::default()).unwrap();
    for index in 0..50 {
        let example = corpus.example(index).unwrap();
        let sequence = TrainSequence::from_example(&example, &TOKENIZER).unwrap();
        let pick = |wanted: bool| {
            let marked = sequence.tokens().iter().zip(sequence.targets_mask());
            let picked = marked.filter(|(_, target)| **target == wanted);
            picked.map(|(token, _)| *token).collect::<Vec<_>>()
        };
        let text = |answers: bool| -> String {
            let turns = example.turns.iter();
            let segments = turns.flat_map(|t| if answers { &t.answer } else { &t.given });
            segments
                .map(|segment| match segment {
                    dsv3_tokenizer::Segment::Special(special) => special.name(),
                    dsv3_tokenizer::Segment::Text(text) => text.as_str(),
                })
                .collect()
        };
        assert_eq!(TOKENIZER.decode(&pick(true)).unwrap(), text(true));
        assert_eq!(TOKENIZER.decode(&pick(false)).unwrap(), text(false));
        assert_eq!(sequence.target_count(), pick(true).len());
    }
}
