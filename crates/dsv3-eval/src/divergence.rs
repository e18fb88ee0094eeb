//! How far one model's predictions lie from another's, over the same texts.

use std::ops::{ControlFlow, Range};

use dsv3_engine::{Engine, ModelRunner};
use dsv3_sampling::TopLogprobs;
use dsv3_tokenizer::{TokenId, Tokenizer};
use serde::Serialize;

use crate::error::EvalError;
use crate::interval::Rate;
use crate::segments::to_ids;
use crate::set::EvalSet;

/// A text, and the tokens of it whose prediction counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedText {
    /// The whole text.
    pub ids: Vec<TokenId>,
    /// Stretches of it. The first token of a text has nothing before it and never counts.
    pub counted: Vec<Range<usize>>,
}

impl CountedText {
    /// A long text cut into windows of at most `length` tokens, all of which count.
    pub fn windows(ids: &[TokenId], length: usize) -> Vec<Self> {
        let windows = ids.chunks(length.max(2)).filter(|ids| ids.len() > 1);
        windows
            .map(|ids| CountedText {
                ids: ids.to_vec(),
                counted: std::iter::once(1..ids.len()).collect(),
            })
            .collect()
    }

    /// The tasks of a set with the answers that are expected; the answers count.
    ///
    /// # Errors
    /// [`EvalError::Tokenizer`] for a vocabulary that lacks what a task needs.
    pub fn of_set(set: &EvalSet, tokenizer: &Tokenizer) -> Result<Vec<Self>, EvalError> {
        let texts = set.tasks.iter().map(|task| {
            let failed = |source| EvalError::Tokenizer {
                kind: task.example.kind.name(),
                source,
            };
            let (mut ids, mut counted) = (Vec::new(), Vec::new());
            for turn in &task.example.turns {
                ids.extend(to_ids(&turn.given, tokenizer).map_err(failed)?);
                let start = ids.len();
                ids.extend(to_ids(&turn.answer, tokenizer).map_err(failed)?);
                counted.push(start..ids.len());
            }
            Ok(CountedText { ids, counted })
        });
        texts.collect()
    }

    fn counts(&self, position: usize) -> bool {
        position > 0 && self.counted.iter().any(|range| range.contains(&position))
    }
}

/// What a change of weights, format or arithmetic does to the predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// Texts.
    pub texts: usize,
    /// Predicted tokens.
    pub tokens: usize,
    /// `e` to the mean negative log-probability of the base, over these tokens.
    pub base_perplexity: f64,
    /// The same of the other model.
    pub perplexity: f64,
    /// Mean of `KL(base ‖ other) = Σ p · ln(p / q)` over the vocabulary, in nats.
    pub kl_mean: f64,
    /// 99 of 100 tokens have at most this.
    pub kl_p99: f64,
    /// The largest.
    pub kl_max: f64,
    /// How often both find the same token the most probable.
    pub top_1: Rate,
}

/// What is added up over the texts.
#[derive(Default)]
struct Sums {
    base: f64,
    other: f64,
    kl: Vec<f64>,
    agree: usize,
}

