//! Sums in exact fractions: what a model asks for may be anything, so lengths and depths are
//! limited and every step is checked.

use serde_json::{Number, Value};

/// Characters of an expression, and signs and brackets inside each other.
const LONGEST: usize = 400;
const DEEPEST: usize = 50;
/// Digits behind the point where a fraction has no end.
const DIGITS: u32 = 10;

const TOO_LARGE: &str = "the numbers are too large";

/// The value of an expression with + - * / and brackets: a whole number where it is one, else a
/// decimal, rounded where it has no end.
pub(super) fn evaluate(expression: &str) -> Result<Value, String> {
    if expression.chars().count() > LONGEST {
        return Err(format!("the expression has more than {LONGEST} characters"));
    }
    let mut reader = Reader {
        rest: expression.trim_start(),
        depth: 0,
    };
    let value = reader.sum()?;
    match reader.rest.chars().next() {
        None => value.to_json(),
        Some(c) => Err(format!("{c:?} is not expected there")),
    }
}

/// Reads an expression from the left.
struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    /// Takes one of `signs`, if it is next.
    fn take(&mut self, signs: &[char]) -> Option<char> {
        let sign = self.rest.chars().next().filter(|c| signs.contains(c))?;
        self.rest = self.rest.strip_prefix(sign)?.trim_start();
        Some(sign)
    }

    fn sum(&mut self) -> Result<Fraction, String> {
        let mut value = self.product()?;
        while let Some(sign) = self.take(&['+', '-', '−']) {
            let term = self.product()?;
            let term = if sign == '+' {
                Some(term)
            } else {
                term.negated()
            };
            value = term.and_then(|term| value.plus(term)).ok_or(TOO_LARGE)?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Fraction, String> {
        let mut value = self.factor()?;
        while let Some(sign) = self.take(&['*', '/', '×', '·', '÷', ':']) {
            let mut factor = self.factor()?;
            if matches!(sign, '/' | '÷' | ':') {
                factor = factor.inverted().ok_or("division by zero")?;
            }
            value = value.times(factor).ok_or(TOO_LARGE)?;
        }
        Ok(value)
    }

    fn factor(&mut self) -> Result<Fraction, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("too many signs or brackets inside each other".to_owned());
        }
        let value = if let Some(sign) = self.take(&['-', '−', '+']) {
            let value = self.factor()?;
            let value = if sign == '+' {
                Some(value)
            } else {
                value.negated()
            };
            value.ok_or(TOO_LARGE)?
        } else if self.take(&['(']).is_some() {
            let value = self.sum()?;
            self.take(&[')']).ok_or("a bracket is not closed")?;
            value
        } else {
            self.number()?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn number(&mut self) -> Result<Fraction, String> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (digits, after) = self.rest.split_at(end);
        let next = after.chars().next();
        let number = Fraction::read(digits).ok_or_else(|| match (digits, next) {
            ("", None) => "a number is missing at the end".to_owned(),
            ("", Some(c)) => format!("{c:?} is not expected there"),
            _ => format!("{digits} is no number, or too large"),
        })?;
        self.rest = after.trim_start();
        Ok(number)
    }
}

/// A fraction in lowest terms; what is below the line is above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction {
    above: i128,
    below: i128,
}

impl Fraction {
    fn new(above: i128, below: i128) -> Option<Self> {
        let divisor = common_divisor(above.checked_abs()?, below.checked_abs()?);
        let divisor = if below < 0 { -divisor } else { divisor };
        Some(Fraction {
            above: above.checked_div(divisor)?,
            below: below.checked_div(divisor)?,
        })
    }

    /// Reads digits with at most one point in them.
    fn read(digits: &str) -> Option<Self> {
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let above = [whole, decimals].concat().parse().ok()?;
        let below = 10i128.checked_pow(u32::try_from(decimals.len()).ok()?)?;
        Fraction::new(above, below)
    }

    fn plus(self, other: Self) -> Option<Self> {
        let left = self.above.checked_mul(other.below)?;
        let right = other.above.checked_mul(self.below)?;
        Fraction::new(
            left.checked_add(right)?,
            self.below.checked_mul(other.below)?,
        )
    }

