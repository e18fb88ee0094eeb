//! Every turn's answer, found from what the user said.

use super::*;
use crate::example::Turn;
use crate::facts;
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
        "facts" => {
            let first = facts::all()
                .find(|fact| (0..fact.wordings()).any(|n| fact.question(n) == texts[0]))?;
            let asked = |fact: &facts::Fact| {
                let word = format!(" {}", fact.subject);
                fact.relation.name == first.relation.name
                    && last.trim_end_matches(['?', '.']).ends_with(&word)
            };
            if turns.len() == 1 {
                return Some(first.answer.to_owned());
            }
            facts::all().find(asked).map(|fact| fact.answer.to_owned())
        }
        "letters" => {
            let (mut letter, mut word) = ("", "");
            for text in &texts {
                let words: Vec<&str> = text.split([' ', '?', '.']).collect();
                for pair in words.windows(2) {
                    match pair[0] {
                        "letter" => letter = pair[1],
                        "word" | "in" => word = pair[1],
                        _ => {}
                    }
                }
            }
            Some(word.matches(letter).count().to_string())
        }
        "units" => {
            let unit = |text: &str| {
                let words: Vec<&str> = text.split([' ', '?', '.']).collect();
                CONVERSIONS
                    .iter()
                    .map(|conversion| conversion.small.0)
                    .find(|name| words.contains(name))
            };
            let n = *numbers(texts.iter().rfind(|text| !numbers(text).is_empty())?).first()?;
            let large = texts[0].split([' ', '?']).nth_back(1)?;
            let small = match unit(last) {
                Some(small) if given.is_empty() => small,
                _ => unit(&texts[0])?,
            };
            let factor = CONVERSIONS
                .iter()
                .find(|c| c.large.0 == large && c.small.0 == small)?
                .factor;
            Some((n * factor).to_string())
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
    assert!(found > 24_000, "{found} answers checked");
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
