//! Where sequences come from, one after another, from any place on.

use dsv3_tasks::{Corpus, Draw};
use dsv3_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::data::dataset::Dataset;
use crate::data::sequence::TrainSequence;
use crate::error::TrainError;

/// A place in a [`Source`]: the sequence that comes next.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SourcePosition {
    /// How often the whole data was gone through.
    pub epoch: u64,
    /// How many sequences of this epoch were given.
    pub index: u64,
}

/// Gives sequences without end, and the same ones again after a return to an earlier place.
pub trait Source {
    /// The next sequence.
    ///
    /// # Errors
    /// One that can't be made.
    fn next_sequence(&mut self) -> Result<TrainSequence, TrainError>;

    /// The place of what [`Source::next_sequence`] gives next.
    fn position(&self) -> SourcePosition;

    /// Goes on from another place.
    ///
    /// # Errors
    /// [`TrainError::Seek`] where there is no such place.
    fn seek(&mut self, position: SourcePosition) -> Result<(), TrainError>;
}

/// The tasks of a generated corpus by their number, without end. There are no epochs.
#[derive(Clone, Debug)]
pub struct CorpusSource {
    corpus: Corpus,
    tokenizer: Tokenizer,
    next: u64,
}

impl CorpusSource {
    /// From the first example.
    pub fn new(corpus: Corpus, tokenizer: Tokenizer) -> Self {
        CorpusSource {
            corpus,
            tokenizer,
            next: 0,
        }
    }
}

impl Source for CorpusSource {
    fn next_sequence(&mut self) -> Result<TrainSequence, TrainError> {
        let example = self.corpus.example(self.next)?;
        let sequence = TrainSequence::from_example(&example, &self.tokenizer)?;
        self.next += 1;
        Ok(sequence)
    }

    fn position(&self) -> SourcePosition {
        SourcePosition {
            epoch: 0,
            index: self.next,
        }
    }

    fn seek(&mut self, position: SourcePosition) -> Result<(), TrainError> {
        if position.epoch != 0 {
            return Err(TrainError::Seek {
                epoch: position.epoch,
                index: position.index,
                problem: "a generated corpus has no epochs. Was the run begun with a file of data?"
                    .to_owned(),
            });
        }
        self.next = position.index;
        Ok(())
    }
}

/// The sequences of a [`Dataset`], each epoch in another order that follows from a seed.
#[derive(Clone, Debug)]
pub struct DatasetSource {
    dataset: Dataset,
    seed: u64,
    position: SourcePosition,
    /// The epoch whose order this is, and the order.
    order: (u64, Vec<usize>),
}

impl DatasetSource {
    /// From the beginning.
    ///
    /// # Errors
    /// [`TrainError::Sequence`] where the dataset is empty.
    pub fn new(dataset: Dataset, seed: u64) -> Result<Self, TrainError> {
        if dataset.sequences().is_empty() {
            return Err(TrainError::Sequence {
                problem: "the dataset is empty".to_owned(),
            });
        }
        let order = (0, order(dataset.sequences().len(), seed, 0));
        Ok(DatasetSource {
            dataset,
            seed,
            position: SourcePosition::default(),
            order,
        })
    }

    /// The data.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }
}

impl Source for DatasetSource {
    fn next_sequence(&mut self) -> Result<TrainSequence, TrainError> {
        let SourcePosition { epoch, index } = self.position;
        let sequences = self.dataset.sequences();
        if self.order.0 != epoch {
            self.order = (epoch, order(sequences.len(), self.seed, epoch));
        }
        let sequence = usize::try_from(index)
            .ok()
            .and_then(|index| self.order.1.get(index))
            .and_then(|at| sequences.get(*at))
            .ok_or_else(|| beyond(self.position, sequences.len()))?
            .clone();
        self.position = match index + 1 < sequences.len() as u64 {
            true => SourcePosition {
                epoch,
                index: index + 1,
            },
            false => SourcePosition {
                epoch: epoch.saturating_add(1),
                index: 0,
            },
        };
        Ok(sequence)
    }

    fn position(&self) -> SourcePosition {
        self.position
    }

    fn seek(&mut self, position: SourcePosition) -> Result<(), TrainError> {
        if position.index >= self.dataset.sequences().len() as u64 {
            return Err(beyond(position, self.dataset.sequences().len()));
        }
        self.position = position;
        Ok(())
    }
}

fn order(length: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    Draw::new(seed, epoch).shuffle(&mut order);
    order
}

fn beyond(position: SourcePosition, length: usize) -> TrainError {
    TrainError::Seek {
        epoch: position.epoch,
        index: position.index,
        problem: format!(
            "the data has {length} sequences. Is it the file that the run began with?"
        ),
    }
}
