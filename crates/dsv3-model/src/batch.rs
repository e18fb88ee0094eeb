//! What one forward pass computes: the new tokens of any number of sequences, flattened.

use std::ops::Range;

use dsv3_weights::ModelArgs;

use crate::cache::LatentCache;
use crate::error::ModelError;

/// One sequence's share of a [`ForwardBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSlice {
    /// Its rows among the batch's tokens.
    pub rows: Range<usize>,
    /// Tokens of it in the cache once these rows are written.
    pub context: usize,
    /// Cache blocks that hold them, in order: at least `⌈context / block_size⌉`.
    pub blocks: Vec<u32>,
}

/// The new tokens of all sequences. Prefill, chunked prefill, decode and verification are the same
/// call with other numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardBatch {
    /// `[T]`
    pub tokens: Vec<u32>,
    /// `[T]`: where each stands in its sequence, from 0.
    pub positions: Vec<u32>,
    /// One after another, covering all rows.
    pub sequences: Vec<SequenceSlice>,
    /// Rows whose logits are wanted, in the order wanted.
    pub logit_rows: Vec<usize>,
}

impl ForwardBatch {
    /// Append `tokens` of a sequence that has `cached` tokens in `blocks` already, and ask for the
    /// logits of the last of them.
    pub fn push(&mut self, tokens: &[u32], cached: usize, blocks: Vec<u32>) {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions
            .extend((cached..cached + tokens.len()).map(|p| p as u32));
        let end = self.tokens.len();
        self.sequences.push(SequenceSlice {
            rows: start..end,
            context: cached + tokens.len(),
            blocks,
        });
        if end > start {
            self.logit_rows.push(end - 1);
        }
    }

    /// Ask for the logits of every row.
    pub fn want_all_logits(&mut self) {
        self.logit_rows = (0..self.tokens.len()).collect();
    }

    /// Check everything that a kernel would take on trust.
    pub(crate) fn validate(&self, args: &ModelArgs, cache: &LatentCache) -> Result<(), ModelError> {
        let total = self.tokens.len();
        if total == 0 {
            return Err(ModelError::batch("it has no tokens"));
        }
        if self.positions.len() != total {
            return Err(ModelError::batch(format!(
                "{} positions for {total} tokens",
                self.positions.len()
            )));
        }
        if let Some(token) = self.tokens.iter().find(|t| **t as usize >= args.vocab_size) {
            return Err(ModelError::TokenOutOfRange {
                token: *token,
                vocab_size: args.vocab_size,
            });
        }
        let max = args.max_position_embeddings;
        if let Some(position) = self.positions.iter().find(|p| **p as usize >= max) {
            return Err(ModelError::PositionOutOfRange {
                position: *position,
                max,
            });
        }
        if let Some(row) = self.logit_rows.iter().find(|r| **r >= total) {
            return Err(ModelError::batch(format!(
                "logits asked of row {row} among {total}"
            )));
        }
        let mut next = 0;
        for (i, sequence) in self.sequences.iter().enumerate() {
            if sequence.rows.start != next || sequence.rows.end < next {
                return Err(ModelError::batch(format!(
                    "sequence {i} has rows {:?}, not ones from {next}",
                    sequence.rows
                )));
            }
            next = sequence.rows.end;
            if sequence.context < sequence.rows.len() {
                return Err(ModelError::batch(format!(
                    "sequence {i} has {} rows in a context of {}",
                    sequence.rows.len(),
                    sequence.context
                )));
            }
            if sequence.context > sequence.blocks.len() * cache.block_size() {
                return Err(ModelError::batch(format!(
                    "sequence {i} needs room for {} tokens and has {} blocks of {}",
                    sequence.context,
                    sequence.blocks.len(),
                    cache.block_size()
                )));
            }
            if let Some(block) = sequence
                .blocks
                .iter()
                .find(|b| **b as usize >= cache.blocks())
            {
                return Err(ModelError::batch(format!(
                    "sequence {i} names cache block {block} of {}",
                    cache.blocks()
                )));
            }
        }
        match next == total {
            true => Ok(()),
            false => Err(ModelError::batch(format!(
                "the sequences cover {next} of {total} rows"
            ))),
        }
    }

    /// The cache slot of every row: block id × block size + offset.
    pub(crate) fn slots(&self, block_size: usize) -> Vec<u32> {
        let mut slots = Vec::with_capacity(self.tokens.len());
        for sequence in &self.sequences {
            let first = sequence.context - sequence.rows.len();
            slots.extend((first..sequence.context).map(|i| {
                let block = sequence.blocks.get(i / block_size).copied();
                block.unwrap_or_default() * block_size as u32 + (i % block_size) as u32
            }));
        }
        slots
    }
}
