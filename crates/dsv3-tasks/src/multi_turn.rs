//! Questions that need an earlier one.

#[cfg(test)]
mod tests;
mod told;

use crate::columns;
use crate::conversation::{Conversation, Exchange};
use crate::counting::{occurrences, spell_counting};
use crate::dates::weekday_steps;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::facts::Fact;
use crate::names::{DAYS, fill};
use crate::question::plain_system;
use crate::units::{CONVERSIONS, Conversion, one};
use crate::words::WORDS;

/// Relations whose subject alone makes sense in "What about it?".
const FOLLOWED: [&str; 11] = [
    "capital",
    "country",
    "continent",
    "language",
    "symbol",
    "element",
    "opposite",
    "book",
    "painting",
    "music",
    "next_day",
];

const WHAT_ABOUT: [&str; 4] = [
    "What about {s}?",
    "And {s}?",
    "And what about {s}?",
    "Now the same for {s}.",
];

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let mut conversation = match draw.below(10) {
        0..=1 => sums(draw),
        2..=3 => facts(draw),
        4 => units(draw),
        5 => weekday(draw),
        6 => letters(draw),
        7 => told::list(draw),
        8 => told::numbers(draw),
        _ => told::person(draw),
    };
    conversation.system = plain_system(draw);
    conversation.into_example(Kind::MultiTurn, mode)
}

/// A wording of "the same for this".
fn what_about(subject: &str, draw: &mut Draw) -> String {
    fill(draw.pick(&WHAT_ABOUT), &[("s", subject)])
}

/// A sum, then things done to the result.
fn sums(draw: &mut Draw) -> Conversation {
    let (a, b) = (draw.between(2, 99), draw.between(2, 99));
    let first = draw.pick(&[
        "What is {a} + {b}?",
        "{a}+{b}=",
        "Add {a} and {b}.",
        "What is {a} plus {b}?",
    ]);
    let text = fill(first, &[("a", &a.to_string()), ("b", &b.to_string())]);
    let mut value = a + b;
    let mut id = format!("multi_turn/sums/{a}+{b}");
    let mut exchanges = vec![Exchange::new(text, columns::add(a, b), value.to_string())];
    for _ in 0..draw.between(1, 3) {
        let n = draw.between(2, 50);
        let (sign, n, wording, reasoning, next) = match draw.below(4) {
            0 => {
                let wording = draw.pick(&["Now double it.", "Double that.", "And twice that?"]);
                ('*', 2, wording, columns::multiply(value, 2), value * 2)
            }
            1 if n <= value => {
                let wordings = [
                    "Subtract {n} from that.",
                    "Now take {n} away.",
                    "And minus {n}?",
                ];
                (
                    '-',
                    n,
                    draw.pick(&wordings),
                    columns::subtract(value, n),
                    value - n,
                )
            }
            _ => {
                let wordings = ["Add {n} to that.", "Now add {n}.", "And plus {n}?"];
                (
                    '+',
                    n,
                    draw.pick(&wordings),
                    columns::add(value, n),
                    value + n,
                )
            }
        };
        value = next;
        id.push_str(&format!("{sign}{n}"));
        let text = fill(wording, &[("n", &n.to_string())]);
        exchanges.push(Exchange::new(text, reasoning, value.to_string()));
    }
    Conversation {
        id,
        exchanges,
        ..Conversation::default()
    }
}

/// A fact, then others of the same form.
fn facts(draw: &mut Draw) -> Conversation {
    let fact = Fact::draw_of(&FOLLOWED, draw);
    let mut subjects = vec![fact.subject];
    let question = fact.question(draw.below(fact.wordings()));
    let mut exchanges = vec![Exchange::new(question, fact.sentence(), fact.answer)];
    let count = draw.between(2, 4) as usize;
    while subjects.len() < count {
        let next = Fact::draw_of(&[fact.relation.name], draw);
        if !subjects.contains(&next.subject) {
            subjects.push(next.subject);
            let text = what_about(next.subject, draw);
            exchanges.push(Exchange::new(text, next.sentence(), next.answer));
        }
    }
    Conversation {
        id: format!(
            "multi_turn/facts/{}/{}",
            fact.relation.name,
            subjects.join(",")
        ),
        exchanges,
        ..Conversation::default()
    }
}

