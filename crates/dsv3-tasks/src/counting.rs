//! How often a letter occurs in a word, and how many letters there are.
//!
//! The reasoning spells the word, then again with a running count: `b a n a n a, b a1 n a2 n a3: 3`.
//! Spelling alone is what reversing begins with, too, so a word is spelled in one way only.

use std::fmt::Write;

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::fill;
use crate::question::{Question, plain_system};
use crate::words::WORDS;

const ONE_LETTER: [&str; 8] = [
    "How many times does the letter {letter} occur in {word}?",
    "How often does {letter} occur in the word {word}?",
    "How many {letter}'s are in {word}?",
    "How many times is the letter {letter} in the word {word}?",
    "Count the letter {letter} in {word}.",
    "How many letters {letter} does the word {word} have?",
    "In the word {word}, how many times do you see {letter}?",
    "Count how often {letter} is in {word}.",
];
const ALL_LETTERS: [&str; 5] = [
    "How many letters does the word {word} have?",
    "How many letters are in {word}?",
    "Count the letters of {word}.",
    "How long is the word {word}, in letters?",
    "What is the number of letters in {word}?",
];

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    question(draw).into_example(Kind::Counting, mode)
}

fn question(draw: &mut Draw) -> Question {
    let word = draw.pick(&WORDS);
    let present: Vec<char> = word.chars().collect();
    let letter = match draw.below(8) {
        0 => None,
        // Any letter: most of the time one that is not there.
        1 => Some(char::from(b'a' + draw.below(26) as u8)),
        // A letter that is there twice or more, if there is one, since most are there once.
        2..=4 => {
            let twice: Vec<char> = present
                .iter()
                .copied()
                .filter(|&letter| occurrences(word, letter) > 1)
                .collect();
            Some(draw.pick(if twice.is_empty() { &present } else { &twice }))
        }
        _ => Some(draw.pick(&present)),
    };
    let wording = match letter {
        Some(_) => draw.pick(&ONE_LETTER),
        None => draw.pick(&ALL_LETTERS),
    };
    let shown = letter.map(String::from).unwrap_or_default();
    let what = if letter.is_some() { &shown } else { "all" };
    let answer = match letter {
        Some(letter) => occurrences(word, letter),
        None => present.len(),
    };
    Question {
        id: format!("counting/{word}/{what}"),
        system: plain_system(draw),
        text: fill(wording, &[("letter", &shown), ("word", word)]),
        reasoning: spell_counting(word, letter),
        answer: answer.to_string(),
    }
}

pub(crate) fn occurrences(word: &str, letter: char) -> usize {
    word.chars().filter(|&other| other == letter).count()
}

/// The letters of a word one by one.
pub(crate) fn spelled(word: &str) -> String {
    let letters: Vec<String> = word.chars().map(String::from).collect();
    letters.join(" ")
}

/// The word spelled, then with a running count behind each letter that counts.
pub(crate) fn spell_counting(word: &str, letter: Option<char>) -> String {
    let mut text = spelled(word) + ", ";
    let mut count = 0;
    for next in word.chars() {
        text.push(next);
        if letter.is_none_or(|letter| letter == next) {
            count += 1;
            let _ = write!(text, "{count}");
        }
        text.push(' ');
    }
    text.pop();
    let _ = write!(text, ": {count}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, numbers, sample, thought, wanted};

    /// Breaks with: a count that is off, a wording that names another letter or word.
    #[test]
    fn answers_are_right() {
        let mut none = 0;
        for example in sample(Kind::Counting, Mode::Think, 10_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            let parts: Vec<&str> = example.id.split('/').collect();
            let (word, what) = (parts[1], parts[2]);
            let right = if what == "all" {
                word.len()
            } else {
                assert!(
                    text.contains(&format!(" {what} "))
                        || text.contains(&format!(" {what}'"))
                        || text.ends_with(&format!(" {what}?")),
                    "{text}"
                );
                word.matches(what).count()
            };
            assert!(text.contains(word), "{text}");
            assert_eq!(answer, right.to_string(), "{text}");
            assert_eq!(wanted(turn), answer);
            assert_eq!(numbers(&reasoning).last(), Some(&(right as i64)));
            let spelled: String = reasoning.chars().filter(char::is_ascii_lowercase).collect();
            assert_eq!(spelled, word.repeat(2));
            none += usize::from(right == 0);
        }
        assert!(
            none > 500,
            "a letter that is not there is asked for too seldom: {none}"
        );
    }

    /// Breaks with: a change of the form that the committed model was trained to reason in.
    #[test]
    fn reasoning_reads_as_documented() {
        assert_eq!(
            spell_counting("banana", Some('a')),
            "b a n a n a, b a1 n a2 n a3: 3"
        );
        assert_eq!(
            spell_counting("banana", Some('x')),
            "b a n a n a, b a n a n a: 0"
        );
        assert_eq!(spell_counting("door", None), "d o o r, d1 o2 o3 r4: 4");
    }
}
