//! What can go wrong between a row of logits and a token.

/// Every way in which a parameter or a row of logits is refused.
///
/// A refused parameter is the caller's mistake and is found before the first step; the others are
/// found at a step and should end the one sequence they belong to, never the batch.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A parameter lies outside the range that its type stands for.
    #[error("{name} is {value}, which is not allowed: give {allowed}")]
    OutOfRange {
        /// The parameter under the name that the HTTP APIs use, `top_p` for instance.
        name: &'static str,
        /// The refused value as it was given.
        value: String,
        /// The range in words.
        allowed: &'static str,
    },

    /// A text given for a parameter is no number at all.
    #[error("{name} is {text:?}, which is not a number: give {allowed}")]
    NotANumber {
        /// The parameter.
        name: &'static str,
        /// The refused text.
        text: String,
        /// The range in words.
        allowed: &'static str,
    },

    /// A preset of that name does not exist.
    #[error("there is no preset {name:?}: choose coding, analysis, creative or chat")]
    UnknownPreset {
        /// The refused name.
        name: String,
    },

    /// The number of token ids is zero or more than an id can count.
    #[error(
        "a vocabulary of {vocab_size} tokens cannot be sampled: give the tokenizer's number of ids, at least 1 and at most 2^32"
    )]
    VocabularySize {
        /// The refused size.
        vocab_size: usize,
    },

    /// A logit bias, or a request for a log-probability, names a token that does not exist.
    #[error("token {token} does not exist: the vocabulary holds ids below {vocab_size}")]
    UnknownToken {
        /// The refused id.
        token: u32,
        /// The number of real ids.
        vocab_size: usize,
    },

    /// The row of logits ends before the vocabulary does.
    #[error(
        "{got} logits for a vocabulary of {vocab_size} tokens: the model's output and the tokenizer do not belong together"
    )]
    TooFewLogits {
        /// Length of the row.
        got: usize,
        /// The number of real ids.
        vocab_size: usize,
    },

    /// A logit is NaN or +infinity (−infinity is a legal mask).
    #[error(
        "the logit of token {index} is {value}: the forward pass overflowed or a weight is damaged; this sequence cannot go on"
    )]
    NonFinite {
        /// The first offending id.
        index: usize,
        /// NaN or +infinity.
        value: f32,
    },

    /// Every token that exists is masked with −infinity.
    #[error(
        "all {vocab_size} tokens are masked: no token can follow; loosen the mask that was laid over the logits"
    )]
    AllMasked {
        /// The number of real ids.
        vocab_size: usize,
    },
}
