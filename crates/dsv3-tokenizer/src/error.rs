//! Everything that can go wrong in this crate, one variant for each way.

use std::path::PathBuf;

use crate::TokenId;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}: {source}. Check that the file exists and may be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file is larger than anything of its kind could sensibly be.
    #[error(
        "{what} holds {bytes} bytes, more than the {limit} that are accepted. Is it the right file?"
    )]
    TooLarge {
        /// What was to be read.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size accepted, in bytes.
        limit: u64,
    },

    /// `tokenizer.json` is not what the tokenizers library can read.
    #[error(
        "{origin} is not a tokenizer file: {problem}. Take the tokenizer.json that came with the checkpoint"
    )]
    TokenizerFile {
        /// The file, or "tokenizer.json" when the bytes came without a name.
        origin: String,
        /// What was found.
        problem: String,
    },

    /// A token that the chat format cannot do without is not in the file.
    #[error(
        "{origin} has no added token `{token}`, which the V3.1 chat format needs. A V3 or R1 tokenizer lacks it; take the one that came with the V3.1 checkpoint"
    )]
    MissingSpecial {
        /// The file.
        origin: String,
        /// The token's text.
        token: &'static str,
    },

    /// A prompt needs an optional special token that the vocabulary lacks.
    #[error(
        "the prompt needs the token `{token}`, but this vocabulary has none. Leave out what asks for it (tool calls, FIM, search), or use a tokenizer that has it"
    )]
    NoSuchSpecial {
        /// The token's text.
        token: &'static str,
    },

    /// An id that stands for no token.
    #[error(
        "token id {id} names no token (the vocabulary ends before {vocab_size}). Padding rows of the logits must not be sampled"
    )]
    UnknownId {
        /// The id.
        id: TokenId,
        /// The highest id plus one.
        vocab_size: usize,
    },

    /// The tokenizers library refused a text.
    #[error("this text could not be encoded: {problem}")]
    Encode {
        /// What it said.
        problem: String,
    },

    /// JSON that should hold messages or tools does not parse.
    #[error("{what} cannot be read: {problem}")]
    Json {
        /// What was read.
        what: &'static str,
        /// What was found, with line and column.
        problem: String,
    },

    /// A message that the chat format has no form for.
    #[error("messages[{index}]: {problem}")]
    Message {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong and what would be right.
        problem: String,
    },

    /// A tool description that is not an OpenAI function tool.
    #[error("tools[{index}]: {problem}")]
    Tool {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong and what would be right.
        problem: String,
    },

    /// A Jinja template that does not parse, fails, or runs past its limits.
    #[error("the chat template failed: {problem}")]
    Template {
        /// What minijinja said, with the line.
        problem: String,
    },

    /// Ids were pushed into a parser that has already given its last event.
    #[error("this output parser is finished; make a new one for each answer")]
    ParserFinished,
}
