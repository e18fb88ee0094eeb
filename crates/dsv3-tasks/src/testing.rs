//! What the tests of the kinds share: samples, and their texts taken apart again.

use dsv3_tokenizer::{Segment, Special};

use crate::check::Check;
use crate::draw::Draw;
use crate::example::{Example, Kind, Mode, Turn, spell};
use crate::generate::generate;

/// Examples of both parts.
pub(crate) fn sample(kind: Kind, mode: Mode, count: u64) -> Vec<Example> {
    let mut draw = Draw::new(11, kind as u64);
    (0..count)
        .map(|_| generate(kind, mode, &mut draw).unwrap())
        .collect()
}

/// The last thing that the user says.
pub(crate) fn asked(turn: &Turn) -> String {
    let user = Segment::Special(Special::User);
    let at = turn.given.iter().rposition(|s| *s == user).unwrap();
    match &turn.given[at + 1] {
        Segment::Text(text) => text.clone(),
        Segment::Special(special) => panic!("{special:?} where the user's text should be"),
    }
}

/// The system message, empty where there is none.
pub(crate) fn system(example: &Example) -> String {
    match &example.turns[0].given[1] {
        Segment::Text(text) => text.clone(),
        Segment::Special(_) => String::new(),
    }
}

/// Reasoning and answer of a turn with thinking.
pub(crate) fn thought(turn: &Turn) -> (String, String) {
    match turn.answer.as_slice() {
        [
            Segment::Text(reasoning),
            Segment::Special(Special::ThinkEnd),
            Segment::Text(answer),
            Segment::Special(Special::Eos),
        ] => (reasoning.clone(), answer.clone()),
        other => panic!("not reasoning and an answer: {}", spell(other)),
    }
}

/// The answer of a turn without thinking.
pub(crate) fn said(turn: &Turn) -> String {
    match turn.answer.as_slice() {
        [Segment::Text(answer), Segment::Special(Special::Eos)] => answer.clone(),
        other => panic!("not an answer: {}", spell(other)),
    }
}

/// The answer that the check wants.
pub(crate) fn wanted(turn: &Turn) -> String {
    match &turn.check {
        Check::Exact { answer } => answer.clone(),
        other => panic!("not exact: {other:?}"),
    }
}

/// The whole numbers in a text, from the left.
pub(crate) fn numbers(text: &str) -> Vec<i64> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().unwrap())
        .collect()
}

/// That each `sum=result` in a text holds, and how many there are. Sums are of whole numbers with
/// `+`, `-`, `*` and `/`, products first, without spaces.
pub(crate) fn equations(text: &str) -> usize {
    let mut count = 0;
    for word in text.split([' ', ',', '.', ':']) {
        let Some((sum, result)) = word.split_once('=') else {
            continue;
        };
        if sum.is_empty() {
            continue;
        }
        assert_eq!(
            value(sum),
            result.parse::<i64>().unwrap(),
            "{word} in {text}"
        );
        count += 1;
    }
    count
}

fn value(sum: &str) -> i64 {
    if let Some(at) = sum.rfind(['+', '-']) {
        let (left, right) = (value(&sum[..at]), value(&sum[at + 1..]));
        return if sum.as_bytes()[at] == b'+' {
            left + right
        } else {
            left - right
        };
    }
    if let Some((left, right)) = sum.split_once('*') {
        return value(left) * value(right);
    }
    if let Some((left, right)) = sum.split_once('/') {
        return value(left) / value(right);
    }
    sum.parse().unwrap()
}
