//! How much the engine may hold and do at once.

use crate::error::EngineError;

/// Limits of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens a cache block; sequences share whole blocks.
    pub block_size: usize,
    /// Tokens that the cache holds over all sequences, rounded up to blocks. The memory is
    /// reserved at once and touched as it fills: `LatentCache::bytes_per_token` a token.
    pub max_cached_tokens: usize,
    /// Tokens of one forward pass; longer prompts are computed in chunks.
    pub max_batch_tokens: usize,
    /// Sequences of one forward pass.
    pub max_sequences: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            block_size: 16,
            max_cached_tokens: 8192,
            max_batch_tokens: 512,
            max_sequences: 64,
        }
    }
}

impl EngineConfig {
    /// Cache blocks.
    pub fn blocks(&self) -> usize {
        self.max_cached_tokens.div_ceil(self.block_size.max(1))
    }

    pub(crate) fn validate(&self) -> Result<(), EngineError> {
        for (value, name) in [
            (self.block_size, "block_size"),
            (self.max_cached_tokens, "max_cached_tokens"),
            (self.max_batch_tokens, "max_batch_tokens"),
            (self.max_sequences, "max_sequences"),
        ] {
            if value == 0 {
                return Err(EngineError::Config(name));
            }
        }
        Ok(())
    }
}
