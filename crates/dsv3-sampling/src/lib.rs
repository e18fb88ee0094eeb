//! From a row of logits to a token: greedy, temperature, top-k, top-p, min-p, typical-p,
//! penalties, logit bias, seeds, log-probabilities.
//!
//! A [`Sampler`] belongs to one sequence. It takes slices of `f32` and gives ids; it deliberately
//! knows nothing of tensors, devices, text, special tokens, batches, or when a sequence ends.
//!
//! ```
//! use dsv3_sampling::{History, Preset, Sampler, SamplingParams};
//!
//! // Three tokens exist; the fourth row of the output layer is padding.
//! let logits = [0.5, 2.0, 1.0, 99.0];
//! let mut history = History::new(&[0, 2]);
//!
//! let mut greedy = Sampler::new(SamplingParams::greedy(), 3, 0u64)?;
//! let first = greedy.sample(&logits, &history)?;
//! assert_eq!(first.token, 1);
//! history.push(first.token);
//!
//! // Drawn, and the same on every run: the seed and the position decide.
//! let mut creative = Sampler::new(Preset::Creative.params(), 3, 7u64)?;
//! let again = creative.clone().sample(&logits, &history)?;
//! assert_eq!(creative.sample(&logits, &history)?, again);
//! # Ok::<(), dsv3_sampling::SamplingError>(())
//! ```
//!
//! Parameters are types whose every value is possible ([`Temperature`], [`TopP`], [`TopK`]…), so
//! that a request is refused when it is read and never in the middle of an answer:
//!
//! ```
//! use dsv3_sampling::TopP;
//!
//! let refused = TopP::new(1.5).unwrap_err();
//! assert_eq!(
//!     refused.to_string(),
//!     "top_p is 1.5, which is not allowed: give a number above 0 and at most 1"
//! );
//! ```
#![forbid(unsafe_code)]

mod bias;
mod candidates;
mod draw;
mod error;
mod history;
mod logprob;
mod params;
mod preset;
mod ranged;
mod sampler;

pub use bias::LogitBias;
pub use error::SamplingError;
pub use history::History;
pub use logprob::{LogProbs, log_softmax, logprob_of};
pub use params::SamplingParams;
pub use preset::Preset;
pub use ranged::{
    FrequencyPenalty, MinP, PresencePenalty, RepetitionPenalty, Seed, Temperature, TopK,
    TopLogprobs, TopP, TypicalP,
};
pub use sampler::{Sampled, Sampler};
