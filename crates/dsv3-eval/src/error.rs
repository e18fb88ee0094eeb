//! What can go wrong in an evaluation.

use dsv3_engine::EngineError;
use dsv3_model::ModelError;
use dsv3_tasks::TasksError;

/// An evaluation that can't be begun or finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The tasks can't be made.
    #[error(transparent)]
    Tasks(#[from] TasksError),
    /// A vocabulary that lacks a control token which a task needs, or text that it can't encode.
    #[error(
        "{kind}: {source}; evaluate with --kinds without {kind}, or with a tokenizer that knows the token"
    )]
    Tokenizer {
        /// The kind of task.
        kind: &'static str,
        /// What the tokenizer says.
        source: dsv3_tokenizer::Error,
    },
    /// The engine has no tokenizer.
    #[error("the tasks are text and the model has no tokenizer.json: put one in its folder")]
    NoTokenizer,
    /// No task fits what was asked for.
    #[error("there is nothing to evaluate: {0}")]
    Empty(String),
    /// A task that the model has no room for.
    #[error(
        "the {kind} task \"{id}\" needs {needed} tokens with its answer and there is room for \
         {capacity} (max_position_embeddings in config.json, or --context): give more, or leave \
         {kind} out of --kinds"
    )]
    ContextTooShort {
        /// The kind of task.
        kind: &'static str,
        /// The task.
        id: String,
        /// Tokens that it needs with the answer that is expected.
        needed: usize,
        /// Tokens that a sequence may have.
        capacity: usize,
    },
    /// The engine refused a task.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model failed in the middle of an answer.
    #[error("the model failed in the task \"{id}\": {problem}")]
    Failed {
        /// The task.
        id: String,
        /// What the engine says.
        problem: String,
    },
    /// The MTP module can't be run.
    #[error("the MTP module: {0}")]
    Mtp(#[from] ModelError),
    /// The device did not give its numbers.
    #[error("the device gave no numbers: {0}")]
    Device(String),
    /// Two models that don't predict the same tokens.
    #[error(
        "the base predicts {base} tokens and the other model {other}: they can't be held against \
         each other; give two versions of one model"
    )]
    Vocabularies {
        /// Tokens of the base's vocabulary.
        base: usize,
        /// Tokens of the other's.
        other: usize,
    },
    /// The caller wanted no more.
    #[error("the evaluation was stopped")]
    Stopped,
}
