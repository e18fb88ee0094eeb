//! Batches: sequences side by side that can't see each other.

use std::collections::VecDeque;

use dsv3_model::ForwardBatch;
use dsv3_tokenizer::TokenId;
use serde::{Deserialize, Serialize};

use crate::data::sequence::TrainSequence;
use crate::data::source::{Source, SourcePosition};
use crate::error::TrainError;

/// How sequences are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackingOptions {
    /// Tokens that a batch holds at most.
    pub tokens_per_batch: usize,
    /// Sequences that are looked through for one that still fits.
    pub window: usize,
}

impl PackingOptions {
    /// A window of 32: with sequences of mixed lengths a batch then is all but full.
    pub fn new(tokens_per_batch: usize) -> Self {
        PackingOptions {
            tokens_per_batch,
            window: 32,
        }
    }
}

/// The sequences of one forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedBatch {
    /// In the order of their rows.
    pub sequences: Vec<TrainSequence>,
}

/// A [`PackedBatch`] as the model takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedForward {
    /// Each sequence from position 0 in cache blocks of its own. The logits wanted are those of
    /// `next`, in its order.
    pub batch: ForwardBatch,
    /// Cache blocks that it takes, numbered from 0.
    pub blocks: usize,
    /// Row `i` predicts token `i + 1`.
    pub next: Targets,
    /// Row `i` of the MTP module predicts token `i + 2`.
    pub mtp: Targets,
}

/// Rows and the token that each should predict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// `[n]`, rising.
    pub rows: Vec<usize>,
    /// `[n]`
    pub tokens: Vec<TokenId>,
}

impl PackedBatch {
    /// Packs what is to be gone through once, as for evaluation: in order, no batch larger than
    /// `tokens_per_batch`.
    ///
    /// # Errors
    /// [`TrainError::BatchTooSmall`] for a sequence that is longer.
    pub fn pack_all(
        sequences: &[TrainSequence],
        tokens_per_batch: usize,
    ) -> Result<Vec<Self>, TrainError> {
        let mut batches: Vec<Self> = Vec::new();
        let mut room = 0;
        for (index, sequence) in sequences.iter().enumerate() {
            let position = SourcePosition {
                epoch: 0,
                index: index as u64,
            };
            check_fits(sequence, tokens_per_batch, position)?;
            if sequence.token_count() > room || batches.is_empty() {
                batches.push(PackedBatch {
                    sequences: Vec::new(),
                });
                room = tokens_per_batch;
            }
            room -= sequence.token_count();
            if let Some(batch) = batches.last_mut() {
                batch.sequences.push(sequence.clone());
            }
        }
        Ok(batches)
    }

    /// Tokens in it, so rows of its forward pass.
    pub fn token_count(&self) -> usize {
        let counts = self.sequences.iter().map(TrainSequence::token_count);
        counts.sum()
    }

    /// Tokens that are learned.
    pub fn target_count(&self) -> usize {
        let counts = self.sequences.iter().map(TrainSequence::target_count);
        counts.sum()
    }

    /// As the model takes it, for a cache with blocks of `block_size` tokens.
    pub fn forward_batch(&self, block_size: usize) -> PackedForward {
        let block_size = block_size.max(1);
        let mut batch = ForwardBatch::default();
        let mut blocks = 0;
        let (mut next, mut mtp) = (Targets::default(), Targets::default());
        for sequence in &self.sequences {
            let start = batch.tokens.len();
            let own = sequence.token_count().div_ceil(block_size);
            let ids = (blocks..blocks + own).map(|block| block as u32).collect();
            batch.push(sequence.tokens(), 0, ids);
            blocks += own;
            let targets = sequence.tokens().iter().zip(sequence.targets_mask());
            for (at, (token, _)) in targets.enumerate().filter(|(_, (_, target))| **target) {
                // The rows that could see it are of this sequence, or there are none.
                for (targets, ahead) in [(&mut next, 1), (&mut mtp, 2)] {
                    if let Some(row) = at.checked_sub(ahead) {
                        targets.rows.push(start + row);
                        targets.tokens.push(*token);
                    }
                }
            }
        }
        batch.logit_rows.clone_from(&next.rows);
        PackedForward {
            batch,
            blocks,
            next,
            mtp,
        }
    }
}

/// Where a [`Packer`] stands between two batches. A run that returns to it gets the same batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackingPosition {
    /// Sequences that were read and not yet given, oldest first.
    pub pending: Vec<SourcePosition>,
    /// What is read next.
    pub next: SourcePosition,
}

/// Packs the sequences of a source into batches, first fit over a small window.
///
/// The oldest sequence of the window always goes into the next batch, so none waits for ever. The
/// order depends on the source and on the options, and on nothing else.
#[derive(Clone, Debug)]
pub struct Packer<S> {
    source: S,
    options: PackingOptions,
    window: VecDeque<(SourcePosition, TrainSequence)>,
}

impl<S: Source> Packer<S> {
    /// Packs from where the source stands.
    pub fn new(source: S, options: PackingOptions) -> Self {
        Packer {
            source,
            options,
            window: VecDeque::new(),
        }
    }

    /// The next batch, of at least one sequence.
    ///
    /// # Errors
    /// What the source refuses, and [`TrainError::BatchTooSmall`] for a sequence that no batch has
    /// room for. After an error only [`Packer::seek`] leads back to the same batches.
    pub fn next_batch(&mut self) -> Result<PackedBatch, TrainError> {
        let mut room = self.options.tokens_per_batch;
        let mut sequences = Vec::new();
        loop {
            self.fill()?;
            let fits = |(_, sequence): &(_, TrainSequence)| sequence.token_count() <= room;
            let Some(at) = self.window.iter().position(fits) else {
                break;
            };
            if let Some((_, sequence)) = self.window.remove(at) {
                room -= sequence.token_count();
                sequences.push(sequence);
            }
        }
        Ok(PackedBatch { sequences })
    }

    /// Where it stands, for [`Packer::seek`].
    pub fn position(&self) -> PackingPosition {
        PackingPosition {
            pending: self.window.iter().map(|(position, _)| *position).collect(),
            next: self.source.position(),
        }
    }

    /// Returns to where this packer, or another over the same data, once stood.
    ///
    /// # Errors
    /// [`TrainError::Seek`] for a place that the source doesn't have, and what the source refuses.
    pub fn seek(&mut self, position: &PackingPosition) -> Result<(), TrainError> {
        self.window.clear();
        for pending in &position.pending {
            self.source.seek(*pending)?;
            self.read()?;
        }
        self.source.seek(position.next)
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    fn fill(&mut self) -> Result<(), TrainError> {
        while self.window.len() < self.options.window.max(1) {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), TrainError> {
        let position = self.source.position();
        let sequence = self.source.next_sequence()?;
        check_fits(&sequence, self.options.tokens_per_batch, position)?;
        self.window.push_back((position, sequence));
        Ok(())
    }
}

fn check_fits(
    sequence: &TrainSequence,
    budget: usize,
    position: SourcePosition,
) -> Result<(), TrainError> {
    if sequence.token_count() <= budget {
        return Ok(());
    }
    Err(TrainError::BatchTooSmall {
        tokens: sequence.token_count(),
        budget,
        epoch: position.epoch,
        index: position.index,
    })
}
