//! Logit biases that a client lays on single tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SamplingError;

/// What is added to the logits of single tokens, each from −100 to 100 (OpenAI `logit_bias`).
///
/// As JSON it is an object from the id, as text, to the number: `{"2577": -100}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<u32, f64>")]
pub struct LogitBias(BTreeMap<u32, f64>);

impl LogitBias {
    /// Most tokens that one request may bias, as in OpenAI's API; a bound on the work of a step.
    pub const MAX_TOKENS: usize = 1024;

    /// Takes token ids with their biases; of an id given twice the last one counts.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] for a bias that is not from −100 to 100, and for more than
    /// [`LogitBias::MAX_TOKENS`] tokens. Whether the ids exist is asked where the vocabulary is
    /// known, in [`Sampler::new`](crate::Sampler::new).
    pub fn new(biases: impl IntoIterator<Item = (u32, f64)>) -> Result<Self, SamplingError> {
        let mut map = BTreeMap::new();
        for (token, bias) in biases {
            if !(-100.0..=100.0).contains(&bias) {
                return Err(SamplingError::OutOfRange {
                    name: "logit_bias",
                    value: format!("{bias} for token {token}"),
                    allowed: "a number from -100 to 100 for each token",
                });
            }
            map.insert(token, bias);
            if map.len() > Self::MAX_TOKENS {
                return Err(SamplingError::OutOfRange {
                    name: "logit_bias",
                    value: format!("a list of more than {} tokens", Self::MAX_TOKENS),
                    allowed: "biases for at most 1024 tokens",
                });
            }
        }
        Ok(Self(map))
    }

    /// Whether no token is biased.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A token's bias; 0 where it has none.
    pub(crate) fn get(&self, token: u32) -> f64 {
        self.0.get(&token).copied().unwrap_or(0.0)
    }

    /// The ids with their biases, ids ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.0.iter().map(|(&token, &bias)| (token, bias))
    }
}

impl TryFrom<BTreeMap<u32, f64>> for LogitBias {
    type Error = SamplingError;
    fn try_from(map: BTreeMap<u32, f64>) -> Result<Self, SamplingError> {
        Self::new(map)
    }
}
