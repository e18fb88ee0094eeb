//! What this machine gives to plain loops, beside which a model's speed is put.

use dsv3_kernels::Elements;
use serde::Serialize;

use crate::machine::{self, MemoryRead};

/// Measured speeds; null on other devices than the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Limits {
    /// What all threads together read from memory, in 10^9 bytes a second; null where little memory
    /// is available.
    pub(super) bandwidth_gb_s: Option<f64>,
    /// What a product of two dense f32 matrices reaches, in 10^9 operations a second.
    pub(super) product_gflop_s: Option<f64>,
    /// The same of two bf16 matrices by instructions for them; null where the processor has none that
    /// are faster than f32's.
    pub(super) bf16_product_gflop_s: Option<f64>,
    /// The same of two matrices of bytes, summed in whole numbers.
    pub(super) integer_product_gop_s: Option<f64>,
}

impl Limits {
    /// Of each speed the better one. A share is then not flattered by what disturbed a measurement.
    fn or_better(self, other: Limits) -> Limits {
        let better = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        Limits {
            bandwidth_gb_s: better(self.bandwidth_gb_s, other.bandwidth_gb_s),
            product_gflop_s: better(self.product_gflop_s, other.product_gflop_s),
            bf16_product_gflop_s: better(self.bf16_product_gflop_s, other.bf16_product_gflop_s),
            integer_product_gop_s: better(self.integer_product_gop_s, other.integer_product_gop_s),
        }
    }
}

/// Measures a machine's limits in front of a model's measurements and behind each of them: memory
/// that is shared with neighbours gives more in one minute than in the next.
#[derive(Debug)]
pub(super) struct Gauge {
    is_on: bool,
    again: bool,
    reads: Vec<MemoryRead>,
    all: Vec<Limits>,
}

impl Gauge {
    /// Measures nothing unless the processor computes.
    pub(super) fn new(is_on: bool) -> Self {
        let mut gauge = Gauge {
            is_on,
            again: true,
            reads: Vec::new(),
            all: Vec::new(),
        };
        gauge.measure();
        gauge
    }

    /// Leave it at what was measured so far: the model needs the memory.
    pub(super) fn stop(&mut self) {
        self.again = false;
    }

    /// Bytes that a measurement takes from memory.
    pub(super) fn bytes(&self) -> u64 {
        self.reads.first().map_or(0, |read| read.bytes)
    }

    /// What is to be put beside something that has just been measured: the better of what was there
    /// in front of it and what is there now.
    pub(super) fn around(&mut self) -> Limits {
        let before = self.all.last().copied().unwrap_or_default();
        if !self.again {
            return before;
        }
        self.measure();
        before.or_better(self.all.last().copied().unwrap_or_default())
    }

    /// The best of all measurements.
    pub(super) fn best(&self) -> Limits {
        let all = self.all.iter().copied();
        all.fold(Limits::default(), Limits::or_better)
    }

    /// The median of what memory gave in the measurements' median passes; of two the lower.
    pub(super) fn median_gb_s(&self) -> Option<f64> {
        let mut medians: Vec<f64> = self.reads.iter().map(|read| read.median_gb_s).collect();
        medians.sort_by(f64::total_cmp);
        medians.get(medians.len().saturating_sub(1) / 2).copied()
    }

    /// How often.
    pub(super) fn times(&self) -> usize {
        self.all.len()
    }

    fn measure(&mut self) {
        if !self.is_on {
            return;
        }
        let read = machine::memory_read(machine::memory().1);
        self.reads.extend(read);
        self.all.push(Limits {
            bandwidth_gb_s: read.map(|read| read.best_gb_s),
            product_gflop_s: Some(machine::product()),
            bf16_product_gflop_s: machine::dot_product(Elements::Bf16),
            integer_product_gop_s: machine::dot_product(Elements::Bytes),
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Three measurements: memory at 8, 10 and 6 GB/s.
    pub(in super::super) fn gauge() -> Gauge {
        let read = |best_gb_s: f64| MemoryRead {
            best_gb_s,
            median_gb_s: best_gb_s - 1.0,
            bytes: 1 << 30,
        };
        let limits = |gb_s: f64| Limits {
            bandwidth_gb_s: Some(gb_s),
            product_gflop_s: Some(5.0 * gb_s),
            bf16_product_gflop_s: Some(10.0 * gb_s),
            integer_product_gop_s: Some(20.0 * gb_s),
        };
        let speeds = [8.0, 10.0, 6.0];
        Gauge {
            is_on: true,
            again: false,
            reads: speeds.map(read).to_vec(),
            all: speeds.map(limits).to_vec(),
        }
    }

    /// Breaks with: one speed's better value taken for another's, the best pass for the median.
    #[test]
    fn the_better_of_each_speed_counts() {
        let gauge = gauge();
        assert_eq!(gauge.best(), gauge.all[1]);
        assert_eq!(gauge.median_gb_s(), Some(7.0));
        let mut mixed = gauge.all[1];
        mixed.product_gflop_s = None;
        let better = gauge.all[0].or_better(mixed);
        assert_eq!(better.bandwidth_gb_s, Some(10.0));
        assert_eq!(better.product_gflop_s, Some(40.0));
    }

    /// Breaks with: memory that a model needs taken for another measurement.
    #[test]
    fn a_stopped_gauge_measures_nothing() {
        let mut gauge = gauge();
        gauge.stop();
        assert_eq!(gauge.around(), gauge.all[2]);
        assert_eq!(gauge.times(), 3);
        let mut off = Gauge::new(false);
        assert_eq!((off.around(), off.times()), (Limits::default(), 0));
    }
}
