//! Questions that need an earlier one.

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

/// Letters of a word, one after the other, or one letter in several words.
fn letters(draw: &mut Draw) -> Conversation {
    let word = draw.pick(&WORDS);
    let letter = draw.pick(&word.chars().collect::<Vec<_>>());
    let mut id = format!("multi_turn/letters/{letter} in {word}");
    let counted = |text: String, word: &str, letter: char| {
        let reasoning = spell_counting(word, Some(letter));
        Exchange::new(text, reasoning, occurrences(word, letter).to_string())
    };
    let text = format!("How many times does the letter {letter} occur in {word}?");
    let mut exchanges = vec![counted(text, word, letter)];
    for _ in 0..draw.between(1, 2) {
        if draw.one_in(2) {
            let other = draw.pick(&word.chars().collect::<Vec<_>>());
            id.push_str(&format!(", {other}"));
            let text = what_about(&format!("the letter {other}"), draw);
            exchanges.push(counted(text, word, other));
            // The word or the letter changes, not both: "what about" has to say which.
            break;
        }
        let other = draw.pick(&WORDS);
        id.push_str(&format!(", {other}"));
        let text = what_about(&format!("the word {other}"), draw);
        exchanges.push(counted(text, other, letter));
    }
    Conversation {
        id,
        exchanges,
        ..Conversation::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Turn;
    use crate::testing::{asked, equations, numbers, said, sample, thought, wanted};

    /// The answer to a question of a conversation, found from what was said before it.
    fn right(kind: &str, turns: &[Turn], before: &str) -> Option<String> {
        let texts: Vec<String> = turns.iter().map(asked).collect();
        let last = texts.last()?;
        let words: Vec<&str> = last.split([' ', '?', '.', ',']).collect();
        let given = numbers(last);
        match kind {
            "sums" if turns.len() == 1 => Some((given[0] + given[1]).to_string()),
            "sums" => {
                let value: i64 = before.parse().unwrap();
                Some(match given[..] {
                    [] => (2 * value).to_string(),
                    [n] if ["Subtract", "take", "minus"]
                        .iter()
                        .any(|w| last.contains(w)) =>
                    {
                        (value - n).to_string()
                    }
                    [n] => (value + n).to_string(),
                    _ => return None,
                })
            }
            "list" if turns.len() > 1 => {
                let (_, list) = texts[0]
                    .split_once([':'])
                    .or_else(|| texts[0].split_once(" are"))?;
                let list: Vec<&str> = list.trim_matches([' ', '.']).split(", ").collect();
                if words.contains(&"last") {
                    return list.last().map(|word| (*word).to_owned());
                }
                let ordinals = ["first", "second", "third", "fourth", "fifth", "sixth"];
                let at = ordinals.iter().position(|word| words.contains(word))?;
                Some(list[at].to_owned())
            }
            "numbers" if turns.len() > 1 => {
                let mut sorted = numbers(&texts[0]);
                sorted.sort_unstable();
                let all = |sorted: &[i64]| {
                    let texts: Vec<String> = sorted.iter().map(i64::to_string).collect();
                    texts.join(", ")
                };
                if words.contains(&"largest") {
                    return sorted.last().map(i64::to_string);
                }
                if words.contains(&"smallest") {
                    return sorted.first().map(i64::to_string);
                }
                if words.contains(&"descending") {
                    sorted.reverse();
                }
                Some(all(&sorted))
            }
            "weekday" => {
                let from = if turns.len() == 1 { last } else { before };
                let from = DAYS.iter().position(|day| from.contains(day))? as i64;
                let sign = if words.contains(&"before") { -1 } else { 1 };
                let at = (from + sign * given[0]).rem_euclid(7) as usize;
                Some(DAYS[at].to_owned())
            }
            "told" => {
                let about = ["name", "cat", "dog", "colour", "live", "old", "number"]
                    .into_iter()
                    .find(|about| last.ends_with('?') && words.contains(about))?;
                let statement = texts
                    .iter()
                    .flat_map(|text| text.split_inclusive('.'))
                    .find(|sentence| sentence.contains(about) && sentence.ends_with('.'))?;
                let statement = statement
                    .trim_matches(['.', ' '])
                    .trim_end_matches(" years old");
                Some(statement.rsplit(' ').next()?.to_owned())
            }
            _ => None,
        }
    }

    /// Breaks with: a later turn that refers to another thing than its answer is about.
    #[test]
    fn answers_are_right_in_every_turn() {
        let mut found = 0;
        for example in sample(Kind::MultiTurn, Mode::Nothink, 10_000) {
            let kind = example.id.split('/').nth(1).unwrap();
            assert!((2..=7).contains(&example.turns.len()), "{}", example.id);
            for at in 0..example.turns.len() {
                let turns = &example.turns[..=at];
                let before = at
                    .checked_sub(1)
                    .map(|at| said(&turns[at]))
                    .unwrap_or_default();
                let answer = said(&turns[at]);
                assert_eq!(answer, wanted(&turns[at]));
                if let Some(right) = right(kind, turns, &before) {
                    assert_eq!(answer, right, "{} turn {at}", example.id);
                    found += 1;
                }
            }
        }
        assert!(found > 12_000, "{found} answers checked");
    }

    /// Breaks with: reasoning for another turn than the last, or a wrong step in it.
    #[test]
    fn reasoning_leads_to_the_answer() {
        for example in sample(Kind::MultiTurn, Mode::Think, 10_000) {
            let [turn] = example.turns.as_slice() else {
                panic!("one turn with thinking: {}", example.id)
            };
            let (reasoning, answer) = thought(turn);
            assert_eq!(answer, wanted(turn));
            if !["capital", "order", "scending"]
                .iter()
                .any(|w| example.id.contains(w))
            {
                assert!(reasoning.contains(&answer), "{reasoning} | {answer}");
            }
            if !example.id.contains("/numbers/") {
                equations(&reasoning);
            }
        }
    }
}
