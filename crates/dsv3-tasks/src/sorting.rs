//! Numbers or words in order.
//!
//! The reasoning takes the first of what is left, again and again. Numbers have a letter each, so
//! that one can be left out by its name, and zeros in front, so that they compare digit by digit:
//! `a031 b112 c104 min 031a; b112 c104 min 104c; b112 min 112b`. Words become numbers first, by the
//! places of their first two letters in the alphabet:
//! `a river r18 i09, b apple a01 p16. a1809 b0116 min 0116b apple; a1809 min 1809a river`.

use std::fmt::Write;

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::fill;
use crate::question::{Question, listed, plain_system};
use crate::words::WORDS;

const NUMBERS: [&str; 6] = [
    "Sort these numbers {order}: {list}.",
    "Put these numbers in {adjective} order: {list}.",
    "Sort {list} {order}.",
    "Write these numbers {order}: {list}.",
    "Order these numbers {order}: {list}.",
    "Arrange {list} in {adjective} order.",
];
const NUMBER_WORDS: [(&str, &str); 2] = [
    ("from smallest to largest", "ascending"),
    ("from largest to smallest", "descending"),
];
const ALPHABET: [&str; 6] = [
    "Sort these words alphabetically: {list}.",
    "Put these words in alphabetical order: {list}.",
    "Sort {list} alphabetically.",
    "Write these words in alphabetical order: {list}.",
    "Order these words from A to Z: {list}.",
    "Arrange {list} in alphabetical order.",
];

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let question = if draw.one_in(4) {
        words(draw)
    } else {
        numbers(draw)
    };
    question.into_example(Kind::Sorting, mode)
}

fn numbers(draw: &mut Draw) -> Question {
    let digits = draw.pick(&[2, 3]);
    // Seven numbers of three digits would make the reasoning longer than 250 tokens.
    let count = draw.between(4, if digits == 2 { 7 } else { 6 }) as usize;
    let mixed = draw.one_in(3);
    let mut numbers: Vec<i64> = Vec::with_capacity(count);
    while numbers.len() < count {
        let digits = if mixed {
            draw.between(digits - 1, digits)
        } else {
            digits
        };
        let high = 10_i64.pow(digits as u32);
        let next = draw.between(high / 10, high - 1);
        if !numbers.contains(&next) {
            numbers.push(next);
        }
    }
    let descending = draw.one_in(3);
    let (order, adjective) = NUMBER_WORDS[usize::from(descending)];
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let text = fill(
        draw.pick(&NUMBERS),
        &[
            ("order", order),
            ("adjective", adjective),
            (
                "list",
                &listed(&texts, if draw.one_in(2) { "and" } else { "" }),
            ),
        ],
    );
    let reasoning = select_numbers(&numbers, descending);
    numbers.sort_unstable();
    let sorted = joined(&numbers);
    if descending {
        numbers.reverse();
    }
    Question {
        id: format!("sorting/{adjective}/{}", sorted.replace(' ', "")),
        system: plain_system(draw),
        text,
        reasoning,
        answer: joined(&numbers),
    }
}

pub(crate) fn joined(numbers: &[i64]) -> String {
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    texts.join(", ")
}

/// The smallest of what is left, or the largest, until nothing is left.
pub(crate) fn select_numbers(numbers: &[i64], descending: bool) -> String {
    let width = numbers.iter().max().map_or(0, |n| n.to_string().len());
    let mut left: Vec<(i64, char)> = numbers.iter().copied().zip('a'..).collect();
    let mut text = String::new();
    while let Some(&(number, letter)) = if descending {
        left.iter().max()
    } else {
        left.iter().min()
    } {
        for (number, letter) in &left {
            let _ = write!(text, "{letter}{number:0width$} ");
        }
        let word = if descending { "max" } else { "min" };
        let _ = write!(text, "{word} {number:0width$}{letter}; ");
        left.retain(|&(_, other)| other != letter);
    }
    text.truncate(text.trim_end_matches([';', ' ']).len());
    text
}