/// A conversion, then other amounts of the same, or the same amount in another unit.
fn units(draw: &mut Draw) -> Conversation {
    let first = draw.pick(&CONVERSIONS);
    let large = first.large.0;
    let others = CONVERSIONS.iter().filter(|other| other.large.0 == large);
    let other = others.copied().find(|other| other.small.0 != first.small.0);
    let other = other.filter(|_| draw.one_in(2));
    let count = draw.between(2, 3) as usize;
    let mut asked: Vec<(i64, Conversion)> = Vec::new();
    while asked.len() < count {
        match (other, asked.last()) {
            (Some(other), Some(&(n, _))) => {
                asked.push((n, other));
                break;
            }
            _ => {
                let n = draw.between(2, first.most.min(60));
                if asked.iter().all(|(old, _)| *old != n) {
                    asked.push((n, first));
                }
            }
        }
    }
    let mut id = format!("multi_turn/units/{large}");
    let mut exchanges = Vec::new();
    for (at, &(n, conversion)) in asked.iter().enumerate() {
        let (small, factor) = (conversion.small.0, conversion.factor);
        let from = format!("{n} {large}");
        let text = match (at, other) {
            (0, _) => format!("How many {small} are {from}?"),
            (_, None) => what_about(&from, draw),
            (_, Some(_)) => fill(
                draw.pick(&["And in {s}?", "And how many {s}?", "What is that in {s}?"]),
                &[("s", small)],
            ),
        };
        let answer = n * factor;
        let fact = format!("1 {} = {factor} {small}.", one(large));
        let reasoning = format!("{fact} {n}*{factor}={answer}. {answer}");
        exchanges.push(Exchange::new(text, reasoning, answer.to_string()));
        id.push_str(&format!("/{n} {small}"));
    }
    Conversation {
        id,
        exchanges,
        ..Conversation::default()
    }
}

/// Days counted on from a day, then from the answer.
fn weekday(draw: &mut Draw) -> Conversation {
    let mut today = draw.below(7);
    let name = DAYS.get(today).copied().unwrap_or_default();
    let mut id = format!("multi_turn/weekday/{name}/");
    let mut exchanges = Vec::new();
    for at in 0..draw.between(2, 4) {
        let n = draw.between(1, 10);
        let days = if n == 1 { "day" } else { "days" };
        let (text, back) = match draw.below(3) {
            _ if at == 0 => (
                format!("Today is {name}. What day is it in {n} {days}?"),
                false,
            ),
            0 => (format!("And {n} {days} before that?"), true),
            1 => (format!("And {n} {days} later?"), false),
            _ => (format!("And {n} {days} after that?"), false),
        };
        let (reasoning, answer) = weekday_steps(today, n, back);
        today = DAYS
            .iter()
            .position(|day| *day == answer)
            .unwrap_or_default();
        id.push_str(&format!("{}{n}", if back { '-' } else { '+' }));
        exchanges.push(Exchange::new(text, reasoning, answer));
    }
    Conversation {
        id,
        exchanges,
        ..Conversation::default()
    }
}

/// A letter of a word, then another letter of it or the same in another word.
fn letters(draw: &mut Draw) -> Conversation {
    let mut word = draw.pick(&WORDS);
    let mut letter = draw.pick(&word.chars().collect::<Vec<_>>());
    let mut id = format!("multi_turn/letters/{letter} in {word}");
    let mut text = format!("How many times does the letter {letter} occur in {word}?");
    let mut exchanges = Vec::new();
    let last = draw.between(1, 2);
    for turn in 0..=last {
        let answer = occurrences(word, letter).to_string();
        let reasoning = spell_counting(word, Some(letter));
        exchanges.push(Exchange::new(std::mem::take(&mut text), reasoning, answer));
        if turn == last {
            break;
        }
        if draw.one_in(2) {
            let others: Vec<char> = word.chars().filter(|&other| other != letter).collect();
            letter = draw.pick(&others);
            text = what_about(&format!("the letter {letter}"), draw);
            id.push_str(&format!(", {letter}"));
        } else {
            word = draw.pick(&WORDS);
            text = what_about(&format!("the word {word}"), draw);
            id.push_str(&format!(", {word}"));
        }
    }
    Conversation {
        id,
        exchanges,
        ..Conversation::default()
    }
}
