//! The learning rate of each step.

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// The form of the decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine wave, as in DeepSeek-V3's pre-training (report, section 4.2).
    #[default]
    Cosine,
    /// A straight line.
    Linear,
}

/// Linear warm-up to a peak, a constant stretch, decay to a floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Steps of the warm-up; the last of them has the peak.
    pub warmup_steps: u64,
    /// All steps of the training.
    pub total_steps: u64,
    /// How many of them, at the end, the decay takes.
    pub decay_steps: u64,
    /// The highest learning rate.
    pub peak: f64,
    /// The learning rate after the decay, and of all steps past the last.
    pub floor: f64,
    /// The form of the decay.
    #[serde(default)]
    pub decay: Decay,
}

impl Schedule {
    /// Checks that the stretches fit and the rates are rates.
    ///
    /// # Errors
    /// [`TrainError::Schedule`] with what would be right.
    pub fn validate(&self) -> Result<(), TrainError> {
        let wrong = |problem: String| Err(TrainError::Schedule { problem });
        let (warmup, decay, total) = (self.warmup_steps, self.decay_steps, self.total_steps);
        if total == 0 {
            return wrong("it has no steps; `total_steps` must be 1 or more".to_owned());
        }
        if warmup.checked_add(decay).is_none_or(|both| both > total) {
            return wrong(format!(
                "{warmup} steps of warm-up and {decay} of decay don't fit into {total}; shorten one, or train longer"
            ));
        }
        if !(self.peak.is_finite() && self.peak > 0.0) {
            return wrong(format!("`peak` is {}, not a number above 0", self.peak));
        }
        if !(0.0..=self.peak).contains(&self.floor) {
            return wrong(format!(
                "`floor` is {}, not a number from 0 to the peak of {}",
                self.floor, self.peak
            ));
        }
        Ok(())
    }

    /// The learning rate of a step, from 0. It depends on nothing but the step, so a resumed run
    /// needs no state for it.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            // The first step already learns something, the last one has the peak.
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let decay_from = self.total_steps.saturating_sub(self.decay_steps);
        if step < decay_from {
            return self.peak;
        }
        if step >= self.total_steps {
            return self.floor;
        }
        // Above 0 for the first step of the decay, below 1 for the last.
        let done = (step - decay_from + 1) as f64 / (self.decay_steps + 1) as f64;
        let left = match self.decay {
            Decay::Cosine => (1.0 + (std::f64::consts::PI * done).cos()) / 2.0,
            Decay::Linear => 1.0 - done,
        };
        self.floor + (self.peak - self.floor) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: Schedule = Schedule {
        warmup_steps: 10,
        total_steps: 100,
        decay_steps: 39,
        peak: 1.0,
        floor: 0.1,
        decay: Decay::Linear,
    };

    // Breaks with: an off-by-one at a corner, such as a first step that learns nothing.
    #[test]
    fn the_corners() {
        let rate = |step| SCHEDULE.learning_rate(step);
        for (step, expected) in [
            (0, 0.1),
            (8, 0.9),
            (9, 1.0),
            (10, 1.0),
            (60, 1.0),
            (61, 1.0 - 0.9 / 40.0),
            (80, 0.55),
            (99, 0.1 + 0.9 / 40.0),
            (100, 0.1),
            (u64::MAX, 0.1),
        ] {
            assert!(
                (rate(step) - expected).abs() < 1e-12,
                "step {step}: {}",
                rate(step)
            );
        }
        let cosine = Schedule {
            decay: Decay::Cosine,
            ..SCHEDULE
        };
        // Half way the cosine is where the line is; before that above, after it below.
        assert!((cosine.learning_rate(80) - 0.55).abs() < 1e-12);
        assert!(cosine.learning_rate(70) > rate(70));
        assert!(cosine.learning_rate(90) < rate(90));
    }

    // Breaks with: a division by zero where a stretch is missing.
    #[test]
    fn stretches_may_be_missing() {
        let none = Schedule {
            warmup_steps: 0,
            decay_steps: 0,
            ..SCHEDULE
        };
        for step in [0, 50, 99] {
            assert_eq!(none.learning_rate(step), 1.0);
        }
        assert_eq!(none.learning_rate(100), 0.1);
        let only_decay = Schedule {
            warmup_steps: 0,
            decay_steps: 100,
            ..SCHEDULE
        };
        assert!(only_decay.learning_rate(0) < 1.0);
        let only_warmup = Schedule {
            warmup_steps: 100,
            decay_steps: 0,
            ..SCHEDULE
        };
        assert_eq!(only_warmup.learning_rate(99), 1.0);
    }

    // Breaks with: a schedule that is taken though its parts don't fit, or a rate that is none.
    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(SCHEDULE.validate().is_ok());
        let with = |change: fn(&mut Schedule)| {
            let mut schedule = SCHEDULE;
            change(&mut schedule);
            schedule.validate().map_err(|error| error.to_string())
        };
        for (change, names) in [
            ((|s| s.total_steps = 0) as fn(&mut Schedule), "total_steps"),
            (|s| s.warmup_steps = 62, "62 steps of warm-up"),
            (|s| s.decay_steps = u64::MAX, "don't fit"),
            (|s| s.peak = 0.0, "`peak`"),
            (|s| s.peak = f64::NAN, "`peak`"),
            (|s| s.peak = f64::INFINITY, "`peak`"),
            (|s| s.floor = 1.1, "`floor`"),
            (|s| s.floor = -0.1, "`floor`"),
            (|s| s.floor = f64::NAN, "`floor`"),
        ] {
            let problem = with(change).unwrap_err();
            assert!(problem.contains(names), "{problem}");
        }
    }

    proptest! {
        // Breaks with: a rate outside of its bounds, a decay that rises, a warm-up that falls.
        #[test]
        fn it_rises_stays_and_falls(
            warmup in 0u64..50, constant in 1u64..50, decay_steps in 0u64..50, cosine: bool,
        ) {
            let total_steps = warmup + constant + decay_steps;
            let decay = if cosine { Decay::Cosine } else { Decay::Linear };
            let schedule = Schedule {
                warmup_steps: warmup, total_steps, decay_steps, peak: 3e-4, floor: 3e-5, decay,
            };
            schedule.validate().unwrap();
            let rates: Vec<f64> = (0..=total_steps).map(|s| schedule.learning_rate(s)).collect();
            for (step, pair) in rates.windows(2).enumerate() {
                prop_assert!(pair[0] > 0.0 && pair[0] <= 3e-4);
                match (step as u64) < warmup {
                    true => prop_assert!(pair[1] >= pair[0]),
                    false => prop_assert!(pair[1] <= pair[0]),
                }
            }
            prop_assert_eq!(rates.last(), Some(&3e-5));
        }
    }
}
