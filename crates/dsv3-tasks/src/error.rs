//! What can go wrong in making a task.

/// A task that can't be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TasksError {
    /// The chat format has no form for a conversation: a fault of the generator.
    #[error("a generated conversation can't be rendered: {0}")]
    Render(#[from] dsv3_tokenizer::Error),
    /// A tokenizer that can't be trained.
    #[error("the tokenizer can't be trained: {0}")]
    Tokenizer(String),
    /// No example of the wanted part was found.
    #[error("no {split} example of {kind} in {tries} tries: its parameters leave none, widen them")]
    Exhausted {
        /// The part asked for.
        split: &'static str,
        /// The kind asked for.
        kind: &'static str,
        /// Examples drawn.
        tries: usize,
    },
    /// A kind that can't be asked in this mode.
    #[error("{kind} can't be asked in the mode {mode}; `modes` lists those that it has")]
    NoSuchMode {
        /// The kind asked for.
        kind: &'static str,
        /// The mode asked for.
        mode: &'static str,
    },
    /// Shares that nothing can be drawn by.
    #[error("a mix that can't be drawn from: {0}")]
    Mix(String),
}
