//! Everything that can go wrong in this crate, one variant for each way.

use std::path::PathBuf;

use crate::data::BadLine;

/// What went wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A text that can't be encoded, or a conversation that the chat format has no form for.
    #[error(transparent)]
    Tokenizer(#[from] dsv3_tokenizer::Error),

    /// An example that can't be generated.
    #[error(transparent)]
    Tasks(#[from] dsv3_tasks::TasksError),

    /// A file that can't be read.
    #[error("cannot read {}: {source}. Check that the file exists and may be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file that can't be written.
    #[error("cannot write {}: {source}. Check the free space and that the folder may be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// Tokens and marks that don't make a sequence to train on.
    #[error("no sequence to train on: {problem}")]
    Sequence {
        /// What is wrong with it.
        problem: String,
    },

    /// A message that can't be trained on.
    #[error("messages[{index}]: {problem}")]
    Message {
        /// Its place in the conversation, from 0.
        index: usize,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// A conversation in which the model says nothing.
    #[error(
        "there is no assistant message to learn from. Add one, or take the conversation out{}",
        if *weighted { " (messages with `weight` 0 don't count)" } else { "" }
    )]
    NoAnswer {
        /// Whether there is one with weight 0.
        weighted: bool,
    },

    /// A conversation longer than the model's context.
    #[error(
        "the conversation has {tokens} tokens, more than the {context} of the context. Shorten it, split it, or raise the context"
    )]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The longest that is accepted.
        context: usize,
    },

    /// A conversation whose reasoning turns repeat its history too often.
    #[error(
        "each answer with reasoning needs the history once more, {tokens} tokens in all, more than the {limit} accepted of one conversation. Split it into shorter ones"
    )]
    TooManyTokens {
        /// Tokens of all its sequences so far.
        tokens: usize,
        /// The most that is accepted.
        limit: usize,
    },

    /// A line of training data that is refused.
    #[error("{0}")]
    BadLine(BadLine),

    /// A file of training data without a conversation in it.
    #[error(
        "{} holds no conversation. Write one a line: {{\"messages\": [{{\"role\": \"user\", \"content\": …}}, {{\"role\": \"assistant\", \"content\": …}}]}}",
        path.display()
    )]
    EmptyData {
        /// The file.
        path: PathBuf,
    },

    /// A file of training data in which every line was skipped.
    #[error("all {skipped} conversations of {} were skipped, the first for: {first}", path.display())]
    NothingLeft {
        /// The file.
        path: PathBuf,
        /// Lines skipped.
        skipped: u64,
        /// The first of them.
        first: BadLine,
    },

    /// A split that leaves nothing, or a part that is no part.
    #[error("cannot hold out {fraction} of the data: {problem}")]
    Split {
        /// The share asked for.
        fraction: f64,
        /// Why not.
        problem: String,
    },

    /// A sequence that no batch has room for.
    #[error(
        "a sequence of {tokens} tokens (epoch {epoch}, index {index}) does not fit a batch of {budget}. Raise the tokens per batch, or shorten what is longer"
    )]
    BatchTooSmall {
        /// Its tokens.
        tokens: usize,
        /// Tokens that a batch may hold.
        budget: usize,
        /// Where it came from.
        epoch: u64,
        /// Where it came from.
        index: u64,
    },

    /// A place in the data to which training can't return.
    #[error("cannot go on at epoch {epoch}, index {index}: {problem}")]
    Seek {
        /// The epoch asked for.
        epoch: u64,
        /// The index asked for.
        index: u64,
        /// Why not.
        problem: String,
    },

    /// A learning rate schedule that contradicts itself.
    #[error("the learning rate's schedule is wrong: {problem}")]
    Schedule {
        /// What is wrong and what would be right.
        problem: String,
    },

    /// A new run's log would replace that of an earlier one.
    #[error("{} is the log of an earlier run. Resume that run, or choose another folder", path.display())]
    LogExists {
        /// The file.
        path: PathBuf,
    },

    /// A log of an earlier run that can't be gone on with.
    #[error("{}:{line}: {problem}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// A checkpoint that can't be read or written.
    #[error(transparent)]
    Weights(#[from] dsv3_weights::WeightsError),

    /// A model that can't be built or run.
    #[error(transparent)]
    Model(#[from] dsv3_model::ModelError),

    /// A device that does not answer.
    #[error("the device does not answer: {0}. Free its memory, or run on the CPU")]
    Device(String),

    /// A step whose numbers are none.
    #[error(
        "the loss is {loss} and the gradient's norm {gradient_norm}; nothing was changed. Lower the learning rate, or go on from an earlier state"
    )]
    NotFinite {
        /// The loss.
        loss: f64,
        /// The gradient's norm.
        gradient_norm: f64,
    },

    /// A run's state that can't be gone on with.
    #[error("{}: {problem}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },

    /// A recipe that can't be read.
    #[error("the recipe is wrong: {0}")]
    Recipe(String),

    /// A fine-tuning that contradicts itself, or its model.
    #[error("cannot fine-tune: {problem}")]
    Finetune {
        /// What is wrong and what would be right.
        problem: String,
    },

    /// A folder that an adapter can't be written to.
    #[error("cannot write an adapter to {}: {problem}", path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },
}
