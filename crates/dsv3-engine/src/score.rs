//! Log-probabilities of a given text.

use std::ops::ControlFlow;

use dsv3_model::ForwardBatch;
use dsv3_sampling::{LogProbs, TopLogprobs};
use dsv3_tokenizer::TokenId;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::runner::ModelRunner;

/// Rows of logits held at once: 64 rows of V3.1's vocabulary are 33 MB.
const CHUNK: usize = 64;

/// One position of a scored text.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionScore<'a> {
    /// From 0.
    pub position: usize,
    /// The token there.
    pub token: TokenId,
    /// Its log-probability given those before it; none for the first.
    pub logprob: Option<f32>,
    /// The most probable tokens there, best first.
    pub top: Vec<(TokenId, f32)>,
    /// The logits that the model gives at this position, for the next one: `[vocab]`.
    pub logits: &'a [f32],
}

impl<R: ModelRunner> Engine<R> {
    /// Teacher-forced log-probabilities of `ids`; `on_position` hears of each in order, and may
    /// break off. Memory does not grow with the text but for the cache.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::PromptTooLong`], [`EngineError::Sampling`]
    /// for logits that are not finite, [`EngineError::Model`] for ids out of the vocabulary.
    pub fn score(
        &mut self,
        ids: &[TokenId],
        top: TopLogprobs,
        on_position: &mut dyn FnMut(&PositionScore<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let needed = ids.len().div_ceil(self.config.block_size);
        let free = self.scheduler.pool.free();
        let capacity = (free * self.config.block_size).min(self.runner.max_positions());
        if ids.len() > capacity {
            return Err(EngineError::PromptTooLong {
                tokens: ids.len(),
                capacity,
            });
        }
        let pool = &mut self.scheduler.pool;
        let blocks: Vec<_> = (0..needed).filter_map(|_| pool.allocate()).collect();
        let table: Vec<u32> = blocks.iter().map(|b| b.0).collect();
        let result = self.score_in(ids, top, &table, on_position);
        if matches!(result, Err(EngineError::Model(_) | EngineError::Forward(_))) {
            // The pass may have left the cache in pieces.
            self.scheduler.restart_all();
            self.runner.reset();
        }
        for block in blocks {
            self.scheduler.pool.release(block);
        }
        result
    }

    fn score_in(
        &mut self,
        ids: &[TokenId],
        top: TopLogprobs,
        blocks: &[u32],
        on_position: &mut dyn FnMut(&PositionScore<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (vocab, real) = (self.runner.vocab_size(), self.real_vocab_size());
        let mut before: Option<Vec<f32>> = None;
        for (chunk, tokens) in ids
            .chunks(CHUNK.min(self.config.max_batch_tokens))
            .enumerate()
        {
            let first = chunk * CHUNK.min(self.config.max_batch_tokens);
            let mut batch = ForwardBatch::default();
            batch.push(tokens, first, blocks.to_vec());
            batch.want_all_logits();
            let logits = self.runner.run(&batch)?; // [tokens, vocab]
            for (i, (token, row)) in tokens.iter().zip(logits.chunks_exact(vocab)).enumerate() {
                let (logprob, top) = match &before {
                    None => (None, Vec::new()),
                    Some(previous) => {
                        let previous = LogProbs::new(previous)?;
                        (Some(previous.of(*token)?), previous.top(top))
                    }
                };
                let score = PositionScore {
                    position: first + i,
                    token: *token,
                    logprob,
                    top,
                    logits: row,
                };
                if on_position(&score).is_break() {
                    return Ok(());
                }
                let row = row.get(..real).unwrap_or(row);
                before.get_or_insert_default().clear();
                before.get_or_insert_default().extend_from_slice(row);
            }
        }
        Ok(())
    }
}
