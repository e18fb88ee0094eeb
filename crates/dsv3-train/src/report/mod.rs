//! What a training run tells of itself: to people while it runs, to machines, and as curves.

mod axis;
mod curves;
mod jsonl;
mod load;
mod progress;

pub use curves::curves_svg;
pub use jsonl::{JsonLog, read_log};
pub use progress::Progress;

use serde::{Deserialize, Serialize};

/// What one step did. A line of the log.
///
/// In JSON a number that is none (a loss that has become NaN or infinite) is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps of the whole training.
    pub total_steps: u64,
    /// Tokens seen since the training began, this step's included.
    pub tokens_seen: u64,
    /// Cross-entropy for each target token, natural logarithm.
    #[serde(with = "number")]
    pub loss: f64,
    /// The same for the MTP module, without its weight.
    #[serde(default)]
    pub mtp_loss: Option<f64>,
    /// The sequence-wise balance loss, without its weight.
    #[serde(default)]
    pub balance_loss: Option<f64>,
    /// Learning rate.
    #[serde(with = "number")]
    pub lr: f64,
    /// Norm of the gradient before clipping.
    #[serde(with = "number")]
    pub grad_norm: f64,
    /// Tokens a second, lately.
    #[serde(with = "number")]
    pub tokens_per_s: f64,
    /// Seconds of training since it began, those before a resumption included.
    #[serde(with = "number")]
    pub elapsed_s: f64,
    /// `[MoE layer, expert]`: which share of the routed tokens each expert got. Four places are
    /// written.
    #[serde(default, with = "shares")]
    pub expert_load: Vec<Vec<f32>>,
    /// Loss on the held-out part, in the steps that measured it.
    #[serde(default)]
    pub eval_loss: Option<f64>,
}

/// JSON has no NaN: null stands for it, so that the log of a run that diverged can be read.
mod number {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match number.is_finite() {
            true => serializer.serialize_f64(*number),
            false => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

mod shares {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        load: &[Vec<f32>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let rounded = |share: &f32| (f64::from(*share) * 1e4).round() / 1e4;
        serializer.collect_seq(
            load.iter()
                .map(|layer| layer.iter().map(rounded).collect::<Vec<f64>>()),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Vec<f32>>, D::Error> {
        let load: Vec<Vec<Option<f32>>> = Vec::deserialize(deserializer)?;
        let layer = |layer: Vec<Option<f32>>| {
            let shares = layer.into_iter().map(|share| share.unwrap_or(f32::NAN));
            shares.collect()
        };
        Ok(load.into_iter().map(layer).collect())
    }
}
