//! One sequence's sampler.

use crate::candidates::{Candidates, Filters};
use crate::draw::Draws;
use crate::logprob::argmax;
use crate::{History, LogProbs, SamplingError, SamplingParams, Seed};

/// A chosen token and how probable the model held it and others.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The chosen id, always below the sampler's `vocab_size`.
    pub token: u32,
    /// Its log-probability (natural logarithm) in the model's raw distribution: before penalties,
    /// biases, temperature and filters, as OpenAI and vLLM report it.
    pub logprob: f32,
    /// The most probable tokens of the raw distribution, as many as `top_logprobs` asks for, most
    /// probable first. Empty, and without cost, when it asks for none.
    pub top: Vec<(u32, f32)>,
}

/// Chooses the tokens of one sequence.
///
/// The order of the steps: repetition, frequency and presence penalty, logit bias, temperature,
/// top-k, typical-p, top-p, min-p, draw. Every filter works on the distribution that the one
/// before it left, normalised anew, and leaves at least one token. Of equal logits the one of the
/// lower id ranks first.
///
/// **Determinism.** The draw is a function of the seed and of the position in the sequence, and
/// nothing else is random: the same logits, parameters and seed give the same token, whatever else
/// runs in the batch, and also when a sequence is begun again from its middle. Weights are computed
/// in f64 with the platform's `exp`, so two platforms may differ in a last bit, which shows only
/// where a draw falls within 1e-15 of a border between two tokens. Logits that differ (another
/// device, another order of summation) are the caller's to keep equal.
///
/// The buffers that a step needs are kept from step to step.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    vocab_size: usize,
    draws: Draws,
    /// Logits after penalties and biases; empty while neither is asked for. `[vocab]`
    adjusted: Vec<f32>,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler for one sequence.
    ///
    /// `vocab_size` is the number of token ids that exist. DeepSeek-V3.1's output layer has 129,280
    /// rows (config key `vocab_size`) for 128,815 tokens: the rows above are padding, are never
    /// read and cannot be chosen. `sequence_seed` decides the draws where `params.seed` is `None`;
    /// give each sequence its own.
    ///
    /// # Errors
    /// [`SamplingError::VocabularySize`] for no tokens at all or more than ids can count,
    /// [`SamplingError::UnknownToken`] for a logit bias on an id that does not exist.
    pub fn new(
        params: SamplingParams,
        vocab_size: usize,
        sequence_seed: impl Into<Seed>,
    ) -> Result<Self, SamplingError> {
        if vocab_size == 0 || u32::try_from(vocab_size - 1).is_err() {
            return Err(SamplingError::VocabularySize { vocab_size });
        }
        let exists = |token: u32| (token as usize) < vocab_size;
        if let Some((token, _)) = params.logit_bias.iter().find(|&(token, _)| !exists(token)) {
            return Err(SamplingError::UnknownToken { token, vocab_size });
        }
        let seed = params.seed.unwrap_or_else(|| sequence_seed.into());
        Ok(Self {
            draws: Draws::new(seed),
            params,
            vocab_size,
            adjusted: Vec::new(),
            candidates: Candidates::default(),
        })
    }

    /// The same with another stream of draws: number several answers to one request (OpenAI `n`)
    /// 0, 1, 2…, so that they differ although they share their seed. 0 is what `new` gives.
    #[must_use]
    pub fn with_stream(mut self, stream: u64) -> Self {
        self.draws.set_stream(stream);
        self
    }

    /// The parameters in force.
    #[must_use]
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The number of token ids that can be chosen.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Chooses the token that follows `history`, by the logits `[rows ≥ vocab_size]` of its last
    /// position. Does not append it: that is for the caller, who may refuse it.
    ///
    /// # Errors
    /// [`SamplingError::TooFewLogits`], [`SamplingError::NonFinite`] for NaN or +∞ in a real row
    /// (−∞ is a legal mask), [`SamplingError::AllMasked`]. The sampler stays usable.
    pub fn sample(&mut self, logits: &[f32], history: &History) -> Result<Sampled, SamplingError> {
        let row = self.real_rows(logits)?;
        let raw = LogProbs::new(row)?;
        let token = match self.prepare(row, history)? {
            Some(greedy) => greedy,
            None => {
                let u = self.draws.at(history.len());
                // There is always a candidate: the largest logit weighs 1.
                self.candidates.pick(u).ok_or(SamplingError::AllMasked {
                    vocab_size: self.vocab_size,
                })?
            }
        };
        Ok(Sampled {
            token,
            logprob: raw.of(token)?,
            top: raw.top(self.params.top_logprobs),
        })
    }

    /// What [`Sampler::sample`] draws from: the tokens that can follow with their probabilities,
    /// most probable first, summing to 1. Greedy is one token with probability 1.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(
        &mut self,
        logits: &[f32],
        history: &History,
    ) -> Result<Vec<(u32, f64)>, SamplingError> {
        let row = self.real_rows(logits)?;
        Ok(match self.prepare(row, history)? {
            Some(greedy) => vec![(greedy, 1.0)],
            None => self.candidates.distribution(),
        })
    }

    /// Cuts the padding off.
    fn real_rows<'a>(&self, logits: &'a [f32]) -> Result<&'a [f32], SamplingError> {
        let (got, vocab_size) = (logits.len(), self.vocab_size);
        logits
            .get(..vocab_size)
            .ok_or(SamplingError::TooFewLogits { got, vocab_size })
    }

    /// All steps but the draw: the greedy token, or `None` with the candidates ready.
    fn prepare(&mut self, row: &[f32], history: &History) -> Result<Option<u32>, SamplingError> {
        let logits = adjust(&self.params, row, history, &mut self.adjusted);
        let best = argmax(logits)?;
        if self.params.temperature.is_greedy() {
            return Ok(Some(best as u32));
        }
        let filters = Filters {
            temperature: self.params.temperature.get(),
            top_k: self.params.top_k.map(|k| k.get()),
            typical_p: self.params.typical_p.map_or(1.0, |p| p.get()),
            top_p: self.params.top_p.get(),
            min_p: self.params.min_p.map_or(0.0, |p| p.get()),
        };
        self.candidates.select(logits, logits[best], &filters);
        Ok(None)
    }
}

