//! Reckoning column by column, as reasoning.
//!
//! Each column has its name, so that every step finds its digits by a word and not by counting
//! places, and every column's result has two digits: what is carried and what is written. What is
//! written so far stands behind it, so that the answer grows to the left by copying.
//!
//! `487+256. hundreds 4 tens 8 ones 7, hundreds 2 tens 5 ones 6. ones 7+6+0=13 3,
//! tens 8+5+1=14 43, hundreds 4+2+1=07 743. 743`

use std::fmt::Write;

/// Names of the columns from the right. Each is one word, so one token.
const PLACES: [&str; 5] = ["ones", "tens", "hundreds", "thousands", "myriads"];

/// The sum of two numbers of up to five digits.
pub(crate) fn add(a: i64, b: i64) -> String {
    let width = width(a).max(width(b));
    let mut text = format!("{a}+{b}. {}, {}.", listed(a, width), listed(b, width));
    let (mut carry, mut written) = (0, String::new());
    for place in 0..width {
        let (x, y) = (digit(a, place), digit(b, place));
        let sum = x + y + carry;
        step(
            &mut text,
            &mut written,
            place,
            &format!("{x}+{y}+{carry}"),
            sum,
        );
        carry = sum / 10;
    }
    end(text, a + b)
}

/// The difference of two numbers of up to five digits, the first no smaller than the second.
///
/// Every digit of the first has ten lent to it. A result below ten used what was lent, and the
/// next column gives one back.
pub(crate) fn subtract(a: i64, b: i64) -> String {
    let width = width(a);
    let mut text = format!("{a}-{b}. {}, {}.", listed(a, width), listed(b, width));
    let (mut borrow, mut written) = (0, String::new());
    for place in 0..width {
        let (x, y) = (10 + digit(a, place), digit(b, place));
        let rest = x - y - borrow;
        step(
            &mut text,
            &mut written,
            place,
            &format!("{x}-{y}-{borrow}"),
            rest,
        );
        borrow = i64::from(rest < 10);
    }
    end(text, a - b)
}

/// The product of a number of up to five digits and one of a single digit. The product of two
/// digits and what is added to it are two steps: tables of a hundred each, where both at once would
/// be one of a thousand.
pub(crate) fn multiply(a: i64, b: i64) -> String {
    let width = width(a);
    let mut text = format!("{a}*{b}. {}.", listed(a, width));
    let (mut carry, mut written) = (0, String::new());
    for place in 0..width {
        let x = digit(a, place);
        let product = x * b;
        let sum = product + carry;
        step(
            &mut text,
            &mut written,
            place,
            &format!("{x}*{b}={product:02} {product:02}+{carry}"),
            sum,
        );
        carry = sum / 10;
    }
    end(text, a * b)
}

/// One column: its name, what is reckoned, the two digits of the result, what is written so far.
fn step(text: &mut String, written: &mut String, place: usize, terms: &str, result: i64) {
    written.insert_str(0, &(result % 10).to_string());
    let name = PLACES.get(place).copied().unwrap_or_default();
    // Writing to a string can't fail.
    let _ = write!(text, " {name} {terms}={result:02} {written},");
}

/// The last comma made a full stop, and the answer.
fn end(mut text: String, answer: i64) -> String {
    text.pop();
    let _ = write!(text, ". {answer}");
    text
}

/// The digits with the names of their columns, from the left, zeros in front up to `width`.
fn listed(number: i64, width: usize) -> String {
    let mut text = String::new();
    for place in (0..width).rev() {
        let name = PLACES.get(place).copied().unwrap_or_default();
        let _ = write!(text, "{name} {} ", digit(number, place));
    }
    text.pop();
    text
}

/// The digit that many places from the right.
fn digit(number: i64, place: usize) -> i64 {
    number / 10_i64.pow(place as u32) % 10
}

/// How many digits a number has.
fn width(number: i64) -> usize {
    number.checked_ilog10().unwrap_or_default() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a change of the form that the committed model was trained to reason in.
    #[test]
    fn reasoning_reads_as_documented() {
        assert_eq!(
            add(487, 56),
            "487+56. hundreds 4 tens 8 ones 7, hundreds 0 tens 5 ones 6. \
             ones 7+6+0=13 3, tens 8+5+1=14 43, hundreds 4+0+1=05 543. 543"
        );
        assert_eq!(
            subtract(304, 299),
            "304-299. hundreds 3 tens 0 ones 4, hundreds 2 tens 9 ones 9. \
             ones 14-9-0=05 5, tens 10-9-1=00 05, hundreds 13-2-1=10 005. 5"
        );
        assert_eq!(
            multiply(47, 6),
            "47*6. tens 4 ones 7. ones 7*6=42 42+0=42 2, tens 4*6=24 24+4=28 82. 282"
        );
        assert_eq!(
            add(9, 1),
            "9+1. ones 9, ones 1. ones 9+1+0=10 0. 10",
            "the last carry is written by the answer"
        );
    }
}
