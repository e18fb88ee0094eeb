//! What can go wrong between a checkpoint and logits.

use dsv3_kernels::KernelsError;
use dsv3_weights::WeightsError;

/// A model that can't be built, or a batch that can't be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The checkpoint lacks something, or lies about it.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An operand that a kernel refuses.
    #[error("{name}: {source}")]
    Kernels {
        /// The tensor.
        name: String,
        /// Why.
        source: KernelsError,
    },
    /// A number format that the device can't compute in.
    #[error("{device} can't compute in {dtype}; choose f32")]
    UnsupportedDtype {
        /// The device.
        device: String,
        /// The format asked for.
        dtype: &'static str,
    },
    /// A format that the device can't keep cached tokens in.
    #[error("{device} can't hold a cache in {format}, for want of bf16; choose f32")]
    UnsupportedCache {
        /// The device.
        device: String,
        /// The format asked for.
        format: &'static str,
    },
    /// A token id outside the vocabulary.
    #[error(
        "token id {token} is outside the vocabulary of {vocab_size}; was the text encoded with another model's tokenizer?"
    )]
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// `vocab_size`
        vocab_size: usize,
    },
    /// A position past the last that the model was made for.
    #[error(
        "position {position} is past the model's last ({max}, config key max_position_embeddings)"
    )]
    PositionOutOfRange {
        /// The position.
        position: u32,
        /// `max_position_embeddings`
        max: usize,
    },
    /// A batch whose parts don't fit together.
    #[error("the batch is inconsistent: {why}")]
    Batch {
        /// What doesn't fit.
        why: String,
    },
    /// The checkpoint has no multi-token prediction module.
    #[error("config.json says num_nextn_predict_layers is 0: this checkpoint has no MTP module")]
    NoMtp,
    /// An adapter that was opened for another model.
    #[error(
        "the adapter changes {expected} weights, of which this model has {found}; open it with this model's configuration"
    )]
    ForeignAdapter {
        /// Weights that it changes.
        expected: usize,
        /// How many of them are here.
        found: usize,
    },
}

impl ModelError {
    pub(crate) fn batch(why: impl Into<String>) -> Self {
        ModelError::Batch { why: why.into() }
    }
}
