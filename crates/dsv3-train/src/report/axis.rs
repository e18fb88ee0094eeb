//! The axes of a plot: where a value stands, and which values get a mark.

/// Beyond these, steps from mark to mark are no numbers any more.
const SMALLEST: f64 = 1e-290;
const LARGEST: f64 = 1e290;
/// On a logarithmic axis; with more, only powers of ten are marked.
const MAX_MARKS: usize = 12;

/// A stretch of values and the marks on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    log: bool,
    /// Rising, all within.
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    /// From 0 to the largest of `values`, rounded up to a mark; about `marks` of them.
    pub(crate) fn from_zero(values: impl Iterator<Item = f64>, marks: usize) -> Self {
        let max = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        let to = if max > 0.0 {
            max.clamp(SMALLEST, LARGEST)
        } else {
            1.0
        };
        let step = nice_step(to / marks.max(1) as f64);
        // A hair less, so that a maximum on a mark doesn't get one more above it.
        let count = (to / step - 1e-9).ceil().max(1.0) as usize;
        let ticks: Vec<f64> = (0..=count).map(|i| i as f64 * step).collect();
        Axis {
            from: 0.0,
            to: count as f64 * step,
            log: false,
            ticks,
        }
    }

    /// From 0 to the end of the data, without rounding up: time ends where it ends.
    pub(crate) fn to_end(end: f64, marks: usize) -> Self {
        let mut axis = Self::from_zero(std::iter::once(end), marks);
        if (SMALLEST..LARGEST).contains(&end) {
            axis.to = end;
            axis.ticks.retain(|tick| *tick <= end * (1.0 + 1e-9));
        }
        axis
    }

    /// Logarithmic, where the values span so much that small ones would lie flat on 0: a loss that
    /// begins at 8 and ends at 0.1. Otherwise as [`Axis::from_zero`].
    pub(crate) fn for_losses(values: impl Iterator<Item = f64> + Clone, marks: usize) -> Self {
        let positive = values.clone().filter(|v| v.is_finite() && *v > 0.0);
        let (min, max) = positive.fold((f64::INFINITY, 0.0), |(min, max), v| {
            (f64::min(min, v), f64::max(max, v))
        });
        let max = max.min(LARGEST);
        // Also where all of them lie beyond the largest that is drawn.
        if max <= 8.0 * min || max < SMALLEST {
            return Self::from_zero(values, marks);
        }
        // Five decades below the maximum nothing can be told apart any more.
        let min = min.max(max * 1e-5);
        let (low, high) = (min.log10().floor() as i32, max.log10().floor() as i32);
        let mut all: Vec<f64> = Vec::new();
        for decade in low..=high {
            all.extend([1.0, 2.0, 5.0, 10.0].map(|digit| digit * 10f64.powi(decade)));
        }
        all.dedup_by(|b, a| (*b / *a - 1.0).abs() < 1e-9);
        let from = all.iter().copied().filter(|t| *t <= min * (1.0 + 1e-9));
        let from = from.fold(0.0, f64::max);
        let to = all.iter().copied().find(|t| *t >= max * (1.0 - 1e-9));
        let to = to.unwrap_or(max);
        all.retain(|tick| (from..=to).contains(tick));
        if all.len() > MAX_MARKS {
            all.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9);
        }
        Axis {
            from,
            to,
            log: true,
            ticks: all,
        }
    }

    /// Whether equal distances are equal ratios.
    pub(crate) fn is_log(&self) -> bool {
        self.log
    }

    /// Where a value stands, 0 at the lower end and 1 at the upper. What lies outside stands at the
    /// end; `None` for what is no number.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        let place = match self.log {
            false => (value - self.from) / (self.to - self.from),
            true if value <= self.from => 0.0,
            true => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        Some(place.clamp(0.0, 1.0))
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is `step` or more.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter();
    let digit = digit.filter(|digit| digit * power >= step * (1.0 - 1e-9));
    digit.fold(10.0, f64::min) * power
}

/// A number as a mark shows it: 0, 0.25, 12, 1.5k, 2M, 3e-4.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() {
        return if size == 0.0 {
            "0".to_owned()
        } else {
            "?".to_owned()
        };
    }
    for (unit, name) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")] {
        if size >= unit * (1.0 - 1e-9) {
            return format!("{}{name}", decimals(value / unit));
        }
    }
    if size >= 0.01 {
        return decimals(value);
    }
    let shown = format!("{value:.2e}");
    match shown.split_once('e') {
        Some((digits, exponent)) => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{exponent}")
        }
        None => shown,
    }
}

fn decimals(value: f64) -> String {
    let shown = format!("{value:.3}");
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Breaks with: marks at numbers that nobody counts in.
    #[test]
    fn marks_are_round_numbers() {
        let ticks = |max| Axis::from_zero([max].into_iter(), 5).ticks;
        assert_eq!(ticks(8.3), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Axis::to_end(23e6, 5).ticks, [0.0, 5e6, 1e7, 1.5e7, 2e7]);
        let losses = Axis::for_losses([8.3, 0.12].into_iter(), 5);
        let shown: Vec<String> = losses.ticks.iter().map(|tick| short(*tick)).collect();
        assert_eq!(shown, ["0.1", "0.2", "0.5", "1", "2", "5", "10"]);
        assert!(!Axis::for_losses([8.3, 2.0].into_iter(), 5).log);
    }

    // Breaks with: a mark that can't be read.
    #[test]
    fn marks_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.0, "12"),
            (1500.0, "1.5k"),
            (2e6, "2M"),
            (14.8e12, "14.8T"),
            (3e-4, "3e-4"),
            (2.5e-5, "2.5e-5"),
            (0.01, "0.01"),
            (999.9999999999, "1k"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    proptest! {
        // Breaks with: a value off the paper, a mark outside, an endless row of marks.
        #[test]
        fn any_values_have_an_axis(values in prop::collection::vec(any::<f64>(), 0..20)) {
            let all = values.iter().copied();
            for axis in [
                Axis::from_zero(all.clone(), 5),
                Axis::for_losses(all.clone(), 5),
                Axis::to_end(all.clone().last().unwrap_or_default(), 6),
            ] {
                prop_assert!((1..=MAX_MARKS).contains(&axis.ticks.len()), "{axis:?}");
                for value in axis.ticks.iter().chain(&values).filter(|v| v.is_finite()) {
                    let place = axis.place(*value).unwrap();
                    prop_assert!((0.0..=1.0).contains(&place), "{axis:?} {value}");
                }
                for pair in axis.ticks.windows(2) {
                    prop_assert!(axis.place(pair[0]) < axis.place(pair[1]), "{axis:?}");
                }
            }
        }
    }
}
