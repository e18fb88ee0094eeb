//! Which of some numbers is the largest or the smallest.
//!
//! The reasoning names the numbers by letters and keeps the best so far. Two numbers are held
//! side by side digit by digit, since a whole comparison is too much for one step, and what is
//! looked for stands between the sign and the number that it decides on:
//! `max. a34 b78 c71. a34 b78: 3<7 max b78 c71: 7=7 8>1 max b78`

use std::cmp::Ordering;
use std::fmt::Write;

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::fill;
use crate::question::{Question, listed, plain_system};

const OF_TWO: [&str; 5] = [
    "Which is {er}, {list}?",
    "Which number is {er}: {list}?",
    "Which of the two is {er}, {list}?",
    "What is the {er} of {pair}?",
    "Which is the {er} one, {list}?",
];
const OF_MORE: [&str; 6] = [
    "Which of these numbers is the {est}: {numbers}?",
    "What is the {est} of {numbers}?",
    "Find the {est} number: {numbers}.",
    "Which is the {est} of {numbers}?",
    "Pick the {est} of these: {numbers}.",
    "Here are some numbers: {numbers}. Which one is the {est}?",
];

/// Words for the larger and for the smaller, of two and of more.
const LARGER: [(&str, &str); 3] = [
    ("larger", "largest"),
    ("bigger", "biggest"),
    ("greater", "greatest"),
];
const SMALLER: [(&str, &str); 2] = [("smaller", "smallest"), ("smaller", "smallest")];

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    question(draw).into_example(Kind::Comparing, mode)
}

