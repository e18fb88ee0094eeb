//! How the answer is written: marks at its end, capitals, a title, number words.

use super::{Plain, fact, sum, yes_or_no};
use crate::draw::Draw;
use crate::facts::Fact;
use crate::question::Question;

const TITLES: [&str; 6] = ["Captain", "Doctor", "Professor", "Boss", "Chef", "Coach"];

/// Relations whose answers come again with other subjects: a model can learn how they look in
/// capitals.
const REPEATED: [&str; 5] = ["colour", "mixture", "continent", "next_day", "day_before"];

/// What is done to an answer.
#[derive(Debug, Clone, Copy, Default)]
enum Style {
    #[default]
    FullStop,
    Exclamation,
    Capitals,
    OneWord,
    Sentence,
    Title,
    NumberWords,
    Brackets,
    Twice,
}

impl Style {
    const ALL: [Style; 9] = [
        Style::FullStop,
        Style::Exclamation,
        Style::Capitals,
        Style::OneWord,
        Style::Sentence,
        Style::Title,
        Style::NumberWords,
        Style::Brackets,
        Style::Twice,
    ];

    /// Ways of asking for it.
    fn instructions(self) -> &'static [&'static str] {
        match self {
            Style::FullStop => &[
                "End every answer with a full stop.",
                "Put a full stop after every answer.",
            ],
            Style::Exclamation => &[
                "End every answer with an exclamation mark.",
                "Put an exclamation mark after every answer.",
            ],
            Style::Capitals => &[
                "Answer in capital letters.",
                "Write every answer in capital letters.",
            ],
            Style::OneWord => &["Answer in one word.", "Answer with one word only."],
            Style::Sentence => &["Answer in a full sentence.", "Always answer in a sentence."],
            Style::Title => &[
                "Call the user {t}.",
                "The user is called {t}. Say so in every answer.",
            ],
            Style::NumberWords => &["Give numbers as words.", "Write all numbers in words."],
            Style::Brackets => &[
                "Put every answer in brackets.",
                "Write your answers in brackets.",
            ],
            Style::Twice => &["Say every answer twice.", "Write every answer two times."],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Style::FullStop => "full_stop",
            Style::Exclamation => "exclamation",
            Style::Capitals => "capitals",
            Style::OneWord => "one_word",
            Style::Sentence => "sentence",
            Style::Title => "title",
            Style::NumberWords => "number_words",
            Style::Brackets => "brackets",
            Style::Twice => "twice",
        }
    }

    /// A question that this style can be seen on.
    fn question(self, draw: &mut Draw) -> Plain {
        match self {
            Style::NumberWords => sum(draw, 100),
            Style::Capitals => match draw.below(3) {
                0 => yes_or_no(draw),
                _ => fact(Fact::draw_of(&REPEATED, draw), draw),
            },
            Style::OneWord => loop {
                let fact = fact(Fact::draw(draw), draw);
                if !fact.answer.contains(' ') {
                    return fact;
                }
            },
            Style::Sentence if draw.one_in(2) => fact(Fact::draw(draw), draw),
            Style::Sentence => sum(draw, 50),
            _ => match draw.below(4) {
                0 => yes_or_no(draw),
                1 => sum(draw, 50),
                _ => fact(Fact::draw(draw), draw),
            },
        }
    }

    /// The answer so written.
    fn apply(self, plain: &Plain, answer: &str, title: &str) -> String {
        match self {
            Style::FullStop => format!("{answer}."),
            Style::Exclamation => format!("{answer}!"),
            Style::Capitals => answer.to_uppercase(),
            Style::OneWord => answer.to_owned(),
            Style::Sentence => plain.sentence.clone(),
            Style::Title => format!("{answer}, {title}"),
            Style::NumberWords => answer.parse().map(number_words).unwrap_or_default(),
            Style::Brackets => format!("({answer})"),
            Style::Twice => format!("{answer} {answer}"),
        }
    }
}

/// A question under one or two of the styles.
pub(super) fn question(draw: &mut Draw) -> Question {
    let first = draw.pick(&Style::ALL);
    let title = draw.pick(&TITLES);
    let plain = first.question(draw);
    let mut styles = vec![first];
    // A second one that can stand after the first. What it ends with stays at the end.
    if !matches!(
        first,
        Style::Sentence | Style::FullStop | Style::Exclamation
    ) && draw.one_in(4)
    {
        styles.push(draw.pick(&[Style::FullStop, Style::Exclamation]));
    }
    let mut answer = plain.answer.clone();
    let mut instructions = Vec::new();
    let mut names = Vec::new();
    for style in styles {
        instructions.push(draw.pick(style.instructions()).replace("{t}", title));
        names.push(style.name());
        answer = style.apply(&plain, &answer, title);
    }
    if names.contains(&"title") {
        names.push(title);
    }
    Question {
        id: format!("system/{}/{}", names.join("+"), plain.key),
        system: Some(instructions.join(" ")),
        text: plain.text,
        reasoning: if plain.steps == answer {
            plain.steps
        } else {
            format!("{} {answer}", plain.steps)
        },
        answer,
    }
}

/// A number from 0 to 100 in English.
pub(super) fn number_words(n: usize) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] = [
        "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    ];
    match (SMALL.get(n), TENS.get(n / 10)) {
        (Some(word), _) => (*word).to_owned(),
        (None, Some(tens)) if n.is_multiple_of(10) => (*tens).to_owned(),
        (None, Some(tens)) => format!("{tens}-{}", SMALL.get(n % 10).copied().unwrap_or_default()),
        (None, None) => "one hundred".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a ten or a hyphen that is off.
    #[test]
    fn numbers_have_their_english_words() {
        let words = [0, 7, 13, 20, 42, 99, 100].map(number_words);
        assert_eq!(
            words,
            [
                "zero",
                "seven",
                "thirteen",
                "twenty",
                "forty-two",
                "ninety-nine",
                "one hundred"
            ]
        );
    }
}
