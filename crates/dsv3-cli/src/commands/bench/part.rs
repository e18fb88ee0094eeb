//! The parts of a model whose bytes and times stand apart.

use std::ops::Index;

use dsv3_model::{PassBytes, PassTimes};

/// A number for each part: attention with its cache, dense MLPs, experts with their routers, head.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ByPart(pub(super) [f64; 4]);

impl ByPart {
    /// What was read.
    pub(super) fn of_bytes(bytes: &PassBytes) -> Self {
        let attention = bytes.norm + bytes.attention + bytes.cache;
        let experts = bytes.router + bytes.shared + bytes.experts;
        let parts = [attention, bytes.dense, experts, bytes.head];
        ByPart(parts.map(|bytes| bytes as f64))
    }

    /// How long it took.
    pub(super) fn of_times(times: &PassTimes) -> Self {
        ByPart([times.attention, times.dense, times.experts, times.head])
    }

    /// All of them.
    pub(super) fn total(&self) -> f64 {
        self.0.iter().sum()
    }
}

impl Index<usize> for ByPart {
    type Output = f64;

    fn index(&self, part: usize) -> &f64 {
        &self.0[part]
    }
}
