//! A sequence of tokens, and which of them the model has to learn to write.

use dsv3_tasks::Example;
use dsv3_tokenizer::{Conversation, Segment, TokenId, Tokenizer};

use crate::data::conversation::{self, ConversationOptions};
use crate::error::TrainError;

/// One sequence to train on.
///
/// `targets_mask[i]` is true where token `i` is one to learn to *write*: the loss at row `i - 1`
/// then asks for token `i`. What is given (prompts, tool results) is read and not learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainSequence {
    tokens: Vec<TokenId>,    // [n]
    targets_mask: Vec<bool>, // [n]
}

impl TrainSequence {
    /// A sequence from its parts.
    ///
    /// # Errors
    /// [`TrainError::Sequence`] where the two differ in length, where no token is a target, and
    /// where the first is one: no row comes before it.
    pub fn new(tokens: Vec<TokenId>, targets_mask: Vec<bool>) -> Result<Self, TrainError> {
        let wrong = |problem: String| Err(TrainError::Sequence { problem });
        if tokens.len() != targets_mask.len() {
            return wrong(format!(
                "{} tokens with {} marks; each token needs one",
                tokens.len(),
                targets_mask.len()
            ));
        }
        if targets_mask.first() == Some(&true) {
            return wrong("its first token is a target, but no row comes before it".to_owned());
        }
        if !targets_mask.contains(&true) {
            return wrong(format!("none of its {} tokens is a target", tokens.len()));
        }
        Ok(TrainSequence {
            tokens,
            targets_mask,
        })
    }

    /// A generated task: answers are trained, what is given isn't. Each piece of text is encoded
    /// on its own, as the prompt and what the model writes after it are.
    ///
    /// # Errors
    /// A text that can't be encoded, a token that the vocabulary lacks, an example without answer.
    pub fn from_example(example: &Example, tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let mut builder = SequenceBuilder::default();
        for turn in &example.turns {
            builder.push(&encode(&turn.given, tokenizer)?, false);
            builder.push(&encode(&turn.answer, tokenizer)?, true);
        }
        builder.finish()
    }

    /// A conversation in OpenAI's form: the assistant's own tokens are trained (reasoning and its
    /// end, content, tool calls, EOS), nothing else.
    ///
    /// V3.1's format drops the reasoning of past turns. So each turn with reasoning that isn't the
    /// last is trained in a sequence of its own, with the history as the model will see it; all
    /// others are trained in one. A system message in mid-conversation likewise: the format moves
    /// it to the front, so what was said before it is trained without it. What follows the last
    /// answer is left out.
    ///
    /// # Errors
    /// [`TrainError::Message`] and [`TrainError::Tokenizer`] naming the message that can't be
    /// trained on, [`TrainError::NoAnswer`], [`TrainError::TooLong`],
    /// [`TrainError::TooManyTokens`].
    pub fn from_conversation(
        conversation: &Conversation,
        tokenizer: &Tokenizer,
        options: &ConversationOptions,
    ) -> Result<Vec<Self>, TrainError> {
        Ok(conversation::learn(conversation, &[], tokenizer, options)?.sequences)
    }

    /// `[n]`
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// `[n]`: whether each token is a target.
    pub fn targets_mask(&self) -> &[bool] {
        &self.targets_mask
    }

    /// How many tokens it has.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// How many of them are targets.
    pub fn target_count(&self) -> usize {
        self.targets_mask.iter().filter(|target| **target).count()
    }
}

/// A sequence in the making.
#[derive(Default)]
pub(crate) struct SequenceBuilder {
    tokens: Vec<TokenId>,
    targets_mask: Vec<bool>,
}

impl SequenceBuilder {
    pub(crate) fn push(&mut self, tokens: &[TokenId], targets: bool) {
        self.tokens.extend_from_slice(tokens);
        self.targets_mask.resize(self.tokens.len(), targets);
    }

    pub(crate) fn finish(self) -> Result<TrainSequence, TrainError> {
        TrainSequence::new(self.tokens, self.targets_mask)
    }
}

/// The ids of segments, each text on its own.
pub(crate) fn encode(
    segments: &[Segment],
    tokenizer: &Tokenizer,
) -> Result<Vec<TokenId>, dsv3_tokenizer::Error> {
    let mut ids = Vec::new();
    for segment in segments {
        match segment {
            Segment::Special(special) => ids.push(tokenizer.special().require(*special)?),
            Segment::Text(text) => ids.extend(tokenizer.encode(text)?),
        }
    }
    Ok(ids)
}
