//! What counts as right, turn by turn.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::TOKENIZER;
use dsv3_eval::{Verdict, Written, score};
use dsv3_tasks::Check;
use dsv3_tokenizer::{Mode, Special};
use serde_json::{Value, json};

fn verdict(check: &Check, stop: Special, mode: Mode, text: &str) -> Verdict {
    let ids = TOKENIZER.encode_with_special(text).unwrap();
    let last = ids.last().and_then(|id| TOKENIZER.special().special(*id));
    let ends = [Special::Eos, Special::Eot, Special::SearchEnd];
    let written = Written {
        ids: &ids,
        mode,
        ended: last.filter(|last| ends.contains(last)),
    };
    score(check, stop, written, &TOKENIZER).unwrap()
}

const EOS: &str = "<｜end▁of▁sentence｜>";

fn exact(answer: &str) -> Check {
    Check::Exact {
        answer: answer.into(),
    }
}

/// Breaks with: reasoning compared as answer, an answer that was cut off, or one with something
/// that nobody asked for.
#[test]
fn exact_answers() {
    let check = exact("42");
    let right = |mode, text: &str| verdict(&check, Special::Eos, mode, text).right();
    for text in [
        "so 41?</think>42<EOS>",
        "</think> 42\n<EOS>",
        "</think>42<|EOT|>",
    ] {
        let text = text.replace("<EOS>", EOS);
        assert!(right(Mode::Thinking, &text), "{text}");
    }
    assert!(right(Mode::NonThinking, &format!("42{EOS}")));
    for text in [
        "42<EOS>",
        "so 42</think>It is 42<EOS>",
        "</think>42",
        "</think>42.<EOS>",
        "</think>4 2<EOS>",
        "</think><EOS>",
        "</think>42</think><EOS>",
        "</think>42<｜search▁begin｜>x<｜search▁end｜>",
        "<｜search▁begin｜>x<｜search▁end｜></think>42<EOS>",
        "</think>42<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><EOS>",
        "</think>42<｜search▁begin｜>x<EOS>",
    ] {
        let text = text.replace("<EOS>", EOS);
        assert!(!right(Mode::Thinking, &text), "{text}");
    }
}

/// Breaks with: citations that are missing, too many, or that are read as part of the answer.
#[test]
fn answers_that_hold_something() {
    let check = Check::Contains {
        answer: "7".into(),
        citations: vec![1, 3],
    };
    let right = |text: &str| {
        let text = text.to_owned() + EOS;
        verdict(&check, Special::Eos, Mode::NonThinking, &text).right()
    };
    assert!(right("It is 7 [citation:3][citation:1]."));
    assert!(right("7[citation:1][citation:3]"));
    for text in [
        "It is 7.",
        "It is 7 [citation:1].",
        "It is 7 [citation:1][citation:2][citation:3].",
        "It is 17 [citation:1][citation:3].",
        "It is [citation:1][citation:3][citation:7].",
    ] {
        assert!(!right(text), "{text}");
    }
    let plain = Check::Contains {
        answer: "Paris".into(),
        citations: vec![],
    };
    let with = |text: &str| verdict(&plain, Special::Eos, Mode::NonThinking, text).right();
    assert!(with(&format!("It is Paris.{EOS}")));
    assert!(!with(&format!("It is Paris [citation:1].{EOS}")));
}

fn calls(calls: &[(&str, &str)]) -> String {
    let mut text = "<｜tool▁calls▁begin｜>".to_owned();
    for (name, arguments) in calls {
        text += &format!("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>");
    }
    text + "<｜tool▁calls▁end｜>" + EOS
}

