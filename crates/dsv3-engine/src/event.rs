//! What a caller hears.

use dsv3_tokenizer::{Event, Parsed, TokenId};
use serde::Serialize;

/// Names a sequence of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SequenceId(pub(crate) u64);

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model wrote an end-of-sequence or stop id, or a stop string.
    Stop,
    /// The model ended its turn with tool calls.
    ToolCalls,
    /// As many tokens as were asked for, or as the cache or the model's positions hold.
    Length,
    /// The caller wanted no more.
    Cancelled,
    /// This sequence can't go on; the others can.
    Error(String),
}

impl FinishReason {
    /// The word for it in the OpenAI API; `error` and `cancelled` are ours.
    pub fn name(&self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Error(_) => "error",
        }
    }
}

/// What a sequence took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were found in the cache.
    pub cached_tokens: usize,
    /// Tokens written, the stop id included.
    pub completion_tokens: usize,
    /// Seconds from the first computation to the first token.
    pub prefill_s: f64,
    /// Seconds from the first token to the last.
    pub decode_s: f64,
}

/// Something that happened to a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// A token was written.
    Token {
        /// Its id.
        token: TokenId,
        /// Text that may be shown now: whole characters, and nothing that could still turn out to
        /// be the beginning of a stop string. Empty where the answer is parsed.
        text: String,
        /// The model's log-probability of it.
        logprob: f32,
        /// The most probable tokens, as many as were asked for.
        top: Vec<(TokenId, f32)>,
    },
    /// A piece of a parsed answer.
    Parsed(Event),
    /// Nothing comes after this.
    Finished {
        /// Text that was held back until now.
        text: String,
        /// Why.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The ids written, the stop id included.
    pub tokens: Vec<TokenId>,
    /// Their log-probabilities.
    pub logprobs: Vec<f32>,
    /// The text, where the answer was not parsed; empty without a tokenizer.
    pub text: String,
    /// The parsed answer.
    pub parsed: Option<Parsed>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took.
    pub usage: Usage,
}

impl Default for Completion {
    fn default() -> Self {
        Completion {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            text: String::new(),
            parsed: None,
            finish_reason: FinishReason::Cancelled,
            usage: Usage::default(),
        }
    }
}

impl Completion {
    /// Add what happened.
    pub fn apply(&mut self, event: &EngineEvent) {
        match event {
            EngineEvent::Token {
                token,
                text,
                logprob,
                ..
            } => {
                self.tokens.push(*token);
                self.logprobs.push(*logprob);
                self.text.push_str(text);
            }
            EngineEvent::Parsed(event) => self.parsed.get_or_insert_default().apply(event),
            EngineEvent::Finished {
                text,
                reason,
                usage,
            } => {
                self.text.push_str(text);
                self.finish_reason = reason.clone();
                self.usage = *usage;
            }
        }
    }
}
