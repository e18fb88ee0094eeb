//! What was measured, as `--json` prints it.

use serde::Serialize;

use super::limits::{Gauge, Limits};
use super::measure::{Kind, Measurement};
use super::projection::Projection;
use crate::machine;

/// Everything that a run says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    /// Timings of a build without optimisation say nothing of the model.
    pub(super) optimised_build: bool,
    pub(super) machine: Machine,
    #[serde(flatten)]
    pub(super) subject: Subject,
    /// The best that the machine gave while this ran.
    #[serde(flatten)]
    pub(super) limits: Limits,
    /// In how many measurements.
    pub(super) limits_measured: usize,
    /// What memory gave in a median pass.
    pub(super) bandwidth_median_gb_s: Option<f64>,
    /// Bytes of such a pass.
    pub(super) bandwidth_bytes: Option<u64>,
    pub(super) rows: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) projection: Option<Projection>,
    /// Ctrl-C came before all was measured.
    pub(super) interrupted: bool,
    /// Why a pass failed before all was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: Option<String>,
    pub(super) architecture: &'static str,
    pub(super) cores: usize,
    pub(super) threads: usize,
    pub(super) simd: Vec<&'static str>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) memory_available_bytes: Option<u64>,
}

/// What ran.
#[derive(Debug, Serialize)]
pub(super) struct Subject {
    pub(super) model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) adapter: Option<String>,
    pub(super) device: String,
    pub(super) dtype: &'static str,
    /// How the cache keeps its tokens.
    pub(super) cache: &'static str,
    pub(super) w8a8: bool,
    /// Tokens of one pass over prompts.
    pub(super) batch_tokens: u32,
    pub(super) weight_bytes: u64,
    /// Whether weights and cache are less than the memory available; null where that is unknown
    /// and on other devices than the CPU.
    pub(super) fits_memory: Option<bool>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Of each sequence: the prompt's length, or tokens decoded.
    pub(super) tokens: usize,
    /// Tokens in the cache before.
    pub(super) depth: usize,
    pub(super) batch: usize,
    /// Repetitions behind the median; fewer than asked for after Ctrl-C.
    pub(super) repeats: usize,
    /// Of all sequences together.
    pub(super) tokens_per_s: Spread,
    /// Bytes that the passes must read, divided by the tokens of all sequences.
    pub(super) bytes_per_token: f64,
    /// Those bytes at the median speed.
    pub(super) gb_per_s: f64,
    /// What the machine gave just before or after, whichever is better.
    pub(super) limits: Limits,
    /// Of its `bandwidth_gb_s`.
    pub(super) bandwidth_share: Option<f64>,
    /// 10^9 multiplications and additions a second at the median speed.
    pub(super) gflop_per_s: f64,
    /// Of its `product_gflop_s`.
    pub(super) product_share: Option<f64>,
    /// Of its `bf16_product_gflop_s`.
    pub(super) bf16_product_share: Option<f64>,
    /// Of its `integer_product_gop_s`.
    pub(super) integer_product_share: Option<f64>,
}

/// A median and what lies around it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// Dollars for a million tokens.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) per_hour: f64,
    /// In the order of the rows: tokens in for prefill, tokens out for decode.
    pub(super) rows: Vec<CostRow>,
}

#[derive(Debug, Serialize)]
pub(super) struct CostRow {
    pub(super) kind: Kind,
    pub(super) tokens: usize,
    pub(super) depth: usize,
    pub(super) batch: usize,
    pub(super) per_million_tokens: f64,
}

/// Dollars for a million tokens at `per_hour` dollars and `tokens_per_s`.
fn per_million(per_hour: f64, tokens_per_s: f64) -> f64 {
    per_hour / 3600.0 / tokens_per_s * 1e6
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        let (memory_bytes, memory_available_bytes) = machine::memory();
        Machine {
            cpu: machine::cpu_model(),
            architecture: std::env::consts::ARCH,
            cores: machine::cores(),
            threads: rayon::current_num_threads(),
            simd: machine::simd(),
            memory_bytes,
            memory_available_bytes,
        }
    }
}

