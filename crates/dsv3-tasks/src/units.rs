//! Metres to kilometres and the like.

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::fill;
use crate::question::{Question, plain_system};

/// A unit and the smaller one that it is a number of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conversion {
    /// Short and long name of the larger unit; time has long names alone.
    pub(crate) large: (&'static str, &'static str),
    /// Of the smaller unit.
    pub(crate) small: (&'static str, &'static str),
    /// How many of the smaller unit make one of the larger.
    pub(crate) factor: i64,
    /// The most of the larger unit that is asked for. Times 1000 is easy, times 24 is not.
    pub(crate) most: i64,
}

const fn conversion(
    large: (&'static str, &'static str),
    small: (&'static str, &'static str),
    factor: i64,
    most: i64,
) -> Conversion {
    Conversion {
        large,
        small,
        factor,
        most,
    }
}

const METRES: (&str, &str) = ("m", "metres");
const GRAMS: (&str, &str) = ("g", "grams");
const MINUTES: (&str, &str) = ("minutes", "minutes");
const DAYS: (&str, &str) = ("days", "days");

/// All of them; the first seven are decimal.
pub(crate) const CONVERSIONS: [Conversion; 13] = [
    conversion(("km", "kilometres"), METRES, 1000, 300),
    conversion(METRES, ("cm", "centimetres"), 100, 300),
    conversion(METRES, ("mm", "millimetres"), 1000, 100),
    conversion(("cm", "centimetres"), ("mm", "millimetres"), 10, 300),
    conversion(("kg", "kilograms"), GRAMS, 1000, 300),
    conversion(("l", "litres"), ("ml", "millilitres"), 1000, 300),
    conversion(("t", "tonnes"), ("kg", "kilograms"), 1000, 100),
    conversion(("hours", "hours"), MINUTES, 60, 30),
    conversion(MINUTES, ("seconds", "seconds"), 60, 30),
    conversion(DAYS, ("hours", "hours"), 24, 12),
    conversion(("weeks", "weeks"), DAYS, 7, 40),
    conversion(("years", "years"), ("months", "months"), 12, 25),
    conversion(("dozens", "dozens"), ("pieces", "pieces"), 12, 25),
];
const DECIMAL: usize = 7;

/// Answered by the number.
const NUMBER: [&str; 3] = [
    "How many {to} are {from}?",
    "How many {to} are there in {from}?",
    "How many {to} make {from}?",
];
/// Answered by the number and its unit.
const WITH_UNIT: [&str; 5] = [
    "Convert {from} to {to}.",
    "What is {from} in {to}?",
    "Give {from} in {to}.",
    "Write {from} in {to}.",
    "Change {from} into {to}.",
];

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    question(draw).into_example(Kind::Units, mode)
}

fn question(draw: &mut Draw) -> Question {
    let form = draw.below(6);
    // Halves of a kilometre are natural, halves of a week have no whole number of days.
    let choices = if form == 0 {
        DECIMAL
    } else {
        CONVERSIONS.len()
    };
    let conversion = draw.pick(CONVERSIONS.get(..choices).unwrap_or_default());
    let n = draw.between(2, conversion.most);
    let asked = Asked::draw(draw, form, n, conversion.factor);
    let long = draw.one_in(2);
    let name = |unit: (&'static str, &'static str)| if long { unit.1 } else { unit.0 };
    let (large, small) = (name(conversion.large), name(conversion.small));
    let (from, to) = asked.texts(large, small);
    let (wording, answer) = if draw.one_in(2) {
        (draw.pick(&NUMBER), asked.answer.to_string())
    } else {
        (draw.pick(&WITH_UNIT), format!("{} {to}", asked.answer))
    };
    // The short names name the task: how its units are written is wording.
    let (short_from, short_to) = asked.texts(conversion.large.0, conversion.small.0);
    Question {
        id: format!("units/{short_from}/{short_to}"),
        system: plain_system(draw),
        text: fill(wording, &[("from", &from), ("to", to)]),
        reasoning: format!(
            "1 {} = {} {small}. {} {answer}",
            one(large),
            conversion.factor,
            asked.steps
        ),
        answer,
    }
}

/// What is converted, before its units have names.
struct Asked {
    /// Of the larger unit, then of the smaller.
    given: (String, String),
    /// Whether the answer is in the larger unit.
    to_large: bool,
    steps: String,
    answer: i64,
}

