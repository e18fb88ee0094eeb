//! Words and numbers backwards.
//!
//! The reasoning spells what is given, then the other way round, then joins it:
//! `r i v e r, r e v i r: revir`.

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::fill;
use crate::question::{Question, plain_system};
use crate::words::WORDS;

const WORDINGS: [&str; 7] = [
    "Write {what} {word} backwards.",
    "Spell {what} {word} backwards.",
    "Reverse {what} {word}.",
    "What is {word} backwards?",
    "What is {what} {word} written backwards?",
    "Turn {what} {word} round.",
    "Write {word} from back to front.",
];

/// Parts of words that don't exist. Their letters are spelled without help from knowing the word.
const SYLLABLES: [&str; 24] = [
    "ba", "ko", "lu", "mi", "ne", "po", "ra", "si", "to", "vu", "dan", "fel", "gor", "hin", "jum",
    "kal", "lom", "nur", "pim", "rus", "sob", "tev", "wak", "zel",
];

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    question(draw).into_example(Kind::Reversing, mode)
}

fn question(draw: &mut Draw) -> Question {
    let (what, word) = match draw.below(6) {
        0 => {
            let digits = draw.between(3, 7);
            let first = draw.between(1, 9);
            let rest = (1..digits).map(|_| draw.between(0, 9).to_string());
            ("the number", format!("{first}{}", rest.collect::<String>()))
        }
        1 => {
            let syllables = draw.between(2, 3);
            let word = (0..syllables).map(|_| draw.pick(&SYLLABLES));
            ("the word", word.collect())
        }
        _ => ("the word", draw.pick(&WORDS).to_owned()),
    };
    let wording = draw.pick(&WORDINGS);
    let letters: Vec<String> = word.chars().map(String::from).collect();
    let mut reversed = letters.clone();
    reversed.reverse();
    let answer = reversed.concat();
    Question {
        id: format!("reversing/{word}"),
        system: plain_system(draw),
        text: fill(wording, &[("what", what), ("word", &word)]),
        reasoning: format!("{}, {}: {answer}", letters.join(" "), reversed.join(" ")),
        answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, sample, thought, wanted};

    /// Breaks with: a letter lost or in its old place, in the answer or on the way to it.
    #[test]
    fn answers_are_right() {
        for example in sample(Kind::Reversing, Mode::Think, 5_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            let word = example.id.strip_prefix("reversing/").unwrap();
            assert!(text.contains(word), "{text}");
            assert!(answer.chars().rev().eq(word.chars()), "{word} {answer}");
            assert_eq!(wanted(turn), answer);
            let (spelled, rest) = reasoning.split_once(", ").unwrap();
            let (reversed, joined) = rest.split_once(": ").unwrap();
            assert_eq!(spelled.replace(' ', ""), word);
            assert_eq!(reversed.replace(' ', ""), answer);
            assert_eq!(joined, answer);
        }
    }
}