fn words(draw: &mut Draw) -> Question {
    let count = draw.between(4, 5) as usize;
    let mut words: Vec<&str> = Vec::with_capacity(count);
    // Two words with the same first letter are as frequent as the word list makes them, which is
    // seldom; the second letter should matter more often. All words in q begin with qu,
    // so this is tried a few times and then left.
    let mut same_first = if draw.one_in(2) { 100 } else { 0 };
    while words.len() < count {
        let next = draw.pick(&WORDS);
        let begins = |word: &&str| word.get(..1) == next.get(..1);
        if words.len() == 1 && same_first > 0 && !words.iter().any(begins) {
            same_first -= 1;
        } else if words.iter().all(|word| word.get(..2) != next.get(..2)) {
            words.push(next);
        } else {
            same_first = (same_first - 1).max(0);
        }
    }
    draw.shuffle(&mut words);
    let text = fill(
        draw.pick(&ALPHABET),
        &[(
            "list",
            &listed(&words, if draw.one_in(2) { "and" } else { "" }),
        )],
    );
    let reasoning = select_words(&words);
    words.sort_unstable();
    Question {
        id: format!("sorting/words/{}", words.join(",")),
        system: plain_system(draw),
        text,
        reasoning,
        answer: words.join(", "),
    }
}

/// The first of what is left, until nothing is left. The words' first two letters must differ.
fn select_words(words: &[&str]) -> String {
    let place = |letter: u8| usize::from(letter.saturating_sub(b'a')) + 1;
    let number = |word: &str| {
        let letters = word.bytes().take(2);
        letters.fold(0, |number, letter| 100 * number + place(letter))
    };
    let spelled: Vec<String> = words
        .iter()
        .zip('a'..)
        .map(|(word, label)| {
            let letters = word.bytes().take(2);
            let letters = letters.map(|c| format!(" {}{:02}", char::from(c), place(c)));
            format!("{label} {word}{}", letters.collect::<String>())
        })
        .collect();
    let mut text = format!("{}. ", spelled.join(", "));
    let mut left: Vec<(usize, char, &str)> = words
        .iter()
        .zip('a'..)
        .map(|(word, label)| (number(word), label, *word))
        .collect();
    while let Some(&(number, label, word)) = left.iter().min() {
        for (number, label, _) in &left {
            let _ = write!(text, "{label}{number:04} ");
        }
        let _ = write!(text, "min {number:04}{label} {word}; ");
        left.retain(|&(_, other, _)| other != label);
    }
    text.truncate(text.trim_end_matches([';', ' ']).len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, numbers, sample, thought, wanted};

    /// Breaks with: an order that is not the one asked for, a number lost or doubled, reasoning
    /// that takes them in another order than the answer has.
    #[test]
    fn answers_are_right() {
        for example in sample(Kind::Sorting, Mode::Think, 10_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            assert_eq!(wanted(turn), answer);
            let answered: Vec<&str> = answer.split(", ").collect();
            if text.contains("alphabet") || text.contains("A to Z") {
                assert!(answered.is_sorted(), "{text}");
                assert!(answered.iter().all(|word| text.contains(word)), "{text}");
                let taken: Vec<&str> = reasoning
                    .split("; ")
                    .map(|step| step.rsplit(' ').next().unwrap())
                    .collect();
                assert_eq!(taken, answered, "{reasoning}");
                continue;
            }
            let mut right = numbers(&text);
            right.sort_unstable();
            if text.contains("descending") || text.contains("largest to") {
                right.reverse();
            }
            assert_eq!(numbers(&answer), right, "{text}");
            let taken: Vec<i64> = reasoning
                .split("; ")
                .map(|step| *numbers(step).last().unwrap())
                .collect();
            assert_eq!(taken, right, "{reasoning}");
        }
    }

    /// Breaks with: a change of the form that the committed model was trained to reason in.
    #[test]
    fn reasoning_reads_as_documented() {
        assert_eq!(
            select_numbers(&[31, 112, 104], false),
            "a031 b112 c104 min 031a; b112 c104 min 104c; b112 min 112b"
        );
        assert_eq!(
            select_words(&["river", "apple"]),
            "a river r18 i09, b apple a01 p16. a1809 b0116 min 0116b apple; a1809 min 1809a river"
        );
    }
}