impl Asked {
    fn draw(draw: &mut Draw, form: usize, n: i64, factor: i64) -> Self {
        let none = String::new();
        match form {
            0 => {
                let (n, tenths) = (n.min(99), draw.between(1, 9));
                let answer = (10 * n + tenths) * factor / 10;
                Asked {
                    given: (format!("{n}.{tenths}"), none),
                    to_large: false,
                    steps: format!("{n}.{tenths}*{factor}={answer}."),
                    answer,
                }
            }
            1 => {
                let (n, more) = (n.min(20), draw.between(2, factor - 1));
                let whole = n * factor;
                let answer = whole + more;
                Asked {
                    given: (n.to_string(), more.to_string()),
                    to_large: false,
                    steps: format!("{n}*{factor}={whole}. {whole}+{more}={answer}."),
                    answer,
                }
            }
            2 | 3 => Asked {
                given: (none, (n * factor).to_string()),
                to_large: true,
                steps: format!("{}/{factor}={n}.", n * factor),
                answer: n,
            },
            _ => Asked {
                given: (n.to_string(), none),
                to_large: false,
                steps: format!("{n}*{factor}={}.", n * factor),
                answer: n * factor,
            },
        }
    }

    /// What is given and the unit that is asked for.
    fn texts<'a>(&self, large: &'a str, small: &'a str) -> (String, &'a str) {
        let from = match (self.given.0.as_str(), self.given.1.as_str()) {
            ("", n) => format!("{n} {small}"),
            (n, "") => format!("{n} {large}"),
            (n, more) => format!("{n} {large} and {more} {small}"),
        };
        (from, if self.to_large { large } else { small })
    }
}

/// The singular of a unit's name.
pub(crate) fn one(unit: &str) -> &str {
    match unit.strip_suffix('s') {
        Some(one) if !one.is_empty() => one,
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, numbers, sample, thought, wanted};

    /// How much of the smallest unit of its kind each unit is.
    const SIZES: [(&[&str], i64); 16] = [
        (&["km", "kilometres"], 1_000_000),
        (&["m", "metres"], 1000),
        (&["cm", "centimetres"], 10),
        (&["mm", "millimetres"], 1),
        (&["t", "tonnes"], 1_000_000),
        (&["kg", "kilograms"], 1000),
        (&["g", "grams"], 1),
        (&["l", "litres"], 1000),
        (&["ml", "millilitres"], 1),
        (&["weeks"], 604_800),
        (&["days"], 86_400),
        (&["hours"], 3600),
        (&["minutes"], 60),
        (&["seconds", "months", "pieces"], 1),
        (&["years"], 12),
        (&["dozens"], 12),
    ];

    fn size(unit: &str) -> Option<i64> {
        SIZES
            .iter()
            .find(|(names, _)| names.contains(&unit))
            .map(|(_, size)| *size)
    }

    /// Breaks with: a wrong factor, units exchanged in a wording, an answer with a remainder.
    #[test]
    fn answers_are_right_in_the_smallest_unit() {
        for example in sample(Kind::Units, Mode::Think, 20_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            assert_eq!(wanted(turn), answer);
            assert!(reasoning.ends_with(&answer), "{reasoning}");
            let words: Vec<&str> = text
                .split([' ', '?'])
                .map(|w| w.trim_matches('.'))
                .collect();
            let mut given = 0.0;
            let mut target = None;
            for (at, word) in words.iter().enumerate() {
                let Some(size) = size(word) else { continue };
                match at
                    .checked_sub(1)
                    .and_then(|at| words[at].parse::<f64>().ok())
                {
                    Some(n) => given += n * size as f64,
                    None => target = Some((*word, size)),
                }
            }
            let (unit, size) = target.unwrap();
            let n = numbers(&answer)[0];
            assert_eq!((n * size) as f64, given.round(), "{text} {answer}");
            let with_unit = !text.starts_with("How many");
            let right = if with_unit {
                format!("{n} {unit}")
            } else {
                n.to_string()
            };
            assert_eq!(answer, right, "{text}");
        }
    }

    /// Breaks with: an id that differs with the wording of the units.
    #[test]
    fn long_and_short_names_are_one_task() {
        for example in sample(Kind::Units, Mode::Nothink, 2_000) {
            let long = SIZES
                .iter()
                .flat_map(|(names, _)| names.get(1))
                .filter(|n| n.ends_with("res"));
            for name in long {
                assert!(!example.id.contains(name), "{}", example.id);
            }
        }
    }
}
