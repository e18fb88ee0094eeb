//! The whole way from a set of tasks to a report, with models whose answers are known.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::LazyLock;

use common::{POSITIONS, Scripted, TOKENIZER, evaluate, ids, report, tokenizer};
use dsv3_eval::{BURIED_LENGTHS, EvalError, EvalSet, Prepared, Report, SetOptions, Task};
use dsv3_tasks::{Check, Example, Kind, Mode, Split, Turn, modes};
use dsv3_tokenizer::{Segment, Special, TokenId};

/// Room for all of them at once.
const CACHED: usize = 1 << 20;

fn options() -> SetOptions {
    SetOptions {
        count: 4,
        ..SetOptions::default()
    }
}

static SET: LazyLock<EvalSet> = LazyLock::new(|| EvalSet::new(&options()).unwrap());

/// Breaks with: a check that refuses a generator's own answer, segments encoded otherwise than in
/// training, a turn that begins in the wrong channel or does not follow what was written.
#[test]
fn every_kind_is_all_right_with_an_oracle() {
    let oracle = Scripted::oracle(&SET.tasks);
    let (prepared, outcomes) = evaluate(oracle, &SET.tasks, 32, CACHED);
    let report = report(&prepared, &outcomes);
    assert_eq!(report.failures, []);
    for kind in Kind::ALL {
        for mode in modes(kind) {
            let of = |s: &&dsv3_eval::Score| (s.kind, s.mode) == (kind, *mode);
            let score = report.scores.iter().find(of).unwrap();
            assert_eq!((score.rate.right, score.rate.count), (4, 4), "{score:?}");
        }
    }
    for detail in &report.details {
        assert_eq!(detail.rate.rate, 1.0, "{detail:?}");
    }
    let measures: Vec<&str> = report.details.iter().map(|d| d.measure.as_str()).collect();
    for measure in [
        "right tools and arguments",
        "asked when and only when needed",
        "no call where none fits",
        "turn 2 of several",
        "within 2048 tokens",
    ] {
        assert!(measures.contains(&measure), "{measure} in {measures:?}");
    }
    assert_eq!(report.tasks, SET.tasks.len());
    let answers = SET.tasks.iter().flat_map(|task| &task.example.turns);
    let written: usize = answers.map(|turn| ids(&turn.answer).len()).sum();
    assert_eq!(report.tokens, written);
}

/// An answer that is wrong by every measure: no call where one is needed, one where none is, and
/// so with searches.
fn wrong_answer(example: &Example, turn: &Turn) -> Vec<TokenId> {
    use Special as S;
    let control = |specials: &[S]| specials.iter().copied().map(Segment::Special).collect();
    let zq = || vec![Segment::Text("zq".into())];
    let no_call = !matches!(&turn.check, Check::ToolCalls { calls } if !calls.is_empty());
    let end: Vec<Segment> = match (example.kind, &turn.check) {
        (Kind::Tools, _) if no_call => control(&[
            S::ToolCallsBegin,
            S::ToolCallBegin,
            S::ToolSep,
            S::ToolCallEnd,
            S::ToolCallsEnd,
            S::Eos,
        ]),
        (Kind::Search, Check::Exact { .. }) => {
            [control(&[S::SearchBegin]), zq(), control(&[S::SearchEnd])].concat()
        }
        (_, Check::Raw { .. }) => control(&[S::Eos]),
        _ if example.mode == Mode::Think => {
            [control(&[S::ThinkEnd]), zq(), control(&[S::Eos])].concat()
        }
        _ => control(&[S::Eos]),
    };
    ids(&[zq(), end].concat())
}

/// Breaks with: a check that anything satisfies, or a turn that is counted as right because it
/// was never given.
#[test]
fn every_kind_is_all_wrong_with_a_model_that_errs() {
    let mut runner = Scripted::default();
    for Task { example, .. } in &SET.tasks {
        let turns = example.turns.iter();
        let answers: Vec<_> = turns.map(|turn| wrong_answer(example, turn)).collect();
        runner.tell(example, &answers);
    }
    let (prepared, outcomes) = evaluate(runner, &SET.tasks, 32, CACHED);
    for (task, outcome) in prepared.tasks.iter().zip(&outcomes) {
        let example = &task.task.example;
        assert_eq!(outcome.verdicts.len(), example.turns.len());
        for verdict in &outcome.verdicts {
            assert!(!verdict.right(), "{}: {verdict:?}", example.id);
        }
    }
    let report = report(&prepared, &outcomes);
    for score in &report.scores {
        assert_eq!(score.rate.right, 0, "{score:?}");
        // Two of four, as asked for.
        let of = |f: &&dsv3_eval::Failure| (f.kind, f.mode) == (score.kind, score.mode);
        assert_eq!(report.failures.iter().filter(of).count(), 2, "{score:?}");
    }
    for detail in &report.details {
        assert_eq!(detail.rate.right, 0, "{detail:?}");
    }
    for total in &report.totals {
        assert_eq!(total.rate.right, 0);
    }
    let failure = &report.failures[0];
    assert!(failure.got.contains("zq") && !failure.wrong.is_empty());
    assert!(
        failure.prompt.starts_with(Special::Bos.name()),
        "{failure:?}"
    );
    assert!(
        failure.expected.ends_with(Special::Eos.name()),
        "{failure:?}"
    );
}

