//! How one sequence wants its tokens chosen.

use serde::{Deserialize, Serialize};

use crate::{
    FrequencyPenalty, LogitBias, MinP, PresencePenalty, RepetitionPenalty, Seed, Temperature, TopK,
    TopLogprobs, TopP, TypicalP,
};

/// One sequence's wishes. Every field is of a type that holds possible values only, so any
/// `SamplingParams` can be used as it is.
///
/// `None` means that the step in question is left out. `Default` is the model's own default:
/// temperature 0.6, top-p 0.95 (DeepSeek-V3.1, `generation_config.json`).
///
/// ```
/// use dsv3_sampling::{SamplingParams, Seed, TopK};
///
/// let params = SamplingParams {
///     top_k: Some(TopK::new(40)?),
///     seed: Some(Seed(7)),
///     ..SamplingParams::default()
/// };
/// let text = r#"{"temperature": 0.6, "top_k": 40, "seed": 7}"#;
/// assert_eq!(serde_json::from_str::<SamplingParams>(text)?, params);
/// assert!(serde_json::from_str::<SamplingParams>(r#"{"top_p": 1.5}"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Divides the logits; 0 is greedy.
    pub temperature: Temperature,
    /// Keep the most probable tokens up to this sum.
    pub top_p: TopP,
    /// Keep this many tokens.
    pub top_k: Option<TopK>,
    /// Keep what is near enough to the most probable token.
    pub min_p: Option<MinP>,
    /// Keep what is about as surprising as the distribution on the whole.
    pub typical_p: Option<TypicalP>,
    /// Against tokens of the prompt and the output.
    pub repetition_penalty: Option<RepetitionPenalty>,
    /// Against tokens of the output, whatever their number.
    pub presence_penalty: Option<PresencePenalty>,
    /// Against tokens of the output, by their number.
    pub frequency_penalty: Option<FrequencyPenalty>,
    /// Added to single tokens' logits.
    pub logit_bias: LogitBias,
    /// How many of the most probable tokens to report.
    pub top_logprobs: TopLogprobs,
    /// Fixes the draws; without it the seed that the sequence was given decides.
    pub seed: Option<Seed>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: Temperature::MODEL_DEFAULT,
            top_p: TopP::MODEL_DEFAULT,
            top_k: None,
            min_p: None,
            typical_p: None,
            repetition_penalty: None,
            presence_penalty: None,
            frequency_penalty: None,
            logit_bias: LogitBias::default(),
            top_logprobs: TopLogprobs::NONE,
            seed: None,
        }
    }
}

impl SamplingParams {
    /// The largest logit at every step; of equal ones the lower id.
    #[must_use]
    pub fn greedy() -> Self {
        Self {
            temperature: Temperature::GREEDY,
            top_p: TopP::ALL,
            ..Self::default()
        }
    }

    /// The model's distribution as it is: temperature 1 and no filter.
    #[must_use]
    pub fn unfiltered() -> Self {
        Self {
            temperature: Temperature::ONE,
            top_p: TopP::ALL,
            ..Self::default()
        }
    }

    /// The same with another temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: Temperature) -> Self {
        self.temperature = temperature;
        self
    }

    /// The same with another top-p.
    #[must_use]
    pub fn with_top_p(mut self, top_p: TopP) -> Self {
        self.top_p = top_p;
        self
    }

    /// The same with a top-k, or without.
    #[must_use]
    pub fn with_top_k(mut self, top_k: Option<TopK>) -> Self {
        self.top_k = top_k;
        self
    }

    /// The same with a min-p, or without.
    #[must_use]
    pub fn with_min_p(mut self, min_p: Option<MinP>) -> Self {
        self.min_p = min_p;
        self
    }

    /// The same with a seed, or without.
    #[must_use]
    pub fn with_seed(mut self, seed: Option<Seed>) -> Self {
        self.seed = seed;
        self
    }

    /// The same with this many alternatives reported.
    #[must_use]
    pub fn with_top_logprobs(mut self, top_logprobs: TopLogprobs) -> Self {
        self.top_logprobs = top_logprobs;
        self
    }
}
