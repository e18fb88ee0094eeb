//! A rate and how sure it is.

use serde::{Deserialize, Serialize};

/// The normal distribution's two-sided 95% quantile.
const Z: f64 = 1.959_963_984_540_054;

/// How many of how many, with Wilson's 95% score interval. Unlike the textbook interval it stays
/// within 0 and 1 and has a width where all or none are right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Those that are right.
    pub right: usize,
    /// All of them.
    pub count: usize,
    /// `right / count`; 0 where there is none.
    pub rate: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Rate {
    /// `right` of `count`.
    pub fn new(right: usize, count: usize) -> Self {
        if count == 0 {
            return Rate {
                right,
                count,
                rate: 0.0,
                low: 0.0,
                high: 1.0,
            };
        }
        let n = count as f64;
        let p = right as f64 / n;
        let scale = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        Rate {
            right,
            count,
            rate: p,
            // Rounding may pass the rate itself where none or all are right.
            low: (centre - half).clamp(0.0, p),
            high: (centre + half).clamp(p, 1.0),
        }
    }

    /// Over what is true and what is not.
    pub fn of(outcomes: impl IntoIterator<Item = bool>) -> Self {
        let (mut right, mut count) = (0, 0);
        for outcome in outcomes {
            right += usize::from(outcome);
            count += 1;
        }
        Rate::new(right, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: another formula, or another confidence. The values are those of Newcombe 1998,
    /// table I, method 3.
    #[test]
    fn intervals_are_wilsons() {
        for (right, count, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let rate = Rate::new(right, count);
            assert!((rate.low - low).abs() < 5e-5, "{rate:?}");
            assert!((rate.high - high).abs() < 5e-5, "{rate:?}");
        }
        let all = Rate::new(20, 20);
        assert!(all.low > 0.8 && all.high == 1.0, "{all:?}");
    }

    /// Breaks with: a division by nothing.
    #[test]
    fn of_none_nothing_is_known() {
        let none = Rate::of([]);
        assert_eq!((none.rate, none.low, none.high), (0.0, 0.0, 1.0));
    }
}