impl Row {
    fn new(measured: &Measurement) -> Self {
        let tokens = measured.all_tokens();
        let speed = |seconds: f64| tokens / seconds.max(f64::MIN_POSITIVE);
        let median = measured.median().total();
        let ends = [measured.repeats.first(), measured.repeats.last()];
        let [quickest, slowest] = ends.map(|repeat| repeat.map_or(median, |r| r.total()));
        let bytes_per_token = measured.bytes.total() as f64 / tokens;
        let gb_per_s = bytes_per_token * speed(median) / 1e9;
        let gflop_per_s = measured.operations / tokens * speed(median) / 1e9;
        let limits = measured.limits;
        let share = |speed: f64, limit: Option<f64>| limit.map(|limit| speed / limit);
        Row {
            kind: measured.kind,
            tokens: measured.tokens,
            depth: measured.depth,
            batch: measured.batch,
            repeats: measured.repeats.len(),
            tokens_per_s: Spread {
                median: speed(median),
                min: speed(slowest),
                max: speed(quickest),
            },
            bytes_per_token,
            gb_per_s,
            limits,
            bandwidth_share: share(gb_per_s, limits.bandwidth_gb_s),
            gflop_per_s,
            product_share: share(gflop_per_s, limits.product_gflop_s),
            bf16_product_share: share(gflop_per_s, limits.bf16_product_gflop_s),
            integer_product_share: share(gflop_per_s, limits.integer_product_gop_s),
        }
    }
}

impl Report {
    /// The rows of `measurements`, and what they were measured beside.
    pub(super) fn new(
        machine: Machine,
        subject: Subject,
        gauge: &Gauge,
        measurements: &[Measurement],
    ) -> Self {
        let rows = measurements.iter().map(Row::new);
        Report {
            version: env!("CARGO_PKG_VERSION"),
            optimised_build: !cfg!(debug_assertions),
            machine,
            subject,
            limits: gauge.best(),
            limits_measured: gauge.times(),
            bandwidth_median_gb_s: gauge.median_gb_s(),
            bandwidth_bytes: gauge.median_gb_s().map(|_| gauge.bytes()),
            rows: rows.collect(),
            cost: None,
            projection: None,
            interrupted: false,
            failed: None,
        }
    }

    /// Add what the measured tokens, and those of the projection, cost at `per_hour` dollars.
    pub(super) fn add_cost(&mut self, per_hour: f64) {
        let rows = self.rows.iter().map(|row| CostRow {
            kind: row.kind,
            tokens: row.tokens,
            depth: row.depth,
            batch: row.batch,
            per_million_tokens: per_million(per_hour, row.tokens_per_s.median),
        });
        self.cost = Some(Cost {
            per_hour,
            rows: rows.collect(),
        });
        for row in self.projection.iter_mut().flat_map(|p| &mut p.rows) {
            row.per_million_tokens = Some(per_million(per_hour, row.tokens_per_s));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::limits::tests::gauge;
    use super::super::part::ByPart;
    use super::*;
    use dsv3_model::PassBytes;

    /// Four decoded tokens of each of two sequences, in 2, 4 and 8 seconds, 16 GB read.
    pub(in super::super) fn measured() -> Measurement {
        Measurement {
            kind: Kind::Decode,
            tokens: 4,
            depth: 100,
            batch: 2,
            bytes: PassBytes {
                attention: 4_000_000_000,
                dense: 2_000_000_000,
                experts: 8_000_000_000,
                head: 2_000_000_000,
                ..PassBytes::default()
            },
            operations: 8e10,
            repeats: [0.5, 1.0, 2.0]
                .map(|times| ByPart([1.0, 0.5, 2.0, 0.5].map(|seconds| seconds * times)))
                .to_vec(),
            limits: Limits {
                bandwidth_gb_s: Some(8.0),
                product_gflop_s: Some(40.0),
                bf16_product_gflop_s: Some(80.0),
                integer_product_gop_s: Some(160.0),
            },
        }
    }

    pub(in super::super) fn report() -> Report {
        let machine = Machine {
            cpu: Some("a processor".into()),
            architecture: "x86_64",
            cores: 4,
            threads: 2,
            simd: vec!["avx2"],
            memory_bytes: Some(32 << 30),
            memory_available_bytes: Some(16 << 30),
        };
        let subject = Subject {
            model: "MODEL".into(),
            adapter: None,
            device: "cpu".into(),
            dtype: "f32",
            cache: "f32",
            w8a8: false,
            batch_tokens: 512,
            weight_bytes: 5 << 30,
            fits_memory: Some(true),
        };
        Report::new(machine, subject, &gauge(), &[measured()])
    }

    /// Breaks with: one sequence's tokens taken for all, the slowest taken for the quickest, a
    /// share of something else, a price by the second.
    #[test]
    fn numbers_follow_from_seconds_and_bytes() {
        let mut report = report();
        report.add_cost(3.6);
        let row = &report.rows[0];
        let speed = row.tokens_per_s;
        assert_eq!((speed.median, speed.min, speed.max), (2.0, 1.0, 4.0));
        assert_eq!((row.bytes_per_token, row.gb_per_s), (2e9, 4.0));
        assert_eq!((row.bandwidth_share, row.repeats), (Some(0.5), 3));
        // A tenth of a cent a second buys two tokens.
        let cost = report.cost.unwrap();
        assert!((cost.rows[0].per_million_tokens - 500.0).abs() < 1e-9);
    }
}
