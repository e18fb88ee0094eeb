//! The training corpus, example by example, and the held-out part.

use std::collections::HashSet;

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split};
use crate::generate::generate;
use crate::mix::Mix;

/// Draws for one example of the training part. One in 16 is held out, so two in a row are already
/// rare; a kind that needs more than this has nothing to train on.
const TRIES: usize = 1_000;

/// An endless row of training examples: the one at an index follows from the seed and the index.
///
/// ```
/// use dsv3_tasks::{Corpus, Mix, Split};
///
/// # fn main() -> Result<(), dsv3_tasks::TasksError> {
/// let corpus = Corpus::new(7, Mix::default())?;
/// let example = corpus.example(123)?;
/// assert_eq!(example.split, Split::Train);
/// assert_eq!(example, corpus.example(123)?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Corpus {
    seed: u64,
    mix: Mix,
    total: f64,
}

impl Corpus {
    /// A corpus of this seed and these shares.
    ///
    /// # Errors
    /// [`TasksError::Mix`] where a weight is negative or no number, or none is above zero.
    pub fn new(seed: u64, mix: Mix) -> Result<Self, TasksError> {
        for &(kind, mode, weight) in &mix.weights {
            if !weight.is_finite() || weight < 0.0 {
                return Err(TasksError::Mix(format!(
                    "the weight of {} ({}) is {weight}; it must be 0 or more",
                    kind.name(),
                    mode.name()
                )));
            }
        }
        let total: f64 = mix.weights.iter().map(|&(_, _, weight)| weight).sum();
        if total <= 0.0 {
            return Err(TasksError::Mix(
                "no kind has a weight above 0; give one a weight".to_owned(),
            ));
        }
        Ok(Corpus { seed, mix, total })
    }

    /// The training example at an index.
    ///
    /// # Errors
    /// Those of [`generate`]: faults of the mix or of a generator.
    pub fn example(&self, index: u64) -> Result<Example, TasksError> {
        let mut draw = Draw::new(self.seed, index);
        let (kind, mode) = self.kind(&mut draw);
        for _ in 0..TRIES {
            let example = generate(kind, mode, &mut draw)?;
            if example.split == Split::Train {
                return Ok(example);
            }
        }
        Err(TasksError::Exhausted {
            split: Split::Train.name(),
            kind: kind.name(),
            tries: TRIES,
        })
    }

    /// A kind and mode by their weights.
    fn kind(&self, draw: &mut Draw) -> (Kind, Mode) {
        let mut left = draw.fraction() * self.total;
        let mut last = (Kind::Facts, Mode::Nothink);
        for &(kind, mode, weight) in &self.mix.weights {
            if weight > 0.0 {
                last = (kind, mode);
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        last
    }
}

/// Held-out examples with different ids. Both modes of a kind get the same questions, so that
/// they can be held side by side.
///
/// # Errors
/// [`TasksError::Exhausted`] where the kind has not so many; those of [`generate`].
pub fn held_out(
    kind: Kind,
    mode: Mode,
    count: usize,
    seed: u64,
) -> Result<Vec<Example>, TasksError> {
    let tries = 100_000 + 1_000 * count;
    let mut draw = Draw::new(seed, kind as u64);
    let mut seen = HashSet::new();
    let mut examples = Vec::with_capacity(count);
    for _ in 0..tries {
        if examples.len() == count {
            return Ok(examples);
        }
        let example = generate(kind, mode, &mut draw)?;
        if example.split == Split::HeldOut && seen.insert(example.id.clone()) {
            examples.push(example);
        }
    }
    Err(TasksError::Exhausted {
        split: Split::HeldOut.name(),
        kind: kind.name(),
        tries,
    })
}