/// Hold the predictions of `other` against those of `base`. The distributions of one text's counted
/// tokens are in memory at a time. `on_text` hears of every text, and may break off.
///
/// # Errors
/// [`EvalError::Vocabularies`] for models of different vocabularies, [`EvalError::Empty`] where no
/// token counts, [`EvalError::Engine`] for a text that is too long or a model that gives no
/// numbers, [`EvalError::Stopped`].
pub fn divergence<A: ModelRunner, B: ModelRunner>(
    base: &mut Engine<A>,
    other: &mut Engine<B>,
    texts: &[CountedText],
    on_text: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Divergence, EvalError> {
    let vocabularies = (base.real_vocab_size(), other.real_vocab_size());
    if vocabularies.0 != vocabularies.1 {
        return Err(EvalError::Vocabularies {
            base: vocabularies.0,
            other: vocabularies.1,
        });
    }
    let mut sums = Sums::default();
    for text in texts {
        let (ours, theirs) = (predictions(base, text)?, predictions(other, text)?);
        for (p, q) in ours.iter().zip(&theirs) {
            sums.add(p, q);
        }
        if on_text().is_break() {
            return Err(EvalError::Stopped);
        }
    }
    sums.finish(texts.len())
}

/// A distribution, as log-probabilities, and the token that came.
struct Prediction {
    log_probabilities: Vec<f32>,
    token: usize,
}

/// The predictions of a text's counted tokens.
fn predictions<R: ModelRunner>(
    engine: &mut Engine<R>,
    text: &CountedText,
) -> Result<Vec<Prediction>, EvalError> {
    let vocab = engine.real_vocab_size();
    let mut predictions = Vec::new();
    engine.score(&text.ids, TopLogprobs::NONE, &mut |score| {
        let next = score.position + 1;
        if let Some(token) = text.ids.get(next)
            && text.counts(next)
        {
            let logits = score.logits.get(..vocab).unwrap_or(score.logits);
            predictions.push(Prediction {
                log_probabilities: log_softmax(logits),
                token: *token as usize,
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok(predictions)
}

/// `ln softmax`, summed in f64.
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|v| f64::from(v - max).exp()).sum();
    let shift = f64::from(max) + sum.ln();
    let shifted = logits.iter().map(|v| (f64::from(*v) - shift) as f32);
    shifted.collect()
}

impl Sums {
    fn add(&mut self, base: &Prediction, other: &Prediction) {
        let (p, q) = (&base.log_probabilities, &other.log_probabilities);
        let terms = p.iter().zip(q).map(|(p, q)| {
            let (p, q) = (f64::from(*p), f64::from(*q));
            p.exp() * (p - q)
        });
        // Rounding can make the sum of a distribution against itself minutely negative.
        self.kl.push(terms.sum::<f64>().max(0.0));
        let of = |p: &[f32], token: usize| p.get(token).copied().map_or(f64::NAN, f64::from);
        self.base -= of(p, base.token);
        self.other -= of(q, other.token);
        self.agree += usize::from(best(p) == best(q));
    }

    fn finish(mut self, texts: usize) -> Result<Divergence, EvalError> {
        let tokens = self.kl.len();
        if tokens == 0 {
            return Err(EvalError::Empty("no token of the texts counts".into()));
        }
        self.kl.sort_unstable_by(f64::total_cmp);
        let quantile = |part: f64| {
            let at = (part * tokens as f64).ceil() as usize;
            self.kl.get(at.clamp(1, tokens) - 1).copied()
        };
        let mean = |sum: f64| sum / tokens as f64;
        Ok(Divergence {
            texts,
            tokens,
            base_perplexity: mean(self.base).exp(),
            perplexity: mean(self.other).exp(),
            kl_mean: mean(self.kl.iter().sum()),
            kl_p99: quantile(0.99).unwrap_or_default(),
            kl_max: quantile(1.0).unwrap_or_default(),
            top_1: Rate::new(self.agree, tokens),
        })
    }
}

/// The most probable token, the first of equals.
fn best(p: &[f32]) -> usize {
    let better = |best: (usize, f32), (at, p): (usize, &f32)| match *p > best.1 {
        true => (at, *p),
        false => best,
    };
    p.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(probabilities: &[f64], token: usize) -> Prediction {
        Prediction {
            log_probabilities: probabilities.iter().map(|p| p.ln() as f32).collect(),
            token,
        }
    }

    /// Breaks with: the divergence taken the other way round, a mean of probabilities in place of
    /// one of logarithms, a quantile off by one, ties that count as disagreement.
    #[test]
    fn sums_are_those_of_the_definitions() {
        let mut sums = Sums::default();
        let (p, q) = ([0.5, 0.25, 0.25], [0.25, 0.5, 0.25]);
        sums.add(&prediction(&p, 0), &prediction(&q, 0));
        for _ in 0..99 {
            sums.add(&prediction(&p, 1), &prediction(&p, 1));
        }
        let got = sums.finish(7).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        let kl = 0.5 * 2f64.ln() - 0.25 * 2f64.ln();
        close(got.kl_max, kl);
        close(got.kl_mean, kl / 100.0);
        close(got.kl_p99, 0.0);
        close(
            got.base_perplexity,
            ((2f64.ln() + 99.0 * 4f64.ln()) / 100.0).exp(),
        );
        close(got.perplexity, 4.0);
        assert_eq!((got.top_1.right, got.top_1.count), (99, 100));
        assert_eq!((got.texts, got.tokens), (7, 100));
        assert!(matches!(
            Sums::default().finish(0),
            Err(EvalError::Empty(_))
        ));
    }

    /// Breaks with: logits so large that a plain exponential overflows.
    #[test]
    fn log_softmax_takes_large_logits() {
        let logs = log_softmax(&[1000.0, 1000.0, -1000.0]);
        assert!((logs[0] + 2f32.ln()).abs() < 1e-6);
        assert!(logs[2] < -1900.0);
    }

    /// Breaks with: a first token that counts, a window of one token, tokens lost between windows.
    #[test]
    fn windows_cover_the_text() {
        let ids: Vec<TokenId> = (0..11).collect();
        let windows = CountedText::windows(&ids, 5);
        assert_eq!(windows.len(), 2); // the eleventh has nothing to be predicted from
        assert_eq!(windows[1].ids, [5, 6, 7, 8, 9]);
        assert!(!windows[1].counts(0) && windows[1].counts(1) && windows[1].counts(4));
    }
}