    fn times(self, other: Self) -> Option<Self> {
        Fraction::new(
            self.above.checked_mul(other.above)?,
            self.below.checked_mul(other.below)?,
        )
    }

    fn negated(self) -> Option<Self> {
        Fraction::new(self.above.checked_neg()?, self.below)
    }

    fn inverted(self) -> Option<Self> {
        Fraction::new(self.below, self.above).filter(|_| self.above != 0)
    }

    fn to_json(self) -> Result<Value, String> {
        if self.below == 1 {
            let whole = i64::try_from(self.above).map_err(|_| TOO_LARGE)?;
            return Ok(whole.into());
        }
        let decimal = self.decimal().ok_or(TOO_LARGE)?;
        let number: Number = serde_json::from_str(&decimal).map_err(|_| TOO_LARGE)?;
        Ok(number.into())
    }

    /// As a decimal of at most [`DIGITS`] digits behind the point, rounded half away from zero.
    fn decimal(self) -> Option<String> {
        let unit = 10i128.checked_pow(DIGITS)?;
        let twice = self
            .above
            .checked_abs()?
            .checked_mul(unit.checked_mul(2)?)?;
        let rounded = twice.checked_add(self.below)? / self.below.checked_mul(2)?;
        let (whole, part) = (rounded / unit, rounded % unit);
        let part = format!("{part:0width$}", width = DIGITS as usize);
        let part = part.trim_end_matches('0');
        let sign = if self.above < 0 && rounded > 0 {
            "-"
        } else {
            ""
        };
        Some(match part {
            "" => format!("{sign}{whole}"),
            part => format!("{sign}{whole}.{part}"),
        })
    }
}

fn common_divisor(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(expression: &str) -> String {
        evaluate(expression).unwrap().to_string()
    }

    /// Breaks with: products after sums, a side taken for the other, a rounding.
    #[test]
    fn expressions_have_their_value() {
        for (expression, expected) in [
            ("47 * 83", "3901"),
            ("2+3*4", "14"),
            ("(2 + 3) * 4", "20"),
            ("10 - 4 - 3", "3"),
            ("100 / 5 / 2", "10"),
            ("-3 * -(2 + 1)", "9"),
            ("--5", "5"),
            ("0.1 + 0.2", "0.3"),
            ("7 / 2", "3.5"),
            ("-1 / 8", "-0.125"),
            ("2 / 3", "0.6666666667"),
            ("1 / 3 * 3", "1"),
            (" 6 × 7 − 2 ÷ 2 ", "41"),
            (".5 * 4", "2"),
            ("-1 / 1000000000000", "0"),
            ("9223372036854775807", "9223372036854775807"),
        ] {
            assert_eq!(value(expression), expected, "{expression}");
        }
    }

    /// Breaks with: nonsense that has a value, or that ends the program.
    #[test]
    fn what_is_no_sum_is_refused() {
        for (expression, part) in [
            ("", "missing"),
            ("1 +", "missing"),
            ("1 2", "not expected"),
            ("(1", "not closed"),
            ("1)", "not expected"),
            ("x", "'x'"),
            ("2 ** 3", "not expected"),
            ("1.2.3", "no number"),
            (".", "no number"),
            ("1 / (2 - 2)", "division by zero"),
            ("9223372036854775807 + 1", "too large"),
            (&"9*".repeat(100), "too large"),
            (&"(".repeat(399), "inside each other"),
            (&"-".repeat(399), "inside each other"),
            (&"1".repeat(401), "more than 400"),
        ] {
            let error = evaluate(expression).unwrap_err();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }

    proptest! {
        /// Breaks with: any text that makes it panic or run away.
        #[test]
        fn any_text_gives_a_value_or_a_reason(text in "[-+*/(). 0-9×e]{0,60}|.{0,40}") {
            let _ = evaluate(&text);
        }

        /// Breaks with: sums that differ from the machine's.
        #[test]
        fn whole_numbers_agree(a in -9999i64..9999, b in -9999i64..9999, c in 1i64..99) {
            let expression = format!("({a} + {b}) * {c} - {b} * {a}");
            prop_assert_eq!(value(&expression), ((a + b) * c - b * a).to_string());
        }
    }
}
