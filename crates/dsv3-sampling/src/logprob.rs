//! Log-probabilities of the model's own distribution.

use crate::{SamplingError, TopLogprobs};

/// A row of logits over the tokens that exist, checked, with its normaliser: the logarithm of a
/// softmax, asked for one token at a time.
///
/// This is the model's raw distribution: before penalties, biases, temperature and filters, as
/// OpenAI and vLLM report it.
///
/// ```
/// use dsv3_sampling::LogProbs;
///
/// let row = LogProbs::new(&[0.0, 0.0, f32::NEG_INFINITY])?;
/// assert_eq!(row.of(1)?, -std::f32::consts::LN_2);
/// assert_eq!(row.of(2)?, f32::NEG_INFINITY);
/// assert!(row.of(3).is_err());
/// # Ok::<(), dsv3_sampling::SamplingError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LogProbs<'a> {
    logits: &'a [f32], // [vocab]
    max: f64,
    /// ln Σ exp(x − max), at least 0.
    log_sum: f64,
}

impl<'a> LogProbs<'a> {
    /// Checks and sums up a row of logits `[vocab]` that holds real tokens only: cut padding rows
    /// off first.
    ///
    /// # Errors
    /// [`SamplingError::VocabularySize`] for an empty row, [`SamplingError::NonFinite`] for NaN or
    /// +∞, [`SamplingError::AllMasked`] when all are −∞.
    pub fn new(logits: &'a [f32]) -> Result<Self, SamplingError> {
        let max = f64::from(logits[argmax(logits)?]);
        // In f64, since 129,280 terms summed in f32 lose two of seven digits.
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
        Ok(Self {
            logits,
            max,
            log_sum: sum.ln(),
        })
    }

    /// A token's log-probability; −∞ where it is masked.
    ///
    /// # Errors
    /// [`SamplingError::UnknownToken`] for an id past the end of the row.
    pub fn of(&self, token: u32) -> Result<f32, SamplingError> {
        let unknown = SamplingError::UnknownToken {
            token,
            vocab_size: self.logits.len(),
        };
        let logit = usize::try_from(token)
            .ok()
            .and_then(|index| self.logits.get(index));
        logit.map(|&x| self.of_logit(x)).ok_or(unknown)
    }

    /// The `n` most probable tokens with their log-probabilities, most probable first, equal ones
    /// by id. Masked tokens are left out, so there may be fewer.
    #[must_use]
    pub fn top(&self, n: TopLogprobs) -> Vec<(u32, f32)> {
        let n = n.get();
        let mut top: Vec<(u32, f32)> = Vec::with_capacity(n);
        if n == 0 {
            return top;
        }
        for (index, &x) in self.logits.iter().enumerate() {
            let full = top.len() == n;
            // A later equal logit has the higher id and ranks behind: hence `>` when full.
            if x == f32::NEG_INFINITY || (full && top.last().is_some_and(|last| x <= last.1)) {
                continue;
            }
            if full {
                top.pop();
            }
            let place = top.partition_point(|&(_, held)| held >= x);
            top.insert(place, (index as u32, x));
        }
        for (_, x) in &mut top {
            *x = self.of_logit(*x);
        }
        top
    }

    fn of_logit(&self, x: f32) -> f32 {
        (f64::from(x) - self.max - self.log_sum) as f32
    }
}

/// Log-probabilities of a whole row `[vocab]` of logits over real tokens.
///
/// # Errors
/// As [`LogProbs::new`].
pub fn log_softmax(logits: &[f32]) -> Result<Vec<f32>, SamplingError> {
    let row = LogProbs::new(logits)?;
    Ok(logits.iter().map(|&x| row.of_logit(x)).collect())
}

/// One token's log-probability under a row `[vocab]` of logits over real tokens. For several
/// tokens of the same row use [`LogProbs`].
///
/// # Errors
/// As [`LogProbs::new`] and [`LogProbs::of`].
pub fn logprob_of(logits: &[f32], token: u32) -> Result<f32, SamplingError> {
    LogProbs::new(logits)?.of(token)
}

/// The index of the largest logit, of equal ones the lowest.
pub(crate) fn argmax(logits: &[f32]) -> Result<usize, SamplingError> {
    if logits.is_empty() {
        return Err(SamplingError::VocabularySize { vocab_size: 0 });
    }
    let mut best = 0;
    let mut max = f32::NEG_INFINITY;
    for (index, &x) in logits.iter().enumerate() {
        if x.is_nan() || x == f32::INFINITY {
            return Err(SamplingError::NonFinite { index, value: x });
        }
        if x > max {
            (best, max) = (index, x);
        }
    }
    if max == f32::NEG_INFINITY {
        return Err(SamplingError::AllMasked {
            vocab_size: logits.len(),
        });
    }
    Ok(best)
}
