//! A system instruction that changes the answer.
//!
//! The same question under another instruction has another answer, so the instruction has to be
//! read. The reasoning finds the plain answer and then says it as told.

mod language;
mod style;
mod unit;

use crate::columns;
use crate::comparing;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::facts::Fact;

/// A question with its plain answer.
#[derive(Debug, Clone, Default)]
struct Plain {
    /// Part of the id.
    key: String,
    text: String,
    /// How the plain answer is found.
    steps: String,
    answer: String,
    /// The answer as a whole sentence, where it has one.
    sentence: String,
}

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let question = match draw.below(8) {
        0..=1 => language::question(draw),
        2 => unit::question(draw),
        _ => style::question(draw),
    };
    question.into_example(Kind::System, mode)
}

/// A fact as a question.
fn fact(fact: Fact, draw: &mut Draw) -> Plain {
    Plain {
        key: format!("{}/{}", fact.relation.name, fact.subject),
        text: fact.question(draw.below(fact.wordings())),
        steps: fact.sentence(),
        answer: fact.answer.to_owned(),
        sentence: fact.sentence(),
    }
}

/// A sum or a difference from 0 to `most`.
fn sum(draw: &mut Draw, most: i64) -> Plain {
    let whole = draw.between(1, most);
    let part = draw.between(0, whole);
    let rest = whole - part;
    let (a, sign, word, b, answer) = if draw.one_in(3) {
        (whole, '-', "minus", part, rest)
    } else {
        (part, '+', "plus", rest, whole)
    };
    let text = match draw.below(3) {
        0 => format!("What is {a} {sign} {b}?"),
        1 => format!("What is {a} {word} {b}?"),
        _ => format!("{a}{sign}{b}="),
    };
    Plain {
        key: format!("{a}{sign}{b}"),
        text,
        // The same algorithm as everywhere: two ways of adding would be one too many.
        steps: if sign == '+' {
            columns::add(a, b) + "."
        } else {
            columns::subtract(a, b) + "."
        },
        answer: answer.to_string(),
        sentence: format!("{a} {word} {b} is {answer}."),
    }
}

/// A question that is answered by yes or no.
fn yes_or_no(draw: &mut Draw) -> Plain {
    let a = draw.between(1, 99);
    let b = (a + draw.between(1, 98) - 1) % 99 + 1;
    let (word, yes) = if draw.one_in(2) {
        ("larger", a > b)
    } else {
        ("smaller", a < b)
    };
    let (x, y) = (format!("{a:02}"), format!("{b:02}"));
    let mut digits = format!("{x} {y}:");
    comparing::compare(&x, &y, &mut digits);
    let answer = if yes { "yes" } else { "no" };
    Plain {
        key: format!("{a} {word} than {b}"),
        text: format!("Is {a} {word} than {b}?"),
        steps: format!("{digits} {word}? {answer}."),
        answer: answer.to_owned(),
        sentence: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::facts;
    use crate::testing::{asked, equations, numbers, sample, system, thought, wanted};

    /// The plain answer to a question of this kind, found from the question alone.
    fn plain(text: &str) -> Option<String> {
        let given = numbers(text);
        let [a, b] = given[..] else { return None };
        Some(match text {
            _ if text.starts_with("Is ") => {
                let yes = (a > b) == text.contains("larger");
                if yes { "yes" } else { "no" }.to_owned()
            }
            _ if text.contains('+') || text.contains("plus") => (a + b).to_string(),
            _ if text.contains('-') || text.contains("minus") => (a - b).to_string(),
            _ => return None,
        })
    }

    /// Breaks with: an instruction that the answer does not follow, a wrong plain answer below it.
    #[test]
    fn answers_follow_the_instruction() {
        let mut languages = 0;
        for example in sample(Kind::System, Mode::Think, 20_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            let told = system(&example);
            assert_eq!(wanted(turn), answer);
            assert!(!told.is_empty());
            equations(&reasoning);
            assert!(reasoning.ends_with(&answer), "{reasoning} | {answer}");
            let ends = |mark: char| answer.ends_with(mark);
            assert_eq!(ends('!'), told.contains("exclamation"), "{told} {answer}");
            if told.contains("full stop") {
                assert!(ends('.'), "{told} {answer}");
            }
            if told.contains("apital letters") {
                assert_eq!(answer, answer.to_uppercase());
            }
            if told.contains("one word") {
                assert!(!answer.contains(' '), "{answer}");
            }
            if told.contains("sentence") {
                assert!(answer.contains(' ') && answer.len() > 10, "{answer}");
            }
            for title in ["Captain", "Doctor", "Professor", "Boss", "Chef", "Coach"] {
                assert_eq!(
                    told.contains(title),
                    answer.contains(title),
                    "{told} {answer}"
                );
            }
            let words = told.contains("as words") || told.contains("in words");
            let Some(plain) = plain(&text) else { continue };
            if ["German", "French", "Spanish", "English"]
                .iter()
                .any(|name| told.contains(name))
            {
                languages += 1;
                assert!(
                    !answer.contains(|c: char| c.is_ascii_digit()),
                    "{told} {answer}"
                );
            } else if words {
                assert!(reasoning.contains(&format!(" {plain}.")), "{reasoning}");
                assert!(
                    !answer.contains(|c: char| c.is_ascii_digit()),
                    "{told} {answer}"
                );
            } else {
                assert!(answer.to_lowercase().contains(&plain), "{text} {answer}");
            }
        }
        assert!(languages > 1000, "{languages}");
    }

    /// Breaks with: a fact that gets lost on the way to the written answer.
    #[test]
    fn facts_stay_facts() {
        let mut found = 0;
        for example in sample(Kind::System, Mode::Nothink, 20_000) {
            let parts: Vec<&str> = example.id.split('/').collect();
            let [_, style, relation, subject] = parts[..] else {
                continue;
            };
            let fact =
                facts::all().find(|fact| fact.relation.name == relation && fact.subject == subject);
            let Some(fact) = fact else { continue };
            let answer = wanted(&example.turns[0]);
            if !["German", "French", "Spanish"].contains(&style) {
                let answer = answer.to_lowercase();
                assert!(answer.contains(&fact.answer.to_lowercase()), "{answer}");
            }
            found += 1;
        }
        assert!(found > 5_000, "{found}");
    }

    /// Breaks with: an instruction that is not part of the id, two answers to one task.
    #[test]
    fn the_instruction_decides_the_answer() {
        let mut answers: HashMap<(String, String), String> = HashMap::new();
        let mut by_question: HashMap<String, Vec<String>> = HashMap::new();
        for example in sample(Kind::System, Mode::Nothink, 20_000) {
            let turn = &example.turns[0];
            let key = (system(&example), asked(turn));
            let answer = wanted(turn);
            let old = answers.insert(key, answer.clone());
            assert!(old.is_none_or(|old| old == answer));
            let known = by_question.entry(asked(turn)).or_default();
            if !known.contains(&answer) {
                known.push(answer);
            }
        }
        let several = by_question
            .values()
            .filter(|answers| answers.len() > 2)
            .count();
        assert!(
            several > 300,
            "{several} questions with three answers or more"
        );
    }
}
