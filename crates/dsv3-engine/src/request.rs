//! What a caller asks for.

use dsv3_sampling::SamplingParams;
use dsv3_tokenizer::{Mode, Prompt, TokenId, Tokenizer};

use crate::error::EngineError;

/// When a sequence ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopConditions {
    /// Ids that end it, besides those that the checkpoint names as end of sequence. None of them
    /// becomes text; where the answer is parsed, a control token among them still closes what is
    /// open, so `<｜search▁end｜>` here gives a whole query and ends there.
    pub ids: Vec<TokenId>,
    /// Texts that end it. What is given out ends before the text.
    pub strings: Vec<String>,
    /// Tokens to write at most.
    pub max_new_tokens: usize,
    /// Go on past the checkpoint's own end-of-sequence ids.
    pub ignore_eos: bool,
    /// Tokens of reasoning at most; then `</think>` is put in. Needs a parsed answer.
    pub max_thinking_tokens: Option<usize>,
}

impl Default for StopConditions {
    fn default() -> Self {
        StopConditions {
            ids: Vec::new(),
            strings: Vec::new(),
            max_new_tokens: 256,
            ignore_eos: false,
            max_thinking_tokens: None,
        }
    }
}

/// Text or ids to go on from.
#[derive(Clone, Debug)]
pub enum Input {
    /// Ids, used as they are.
    Ids(Vec<TokenId>),
    /// Plain text to go on with: one BOS is put in front, and control tokens written out are taken
    /// for what they are. Text from strangers belongs into a [`Chat`](Input::Chat).
    Text(String),
    /// A rendered conversation.
    Chat(Prompt),
}

impl From<Vec<TokenId>> for Input {
    fn from(ids: Vec<TokenId>) -> Self {
        Input::Ids(ids)
    }
}

impl From<&[TokenId]> for Input {
    fn from(ids: &[TokenId]) -> Self {
        Input::Ids(ids.to_vec())
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Input::Text(text.to_owned())
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Input::Text(text)
    }
}

impl From<Prompt> for Input {
    fn from(prompt: Prompt) -> Self {
        Input::Chat(prompt)
    }
}

impl Input {
    pub(crate) fn ids(&self, tokenizer: Option<&Tokenizer>) -> Result<Vec<TokenId>, EngineError> {
        let tokenizer = tokenizer.ok_or(EngineError::NoTokenizer);
        match self {
            Input::Ids(ids) => Ok(ids.clone()),
            Input::Text(text) => Ok(tokenizer?.encode_raw_prompt(text)?),
            Input::Chat(prompt) => Ok(prompt.to_ids(tokenizer?)?),
        }
    }
}

/// One sequence to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to go on from.
    pub input: Input,
    /// How to choose tokens.
    pub params: SamplingParams,
    /// When to end.
    pub stop: StopConditions,
    /// Parse the answer into reasoning, text and tool calls, from this mode on.
    pub parse: Option<Mode>,
}

impl Request {
    /// A request with default stop conditions. A rendered conversation's answer is parsed.
    pub fn new(input: impl Into<Input>, params: SamplingParams) -> Self {
        let input = input.into();
        let parse = match &input {
            Input::Chat(prompt) => Some(prompt.mode()),
            _ => None,
        };
        Request {
            input,
            params,
            stop: StopConditions::default(),
            parse,
        }
    }
}