fn question(draw: &mut Draw) -> Question {
    let count = draw.pick(&[2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    let numbers = if draw.one_in(3) {
        decimals(draw, count)
    } else {
        integers(draw, count)
    };
    let largest = draw.one_in(2);
    let (er, est) = if largest {
        draw.pick(&LARGER)
    } else {
        draw.pick(&SMALLER)
    };
    let wording = if count == 2 {
        draw.pick(&OF_TWO)
    } else {
        draw.pick(&OF_MORE)
    };
    let text = fill(
        wording,
        &[
            ("er", er),
            ("est", est),
            ("list", &listed(&numbers, "or")),
            ("pair", &listed(&numbers, "and")),
            (
                "numbers",
                &listed(&numbers, if draw.one_in(2) { "and" } else { "" }),
            ),
        ],
    );
    let (reasoning, answer) = compare_all(&numbers, largest);
    let mut sorted = numbers;
    sorted.sort();
    let what = if largest { "largest" } else { "smallest" };
    Question {
        id: format!("comparing/{what}/{}", sorted.join(",")),
        system: plain_system(draw),
        text,
        reasoning,
        answer,
    }
}

/// Different whole numbers: far apart, or of the same length with the same beginning.
fn integers(draw: &mut Draw, count: usize) -> Vec<String> {
    // Six numbers of five digits would make the reasoning longer than 250 tokens.
    let longest = if count > 4 { 4 } else { 5 };
    let digits = draw.between(2, longest);
    let high = 10_i64.pow(digits as u32);
    match draw.below(4) {
        0 => different(draw, count, |draw| {
            let high = 10_i64.pow(draw.between(1, digits) as u32);
            draw.between(high / 10, high - 1).to_string()
        }),
        1 => different(draw, count, |draw| {
            draw.between(high / 10, high - 1).to_string()
        }),
        _ => {
            let spread = if digits == 2 {
                10
            } else {
                draw.pick(&[10, 100])
            };
            let base = draw.between(high / 10, high - 1) / spread * spread;
            different(draw, count, |draw| {
                (base + draw.between(0, spread - 1)).to_string()
            })
        }
    }
}

/// Different numbers with one to three decimals, whole parts of one length.
fn decimals(draw: &mut Draw, count: usize) -> Vec<String> {
    // Six numbers of five digits would make the reasoning longer than 250 tokens.
    let ranges = [(0, 9), (0, 9), (10, 99)];
    let (low, high) = draw.pick(&ranges[..if count > 4 { 2 } else { 3 }]);
    let base = draw.between(low, high);
    let spread = draw.pick(&[0, 0, 1]);
    different(draw, count, |draw| {
        let whole = draw.between(base, (base + spread).min(high));
        let last = draw.between(1, 9);
        match draw.pick(&[0, 1, 1, 2]) {
            0 => format!("{whole}.{last}"),
            1 => format!("{whole}.{}{last}", draw.between(0, 9)),
            _ => format!("{whole}.{:02}{last}", draw.between(0, 99)),
        }
    })
}

/// So many different texts. No text has a trailing zero after a point, so different is unequal.
fn different(
    draw: &mut Draw,
    count: usize,
    mut number: impl FnMut(&mut Draw) -> String,
) -> Vec<String> {
    let mut numbers: Vec<String> = Vec::with_capacity(count);
    while numbers.len() < count {
        let next = number(draw);
        if !numbers.contains(&next) {
            numbers.push(next);
        }
    }
    numbers
}

/// The reasoning and the answer.
pub(crate) fn compare_all(numbers: &[String], largest: bool) -> (String, String) {
    let mut items = ('a'..).zip(numbers);
    let goal = if largest { "max" } else { "min" };
    let mut text = format!("{goal}. ");
    if numbers.len() > 2 {
        for (letter, number) in items.clone() {
            let _ = write!(text, "{letter}{number} ");
        }
        text.pop();
        text.push_str(". ");
    }
    let Some(mut best) = items.next() else {
        return Default::default();
    };
    let _ = write!(text, "{}{}", best.0, best.1);
    for next in items {
        let _ = write!(text, " {}{}:", next.0, next.1);
        let order = compare(best.1, next.1, &mut text);
        let wanted = if largest {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        if order == wanted {
            best = next;
        }
        let _ = write!(text, " {goal} {}{}", best.0, best.1);
    }
    (text, best.1.clone())
}

/// Compares two numbers in writing: their lengths if these differ, else digit by digit up to the
/// first that differs. A decimal that has ended goes on with zeros.
pub(crate) fn compare(a: &str, b: &str, text: &mut String) -> Ordering {
    let whole = |number: &str| number.find('.').unwrap_or(number.len());
    if whole(a) != whole(b) {
        let order = whole(a).cmp(&whole(b));
        let _ = write!(text, " {}{}{} digits", whole(a), sign(order), whole(b));
        return order;
    }
    let digits = |number: &str| {
        let digits: Vec<char> = number.chars().filter(|&c| c != '.').collect();
        digits.into_iter().chain(std::iter::repeat('0'))
    };
    for (x, y) in digits(a).zip(digits(b)).take(a.len().max(b.len())) {
        let order = x.cmp(&y);
        let _ = write!(text, " {x}{}{y}", sign(order));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn sign(order: Ordering) -> char {
    match order {
        Ordering::Less => '<',
        Ordering::Equal => '=',
        Ordering::Greater => '>',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, sample, thought, wanted};

    /// The numbers of a text as texts, decimals whole.
    fn written(text: &str) -> Vec<&str> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.')
            .map(|part| part.trim_matches('.'))
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// Breaks with: a comparison by text (9.11 over 9.9), a wording for the other end, a best so
    /// far that is not kept.
    #[test]
    fn answers_are_right() {
        for example in sample(Kind::Comparing, Mode::Think, 20_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            let numbers = written(&text);
            assert!((2..=6).contains(&numbers.len()), "{text}");
            let value = |number: &&&str| (number.parse::<f64>().unwrap() * 1000.0).round() as i64;
            let right = if text.contains("small") {
                numbers.iter().min_by_key(value)
            } else {
                assert!(["larg", "bigg", "great"].iter().any(|w| text.contains(w)));
                numbers.iter().max_by_key(value)
            };
            assert_eq!(Some(&answer.as_str()), right, "{text}");
            assert_eq!(wanted(turn), answer);
            assert_eq!(written(&reasoning).last(), right, "{reasoning}");
            let goal = if text.contains("small") {
                " min "
            } else {
                " max "
            };
            assert_eq!(reasoning.matches(goal).count(), numbers.len() - 1);
        }
    }

    /// Breaks with: a change of the form that the committed model was trained to reason in.
    #[test]
    fn reasoning_reads_as_documented() {
        let numbers = ["34", "78", "71"].map(str::to_owned);
        let (reasoning, answer) = compare_all(&numbers, true);
        assert_eq!(
            reasoning,
            "max. a34 b78 c71. a34 b78: 3<7 max b78 c71: 7=7 8>1 max b78"
        );
        assert_eq!(answer, "78");
        let (reasoning, answer) = compare_all(&["9.11", "9.9"].map(str::to_owned), true);
        assert_eq!(
            (reasoning.as_str(), answer.as_str()),
            ("max. a9.11 b9.9: 9=9 1<9 max b9.9", "9.9")
        );
        let (reasoning, _) = compare_all(&["9.1", "9.12"].map(str::to_owned), false);
        assert_eq!(reasoning, "min. a9.1 b9.12: 9=9 1=1 0<2 min a9.1");
        let (reasoning, _) = compare_all(&["521", "4832"].map(str::to_owned), false);
        assert_eq!(reasoning, "min. a521 b4832: 3<4 digits min a521");
    }
}
