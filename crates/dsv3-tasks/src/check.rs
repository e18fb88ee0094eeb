//! How an answer is scored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the model has to write in a turn for the turn to count as right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "check", rename_all = "snake_case")]
pub enum Check {
    /// The answer (without reasoning) is exactly this.
    Exact {
        /// The answer.
        answer: String,
    },
    /// The answer is free text that holds this as a whole word or number, and cites no more than
    /// `citations` (`[citation:N]`), each of them.
    Contains {
        /// What must be in the answer.
        answer: String,
        /// Numbers of the results that the answer must cite; empty where there was no search.
        citations: Vec<usize>,
    },
    /// These calls in this order, arguments equal as JSON; no call where the list is empty.
    ToolCalls {
        /// Name and arguments of each call.
        calls: Vec<(String, Value)>,
    },
    /// One search query, equal to this but for case and spaces at the ends.
    Search {
        /// The query.
        query: String,
    },
    /// The text up to EOS is exactly this (fill-in-the-middle, where nothing is parsed).
    Raw {
        /// The text.
        text: String,
    },
}
