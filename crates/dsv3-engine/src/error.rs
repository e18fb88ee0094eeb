//! What can go wrong with a request or a step.

use dsv3_model::ModelError;
use dsv3_sampling::SamplingError;

/// A request that can't be taken, or a model that can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model can't be opened or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer can't be opened, or doesn't know a token.
    #[error(transparent)]
    Tokenizer(#[from] dsv3_tokenizer::Error),
    /// The sampling parameters don't fit the vocabulary.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A prompt without a token.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// A prompt that the cache can't hold.
    #[error(
        "the prompt has {tokens} tokens and the cache holds {capacity} in all; \
         shorten it or give the cache more room (max_cached_tokens)"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the cache, or the model's positions, have room for.
        capacity: usize,
    },
    /// Text where the checkpoint has no tokenizer.
    #[error(
        "the checkpoint has no tokenizer.json, so text can't be read or written; give token ids"
    )]
    NoTokenizer,
    /// A configuration that leaves no room to work in.
    #[error("engine configuration: {0} must be at least 1")]
    Config(&'static str),
    /// A forward pass that failed as a whole: the device, or a bug.
    #[error("the forward pass failed: {0}")]
    Forward(String),
}
