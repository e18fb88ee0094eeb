//! What computes a step.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dsv3_model::{ForwardBatch, LatentCache, Transformer};

use crate::config::EngineConfig;
use crate::error::EngineError;

/// Computes logits. The engine's own is [`TransformerRunner`]; tests put others in its place.
pub trait ModelRunner {
    /// Logits of the rows that the batch asks for, one after another: `[rows, vocab]`.
    ///
    /// # Errors
    /// [`EngineError`] when the pass failed as a whole; the cache counts as lost then.
    fn run(&mut self, batch: &ForwardBatch) -> Result<Vec<f32>, EngineError>;

    /// Width of a row of logits.
    fn vocab_size(&self) -> usize;

    /// Positions that the model was made for.
    fn max_positions(&self) -> usize;

    /// Throw the cache away.
    fn reset(&mut self);
}

/// A model and its cache.
pub struct TransformerRunner {
    model: Transformer,
    cache: LatentCache,
    config: EngineConfig,
}

impl TransformerRunner {
    /// A runner with a cache as `config` says.
    pub fn new(model: Transformer, config: EngineConfig) -> Self {
        TransformerRunner {
            cache: model.new_cache(config.blocks(), config.block_size),
            model,
            config,
        }
    }

    /// The model.
    pub fn model(&self) -> &Transformer {
        &self.model
    }

    /// The cache.
    pub fn cache(&self) -> &LatentCache {
        &self.cache
    }
}

impl ModelRunner for TransformerRunner {
    fn run(&mut self, batch: &ForwardBatch) -> Result<Vec<f32>, EngineError> {
        let (model, cache) = (&self.model, &mut self.cache);
        // A device that is lost panics deep inside; it must not take the process along.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let logits = model.forward(batch, cache)?.logits; // [rows, vocab]
            let data = logits
                .try_into_data()
                .map_err(|e| EngineError::Forward(e.to_string()))?;
            data.try_into_vec::<f32>()
                .map_err(|e| EngineError::Forward(e.to_string()))
        }));
        result.unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(EngineError::Forward(
                message.unwrap_or_else(|| "the device failed".into()),
            ))
        })
    }

    fn vocab_size(&self) -> usize {
        self.model.args().vocab_size
    }

    fn max_positions(&self) -> usize {
        self.model.args().max_position_embeddings
    }

    fn reset(&mut self) {
        self.cache = self
            .model
            .new_cache(self.config.blocks(), self.config.block_size);
    }
}
