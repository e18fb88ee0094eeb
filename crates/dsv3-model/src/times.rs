//! Where the time of a pass goes.

use std::time::Instant;

use burn::tensor::{Int, Tensor};

use crate::trace::Trace;

/// Seconds that each part of passes took.
///
/// True on the CPU, which computes when it is told to; other devices compute later, and there the
/// whole stands under the part that waits for them.
#[derive(Clone, Copy, Debug)]
pub struct PassTimes {
    /// Attention with the norm before it; in the first layer the embedding too.
    pub attention: f64,
    /// The MLPs of dense layers with their norms.
    pub dense: f64,
    /// Routers, shared and routed experts with their norms.
    pub experts: f64,
    /// The final norm, the head, and what the caller does before [`end`](Self::end).
    pub head: f64,
    since: Instant,
    routed: bool,
}

impl PassTimes {
    /// No time yet; the first pass begins now.
    pub fn begin() -> Self {
        PassTimes {
            attention: 0.0,
            dense: 0.0,
            experts: 0.0,
            head: 0.0,
            since: Instant::now(),
            routed: false,
        }
    }

    /// A pass has ended; the next begins now.
    pub fn end(&mut self) {
        self.head += self.lap();
    }

    /// All parts.
    pub fn total(&self) -> f64 {
        self.attention + self.dense + self.experts + self.head
    }

    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        seconds
    }
}

impl Trace for PassTimes {
    fn attention(&mut self, _: usize, _: &Tensor<2>) {
        self.attention += self.lap();
        self.routed = false;
    }

    fn router(&mut self, _: usize, _: &Tensor<2>, _: &Tensor<2, Int>, _: &Tensor<2>) {
        self.routed = true;
    }

    fn hidden(&mut self, _: usize, _: &Tensor<2>) {
        let seconds = self.lap();
        match self.routed {
            true => self.experts += seconds,
            false => self.dense += seconds,
        }
    }
}