/// Breaks with: calls in another order taken for right, arguments compared as text, or counts
/// that don't tell a wrong tool from wrong arguments from broken JSON.
#[test]
fn tool_calls() {
    let wanted: Vec<(String, Value)> = vec![
        ("f".into(), json!({"a": 1, "b": "x"})),
        ("g".into(), json!({})),
    ];
    let check = Check::ToolCalls { calls: wanted };
    let of = |list: &[(&str, &str)]| verdict(&check, Special::Eos, Mode::NonThinking, &calls(list));
    let good = of(&[("f", r#"{"b":"x", "a":1.0}"#), ("g", "{}")]);
    assert!(good.right(), "{good:?}");
    assert_eq!(
        (good.calls, good.valid_calls, good.right_tools),
        (2, 2, true)
    );

    let arguments = of(&[("f", r#"{"b":"y", "a":1}"#), ("g", "{}")]);
    assert!(!arguments.right() && arguments.right_tools, "{arguments:?}");
    let broken = of(&[("f", r#"{"b":"x", "a":1}"#), ("g", "{")]);
    assert!(!broken.right() && broken.right_tools, "{broken:?}");
    assert_eq!((broken.calls, broken.valid_calls), (2, 1));
    for list in [
        &[("g", "{}"), ("f", r#"{"a":1,"b":"x"}"#)][..],
        &[("f", r#"{"a":1,"b":"x"}"#)],
        &[("f", r#"{"a":1,"b":"x"}"#), ("g", "{}"), ("g", "{}")],
        &[],
    ] {
        let wrong = of(list);
        assert!(!wrong.right() && !wrong.right_tools, "{list:?}");
    }
    let cut = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\":1".to_owned() + EOS;
    let cut = verdict(&check, Special::Eos, Mode::NonThinking, &cut);
    assert!(!cut.right() && !cut.right_tools, "{cut:?}");
    assert_eq!((cut.calls, cut.valid_calls), (1, 0));

    let none = Check::ToolCalls { calls: vec![] };
    let of = |text: &str| verdict(&none, Special::Eos, Mode::NonThinking, text);
    assert!(of(&format!("None of these fits.{EOS}")).right());
    let called = of(&calls(&[("f", "{}")]));
    assert!(!called.right() && called.calls == 1, "{called:?}");
}

/// Breaks with: a search that is not asked taken for one, or the other way round.
#[test]
fn searches() {
    let check = Check::Search {
        query: "Mayor of Elmsworth".into(),
    };
    let of = |text: &str| verdict(&check, Special::SearchEnd, Mode::Thinking, text);
    let right = of("I can't know.<｜search▁begin｜> mayor of elmsworth <｜search▁end｜>");
    assert!(right.right() && right.searches == 1, "{right:?}");
    let other = of("<｜search▁begin｜>elmsworth<｜search▁end｜>");
    assert!(!other.right() && other.searches == 1, "{other:?}");
    for text in ["</think>Anna Reed<EOS>", "mayor of elmsworth", "<EOS>"] {
        let none = of(&text.replace("<EOS>", EOS));
        assert!(!none.right() && none.searches == 0, "{none:?}");
    }
    let cut = of("<｜search▁begin｜>mayor of elms");
    assert!(!cut.right() && cut.searches == 1, "{cut:?}");
    let two = of(
        "<｜search▁begin｜>a<｜search▁end｜>b<｜search▁begin｜>mayor of elmsworth<｜search▁end｜>",
    );
    assert!(!two.right(), "{two:?}");

    let answered = exact("Anna Reed");
    let asked = "<｜search▁begin｜>x<｜search▁end｜>";
    let asked = verdict(&answered, Special::Eos, Mode::Thinking, asked);
    assert!(!asked.right() && asked.searches == 1, "{asked:?}");
    assert!(asked.wrong.unwrap().contains("asked for a search"));
}

/// Breaks with: code whose spaces don't count, or control tokens parsed where nothing is parsed.
#[test]
fn raw_text_is_compared_to_the_letter() {
    let check = Check::Raw {
        text: "    return a + b\n".into(),
    };
    let right = |text: &str| verdict(&check, Special::Eos, Mode::NonThinking, text).right();
    assert!(right(&format!("    return a + b\n{EOS}")));
    assert!(right("    return a + b\n<|EOT|>"));
    assert!(!right(&format!("return a + b\n{EOS}")));
    assert!(!right(&format!("    return a + b{EOS}")));
    assert!(!right("    return a + b\n"));
    assert!(!right(&format!("</think>    return a + b\n{EOS}")));
}
