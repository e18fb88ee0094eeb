//! A prompt as control tokens and text, kept apart until it is ids.

use crate::special::Special;
use crate::{Result, TokenId, Tokenizer};

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A control token.
    Special(Special),
    /// Text that someone wrote. Never parsed for control tokens.
    Text(String),
}

/// A prompt: what the chat format says should come, in order.
///
/// Control tokens and text stay apart, so a user who types `<｜Assistant｜>` gets those characters
/// into the prompt and not the token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    segments: Vec<Segment>,
}

/// The channel in which a prompt leaves the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The prompt ends inside of reasoning: what comes is reasoning until `</think>`.
    Thinking,
    /// What comes is the answer.
    #[default]
    NonThinking,
}

impl Mode {
    /// `Thinking` if `thinking`.
    pub fn from_thinking(thinking: bool) -> Self {
        if thinking {
            Mode::Thinking
        } else {
            Mode::NonThinking
        }
    }
}

impl Prompt {
    /// One BOS and a text to go on with: the prompt of a base model, without a chat format.
    pub fn raw(text: &str) -> Self {
        let mut prompt = Prompt::default();
        prompt.special(Special::Bos);
        prompt.text(text);
        prompt
    }

    /// Fill in the middle, prefix first (DeepSeek-V3 report, section 4.2): the model writes what
    /// belongs between the two, until EOS or `<|EOT|>`.
    pub fn fim(prefix: &str, suffix: &str) -> Self {
        let mut prompt = Prompt::default();
        prompt.special(Special::Bos);
        prompt.special(Special::FimBegin);
        prompt.text(prefix);
        prompt.special(Special::FimHole);
        prompt.text(suffix);
        prompt.special(Special::FimEnd);
        prompt
    }

    /// The pieces. No two texts stand next to each other, and none is empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The prompt as one string, for people and for comparison with a template's output. Encoding
    /// it again may give other ids than [`Prompt::to_ids`]: it no longer tells text from token.
    pub fn to_text(&self) -> String {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Special(special) => special.name(),
                Segment::Text(text) => text.as_str(),
            })
            .collect()
    }

    /// The prompt's ids. Nothing is added: BOS is where the prompt has it.
    ///
    /// # Errors
    /// [`Error::NoSuchSpecial`](crate::Error::NoSuchSpecial) if the vocabulary lacks a token that
    /// the prompt holds, [`Error::Encode`](crate::Error::Encode).
    pub fn to_ids(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>> {
        let mut ids = Vec::new();
        for segment in &self.segments {
            match segment {
                Segment::Special(special) => ids.push(tokenizer.special().require(*special)?),
                Segment::Text(text) => ids.extend(tokenizer.encode(text)?),
            }
        }
        Ok(ids)
    }

    /// In which channel the model goes on, so how an [`OutputParser`](crate::OutputParser) has to
    /// begin: thinking if the last of the turn's marks is `<think>`.
    pub fn mode(&self) -> Mode {
        let last = self
            .segments
            .iter()
            .rev()
            .find_map(|segment| match segment {
                Segment::Special(Special::ThinkBegin) => Some(Mode::Thinking),
                Segment::Special(Special::ThinkEnd | Special::Eos | Special::User) => {
                    Some(Mode::NonThinking)
                }
                _ => None,
            });
        last.unwrap_or_default()
    }

    pub(crate) fn special(&mut self, special: Special) {
        self.segments.push(Segment::Special(special));
    }

    /// Appends text. It joins the text before it: pieces of one run of text must be encoded
    /// together to get the ids of the whole.
    pub(crate) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Segment::Text(last)) = self.segments.last_mut() {
            last.push_str(text);
        } else {
            self.segments.push(Segment::Text(text.to_owned()));
        }
    }

    /// Takes an EOS off the end, if one is there.
    pub(crate) fn drop_final_eos(&mut self) {
        if self.segments.last() == Some(&Segment::Special(Special::Eos)) {
            self.segments.pop();
        }
    }
}
