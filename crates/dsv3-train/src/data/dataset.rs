//! Conversations read from a file, ready to train on.

use std::fmt;
use std::path::PathBuf;

use crate::data::hash::{ContentHash, mix};
use crate::data::sequence::TrainSequence;
use crate::error::TrainError;

/// A line of a data file that was refused or skipped. Shows as `file:line: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong and how to mend it.
    pub problem: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.problem)
    }
}

/// What a file teaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// The sequences of all conversations, in the file's order.
    pub(crate) sequences: Vec<TrainSequence>,
    /// The conversation that each belongs to, as a hash of what is said in it.
    pub(crate) conversations: Vec<u64>,
    /// The first lines that were skipped, [`Dataset::MAX_KEPT`] at most.
    pub skipped: Vec<BadLine>,
    /// How many lines were skipped in all.
    pub skipped_lines: u64,
}

impl Dataset {
    /// How many skipped lines are kept for a summary. All of them are reported while reading.
    pub const MAX_KEPT: usize = 1000;

    /// The sequences, in the file's order.
    pub fn sequences(&self) -> &[TrainSequence] {
        &self.sequences
    }

    /// How many tokens they have, and how many of those are targets.
    pub fn token_counts(&self) -> (usize, usize) {
        let count = |of: fn(&TrainSequence) -> usize| self.sequences.iter().map(of).sum();
        (
            count(TrainSequence::token_count),
            count(TrainSequence::target_count),
        )
    }

    /// A number that changes with what is said in the conversations and with their order. A
    /// resumed run compares it, as a position in other data means nothing.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = ContentHash::new();
        for conversation in &self.conversations {
            hash.piece(&conversation.to_le_bytes());
        }
        hash.finish()
    }

    /// Takes about `fraction` of the conversations out, to be held out from training.
    ///
    /// Which ones follows from what is said in them and from `seed`: they stay held out when the
    /// file grows or changes its order, a conversation that stands in it twice is on one side, and
    /// so are all sequences of a conversation. Of a few conversations it may take none.
    ///
    /// # Errors
    /// [`TrainError::Split`] where the fraction is not from 0 to below 1, and where nothing would
    /// be left to train on; the dataset is then unchanged.
    pub fn split_off(&mut self, fraction: f64, seed: u64) -> Result<Dataset, TrainError> {
        let wrong = |problem: &str| TrainError::Split {
            fraction,
            problem: problem.to_owned(),
        };
        if !(0.0..1.0).contains(&fraction) {
            return Err(wrong("give a number from 0 to below 1, such as 0.05"));
        }
        // The hash as a fraction of its range; 53 bits are what an f64 holds exactly.
        let held_out = |conversation: &u64| {
            let place = mix(conversation ^ mix(seed)) >> 11;
            (place as f64) < fraction * (1u64 << 53) as f64
        };
        if !self.sequences.is_empty() && self.conversations.iter().all(held_out) {
            return Err(wrong(
                "every conversation would be held out. Give a smaller number, another seed, or more data",
            ));
        }
        let (mut kept, mut taken) = (Dataset::default(), Dataset::default());
        let sequences = std::mem::take(&mut self.sequences);
        let conversations = std::mem::take(&mut self.conversations);
        for (sequence, conversation) in sequences.into_iter().zip(conversations) {
            let side = match held_out(&conversation) {
                true => &mut taken,
                false => &mut kept,
            };
            side.sequences.push(sequence);
            side.conversations.push(conversation);
        }
        self.sequences = kept.sequences;
        self.conversations = kept.conversations;
        Ok(taken)
    }
}
