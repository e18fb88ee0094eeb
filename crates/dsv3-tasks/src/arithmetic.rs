//! Adding, subtracting, small products.

use crate::columns;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::{fill, person};
use crate::question::{Question, plain_system};

/// `{a}` and `{b}` in this order in the sum, whatever their order in the wording.
const ADDING: [&str; 8] = [
    "What is {a} + {b}?",
    "{a}+{b}=",
    "{a} + {b} = ?",
    "Add {a} and {b}.",
    "What is {a} plus {b}?",
    "Calculate {a} + {b}.",
    "What is the sum of {a} and {b}?",
    "How much is {a} plus {b}?",
];
const SUBTRACTING: [&str; 8] = [
    "What is {a} - {b}?",
    "{a}-{b}=",
    "{a} - {b} = ?",
    "Subtract {b} from {a}.",
    "What is {a} minus {b}?",
    "Calculate {a} - {b}.",
    "Take {b} away from {a}.",
    "How much is {a} minus {b}?",
];
const MULTIPLYING: [&str; 8] = [
    "What is {a} * {b}?",
    "{a}*{b}=",
    "{a} × {b} = ?",
    "Multiply {a} by {b}.",
    "What is {b} times {a}?",
    "Calculate {a} * {b}.",
    "What is the product of {a} and {b}?",
    "How much is {a} times {b}?",
];

const ADDING_STORIES: [&str; 5] = [
    "{name} has {a} {things} and buys {b} more. How many {things} now?",
    "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
    "There are {a} {things} in one box and {b} in another. How many {things} in all?",
    "{name} finds {a} {things} today and {b} tomorrow. How many {things} is that?",
    "{name} has {a} {things} and {other} has {b}. How many {things} do they have together?",
];
const SUBTRACTING_STORIES: [&str; 5] = [
    "{name} has {a} {things} and gives away {b}. How many {things} are left?",
    "{name} had {a} {things} and lost {b} of them. How many {things} are left?",
    "There were {a} {things} in a box. {name} took {b} out. How many {things} are still in it?",
    "{name} has {a} {things} and {other} has {b}. How many more does {name} have?",
    "A shop has {a} {things} and sells {b}. How many {things} remain?",
];
const MULTIPLYING_STORIES: [&str; 4] = [
    "A box holds {a} {things}. How many {things} are in {b} boxes?",
    "{name} buys {b} bags with {a} {things} each. How many {things} is that?",
    "{name} puts {a} {things} on each of {b} tables. How many {things} are there in all?",
    "Each of {b} children has {a} {things}. How many {things} do they have together?",
];

const THINGS: [&str; 12] = [
    "apples", "pears", "books", "coins", "stamps", "cards", "shells", "stones", "eggs", "pens",
    "cups", "plates",
];

#[derive(Clone, Copy, Default)]
enum Operation {
    #[default]
    Add,
    Subtract,
    Multiply,
}

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    question(draw).into_example(Kind::Arithmetic, mode)
}

fn question(draw: &mut Draw) -> Question {
    use Operation::{Add, Multiply, Subtract};
    let operation = draw.pick(&[
        Add, Add, Add, Subtract, Subtract, Subtract, Multiply, Multiply,
    ]);
    // Nobody has 48213 shells, and nobody gives away none.
    let story = draw.one_in(4);
    let (a, b) = match operation {
        Multiply => {
            let digits = draw.pick(&[1, 2, 2, 3]);
            (number(draw, digits, story), number(draw, 1, story))
        }
        Add | Subtract => pair(draw, story),
    };
    let (sign, (a, b), answer) = match operation {
        Add => ('+', (a, b), a + b),
        Subtract => ('-', (a.max(b), a.min(b)), a.abs_diff(b) as i64),
        Multiply => ('*', (a, b), a * b),
    };
    let wording = match (operation, story) {
        (Add, false) => draw.pick(&ADDING),
        (Subtract, false) => draw.pick(&SUBTRACTING),
        (Multiply, false) => draw.pick(&MULTIPLYING),
        (Add, true) => draw.pick(&ADDING_STORIES),
        (Subtract, true) => draw.pick(&SUBTRACTING_STORIES),
        (Multiply, true) => draw.pick(&MULTIPLYING_STORIES),
    };
    let (name, other) = two_people(draw);
    let text = fill(
        wording,
        &[
            ("a", &a.to_string()),
            ("b", &b.to_string()),
            ("name", &name),
            ("other", &other),
            ("things", draw.pick(&THINGS)),
        ],
    );
    Question {
        // 3+4 and 4+3 are one task: the first must not give the second away.
        id: format!("arithmetic/{}{sign}{}", a.max(b), a.min(b)),
        system: plain_system(draw),
        text,
        reasoning: match operation {
            Add => columns::add(a, b),
            Subtract => columns::subtract(a, b),
            Multiply => columns::multiply(a, b),
        },
        answer: answer.to_string(),
    }
}

/// Two numbers: half of the time of the same length.
fn pair(draw: &mut Draw, story: bool) -> (i64, i64) {
    let longest = if story {
        draw.pick(&[1, 2, 2, 3, 3])
    } else {
        draw.pick(&[1, 2, 2, 3, 3, 3, 4, 4, 5, 5])
    };
    let other = if draw.one_in(2) {
        longest
    } else {
        draw.between(1, longest)
    };
    let (mut a, mut b) = (number(draw, longest, story), number(draw, other, story));
    if draw.one_in(2) {
        std::mem::swap(&mut a, &mut b);
    }
    (a, b)
}

/// A number of so many digits.
fn number(draw: &mut Draw, digits: i64, story: bool) -> i64 {
    let high = 10_i64.pow(digits as u32);
    let low = match (digits, story) {
        (1, true) => 2,
        (1, false) => 0,
        _ => high / 10,
    };
    draw.between(low, high - 1)
}

/// Two people with different names.
fn two_people(draw: &mut Draw) -> (String, String) {
    let name = person(draw);
    loop {
        let other = person(draw);
        if other != name {
            return (name, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, equations, numbers, sample, thought, wanted};

    /// Breaks with: a wording that turns the numbers round, a step with a wrong digit, an answer
    /// that does not follow from what is asked.
    #[test]
    fn answers_and_every_step_are_right() {
        for example in sample(Kind::Arithmetic, Mode::Think, 20_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            let [a, b] = numbers(&text)[..] else {
                panic!("not two numbers: {text}")
            };
            let right = match () {
                _ if example.id.contains('+') => a + b,
                _ if example.id.contains('*') => a * b,
                _ => (a - b).abs(),
            };
            assert_eq!(answer, right.to_string(), "{text}");
            assert_eq!(wanted(turn), answer);
            assert_eq!(numbers(&reasoning).last(), Some(&right), "{reasoning}");
            assert!(equations(&reasoning) > 0, "{reasoning}");
        }
    }

    /// Breaks with: a sign in the wording that is not the one reckoned with, or a difference
    /// asked for the wrong way round.
    #[test]
    fn wordings_ask_for_what_is_answered() {
        for text in ADDING.iter().chain(&ADDING_STORIES) {
            assert!(!text.contains(" - ") && !text.contains('*'), "{text}");
        }
        for text in SUBTRACTING.iter().chain(&SUBTRACTING_STORIES) {
            let first = text.find("{a}") < text.find("{b}");
            assert_ne!(first, text.contains("from {a}"), "{text}");
        }
    }
}