/// Penalties and biases: the row itself when there are none, else a copy in `scratch`.
///
/// A finite logit stays finite and −∞ stays −∞, so a mask cannot be lifted by a bias.
fn adjust<'a>(
    params: &SamplingParams,
    row: &'a [f32],
    history: &History,
    scratch: &'a mut Vec<f32>,
) -> &'a [f32] {
    let repetition = params.repetition_penalty.map_or(1.0, |p| p.get());
    let frequency = params.frequency_penalty.map_or(0.0, |p| p.get());
    let presence = params.presence_penalty.map_or(0.0, |p| p.get());
    let penalised = repetition != 1.0 || frequency != 0.0 || presence != 0.0;
    if !penalised && params.logit_bias.is_empty() {
        return row;
    }
    scratch.clear();
    scratch.extend_from_slice(row);
    let mut change = |token: u32, f: &dyn Fn(f64) -> f64| {
        // A prompt may hold ids that cannot be sampled; they have no logit to change.
        if let Some(x) = scratch.get_mut(token as usize).filter(|x| x.is_finite()) {
            *x = f(f64::from(*x)).clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
        }
    };
    // A token with both is rounded once.
    if penalised {
        for (token, count) in history.seen() {
            let count = f64::from(count);
            let bias = params.logit_bias.get(token);
            change(token, &|x| {
                let x = if x > 0.0 {
                    x / repetition
                } else {
                    x * repetition
                };
                x - frequency * count - if count > 0.0 { presence } else { 0.0 } + bias
            });
        }
    }
    for (token, bias) in params.logit_bias.iter() {
        if !(penalised && history.contains(token)) {
            change(token, &|x| x + bias);
        }
    }
    scratch
}
