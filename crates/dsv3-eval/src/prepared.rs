//! Tasks as ids, checked against the room that the model has: what can go wrong before a weight
//! is read.

use dsv3_tasks::Turn;
use dsv3_tokenizer::{Special, TokenId, Tokenizer};

use crate::error::EvalError;
use crate::segments::to_ids;
use crate::set::{EvalSet, Task};

/// A task whose given parts are ids.
#[derive(Debug, Clone)]
pub struct PreparedTask {
    /// The task.
    pub task: Task,
    /// What is given in each turn.
    pub(crate) given: Vec<Vec<TokenId>>,
    /// Tokens that it may grow to.
    pub(crate) need: usize,
}

/// All tasks of a set that the model has room for.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The tasks, in the set's order.
    pub tasks: Vec<PreparedTask>,
    /// Lengths of the buried fact that the model has no room for.
    pub skipped_lengths: Vec<usize>,
    /// Tokens that the model may write in a turn.
    pub(crate) max_new_tokens: usize,
    pub(crate) fingerprint: String,
}

impl Prepared {
    /// Encode the tasks of `set` for a model whose sequences hold `capacity` tokens and that may
    /// write `max_new_tokens` a turn.
    ///
    /// # Errors
    /// [`EvalError::Tokenizer`] for a vocabulary that lacks what a task needs,
    /// [`EvalError::ContextTooShort`] for a task that does not fit; a length of the buried fact's
    /// curve that does not fit is left out instead.
    pub fn new(
        set: &EvalSet,
        tokenizer: &Tokenizer,
        capacity: usize,
        max_new_tokens: usize,
    ) -> Result<Self, EvalError> {
        let mut tasks = Vec::with_capacity(set.tasks.len());
        let mut skipped = Vec::new();
        for task in &set.tasks {
            let (given, answers) = encode(task, tokenizer)?;
            let given_tokens: usize = given.iter().map(Vec::len).sum();
            let needed = given_tokens + answers;
            if needed > capacity {
                match task.buried_length {
                    Some(length) => skipped.push(length),
                    None => {
                        return Err(EvalError::ContextTooShort {
                            kind: task.example.kind.name(),
                            id: task.example.id.clone(),
                            needed,
                            capacity,
                        });
                    }
                }
            }
            tasks.push(PreparedTask {
                task: task.clone(),
                need: (given_tokens + given.len() * max_new_tokens).min(capacity),
                given,
            });
        }
        skipped.sort_unstable();
        skipped.dedup();
        // One that doesn't fit leaves its whole length out: the rest would be the shorter ones.
        tasks.retain(|t| t.task.buried_length.is_none_or(|l| !skipped.contains(&l)));
        if tasks.is_empty() {
            return Err(EvalError::Empty("no task fits into the context".into()));
        }
        Ok(Prepared {
            tasks,
            skipped_lengths: skipped,
            max_new_tokens,
            fingerprint: set.fingerprint(),
        })
    }

    /// Tokens of cache, in blocks of `block_size`, that let any `in_flight` tasks run at once.
    pub fn cache_tokens(&self, in_flight: usize, block_size: usize) -> usize {
        let needs = self.tasks.iter().map(|task| task.need);
        let mut needs: Vec<usize> = needs
            .map(|n| n.next_multiple_of(block_size.max(1)))
            .collect();
        needs.sort_unstable();
        needs.iter().rev().take(in_flight).sum()
    }

    /// Tokens of the longest task.
    pub fn longest(&self) -> usize {
        self.tasks.iter().map(|t| t.need).max().unwrap_or_default()
    }
}

/// The ids that are given in each turn, and how many the expected answers have.
fn encode(task: &Task, tokenizer: &Tokenizer) -> Result<(Vec<Vec<TokenId>>, usize), EvalError> {
    let example = &task.example;
    let failed = |source| EvalError::Tokenizer {
        kind: example.kind.name(),
        source,
    };
    let (mut given, mut answers) = (Vec::new(), 0);
    for turn in &example.turns {
        given.push(to_ids(&turn.given, tokenizer).map_err(failed)?);
        answers += to_ids(&turn.answer, tokenizer).map_err(failed)?.len();
        let stop: Special = Turn::stop(turn);
        tokenizer.special().require(stop).map_err(failed)?;
    }
    Ok((given, answers))
}