/// Breaks with: outcomes in another order than the tasks, sequences that see each other, a cache
/// too small for all that deadlocks or changes an answer.
#[test]
fn outcomes_do_not_depend_on_how_many_run_at_once() {
    let tasks: Vec<Task> = SET.tasks.iter().step_by(3).cloned().collect();
    let half = |tasks: &[Task]| {
        let some: Vec<Task> = tasks.iter().step_by(2).cloned().collect();
        Scripted::oracle(&some)
    };
    let (prepared, alone) = evaluate(half(&tasks), &tasks, 1, CACHED);
    for (i, outcome) in alone.iter().enumerate().step_by(2) {
        assert!(outcome.right(), "{}", prepared.tasks[i].task.example.id);
    }
    let longest = prepared.longest().next_multiple_of(16);
    for (in_flight, cached) in [(7, CACHED), (64, CACHED), (64, longest), (64, 3 * longest)] {
        let (_, outcomes) = evaluate(half(&tasks), &tasks, in_flight, cached);
        assert!(outcomes == alone, "{in_flight} at once in {cached} tokens");
    }
}

/// Breaks with: an answer that goes on for ever and holds the evaluation up, or counts as right.
#[test]
fn an_answer_without_an_end_is_wrong() {
    let task = &SET.tasks[0];
    let mut runner = Scripted::default();
    runner.tell(&task.example, &[vec![u32::from(b'z'); 8192]]);
    let (_, outcomes) = evaluate(runner, std::slice::from_ref(task), 1, CACHED);
    assert_eq!(outcomes[0].tokens(), 4096);
    let wrong = outcomes[0].verdicts[0].wrong.as_deref();
    assert_eq!(wrong, Some("it did not end"));
}

/// Breaks with: tasks that differ from run to run, that the fingerprint misses, or that training
/// sees.
#[test]
fn the_same_options_give_the_same_tasks() {
    assert!(*SET == EvalSet::new(&options()).unwrap());
    let other = EvalSet::new(&SetOptions {
        seed: 2,
        ..options()
    });
    let other = other.unwrap();
    assert_ne!(other.fingerprint(), SET.fingerprint());
    for task in SET.tasks.iter().chain(&other.tasks) {
        assert_eq!(task.example.split, Split::HeldOut, "{}", task.example.id);
    }
    let some = EvalSet::new(&SetOptions {
        kinds: vec![Kind::Facts, Kind::Fim],
        modes: vec![Mode::Think],
        ..options()
    });
    let kinds: Vec<_> = some.unwrap().tasks.iter().map(|t| t.example.kind).collect();
    assert_eq!(kinds, [Kind::Facts; 4]);
    let none = EvalSet::new(&SetOptions {
        kinds: vec![Kind::Fim],
        modes: vec![Mode::Think],
        ..options()
    });
    assert!(matches!(none, Err(EvalError::Empty(_))));
}

fn curve_lengths(prepared: &Prepared) -> Vec<usize> {
    let mut lengths: Vec<_> = prepared
        .tasks
        .iter()
        .filter_map(|t| t.task.buried_length)
        .collect();
    lengths.dedup();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// Breaks with: a task cut off without a word, or a length that is scored by its short half.
#[test]
fn what_does_not_fit_is_named() {
    let buried: Vec<Task> = SET
        .tasks
        .iter()
        .filter(|t| t.buried_length.is_some())
        .cloned()
        .collect();
    let set = EvalSet { tasks: buried };
    let all = Prepared::new(&set, &TOKENIZER, POSITIONS, 64).unwrap();
    assert_eq!(curve_lengths(&all), BURIED_LENGTHS);
    let limit = all.longest() - 64 - 1; // one token of its expected answer has no room
    let fewer = Prepared::new(&set, &TOKENIZER, limit, 64).unwrap();
    assert_eq!(fewer.skipped_lengths, [2048]);
    assert_eq!(curve_lengths(&fewer), BURIED_LENGTHS[..4]);

    let error = Prepared::new(&SET, &TOKENIZER, 40, 64)
        .unwrap_err()
        .to_string();
    for part in ["arithmetic", "room for 40", "--context", "--kinds"] {
        assert!(error.contains(part), "{error}");
    }
    let error = Prepared::new(&set, &TOKENIZER, 40, 64).unwrap_err();
    assert!(matches!(error, EvalError::Empty(_)), "{error}");
}

/// Breaks with: a control token that a task needs found missing in the middle of the evaluation.
#[test]
fn a_missing_control_token_is_named_before_anything_runs() {
    let without: Vec<Special> = Special::ALL
        .into_iter()
        .filter(|special| *special != Special::SearchEnd)
        .collect();
    let error = Prepared::new(&SET, &tokenizer(&without), POSITIONS, 64);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("search") && error.contains("<｜search▁end｜>"),
        "{error}"
    );
    assert!(error.contains("--kinds"), "{error}");
}

/// Breaks with: JSON that does not hold what the report does.
#[test]
fn a_report_goes_round_as_json() {
    let tasks: Vec<Task> = SET.tasks.iter().take(8).cloned().collect();
    let oracle = Scripted::oracle(&tasks[..6]);
    let (prepared, outcomes) = evaluate(oracle, &tasks, 4, CACHED);
    let report = report(&prepared, &outcomes);
    assert_eq!(report.failures.len(), 2);
    let text = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back, report);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["model"], "scripted");
    assert_eq!(value["scores"][0]["kind"], "arithmetic");
    assert_eq!(value["scores"][0]["count"], 4);
    assert!(value["scores"][0]["high"].is_f64());
}
