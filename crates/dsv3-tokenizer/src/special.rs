//! The control tokens of V3.1, known by their names and by nothing else.

use crate::{Error, Result, TokenId};

/// A control token of DeepSeek-V3.1. Its text is fixed by the model card; its id is whatever the
/// `tokenizer.json` at hand says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Special {
    /// Begins every prompt, once.
    Bos,
    /// Ends an assistant turn.
    Eos,
    /// Padding; never part of a prompt.
    Pad,
    /// Begins a user turn.
    User,
    /// Begins an assistant turn.
    Assistant,
    /// Opens reasoning.
    ThinkBegin,
    /// Closes reasoning; also stands at the head of an answer without any.
    ThinkEnd,
    /// Opens a search agent's query.
    SearchBegin,
    /// Closes a search agent's query.
    SearchEnd,
    /// Fill-in-the-middle: the place to be filled.
    FimHole,
    /// Fill-in-the-middle: before the prefix.
    FimBegin,
    /// Fill-in-the-middle: after the suffix.
    FimEnd,
    /// End of text for base and FIM use.
    Eot,
    /// Opens the list of tool calls.
    ToolCallsBegin,
    /// Closes the list of tool calls.
    ToolCallsEnd,
    /// Opens one tool call.
    ToolCallBegin,
    /// Closes one tool call.
    ToolCallEnd,
    /// Opens a list of tool outputs; V3.1's template does not use it.
    ToolOutputsBegin,
    /// Closes a list of tool outputs; V3.1's template does not use it.
    ToolOutputsEnd,
    /// Opens one tool output.
    ToolOutputBegin,
    /// Closes one tool output.
    ToolOutputEnd,
    /// Stands between a call's name and its arguments.
    ToolSep,
}

impl Special {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Special; 22] = [
        Special::Bos,
        Special::Eos,
        Special::Pad,
        Special::User,
        Special::Assistant,
        Special::ThinkBegin,
        Special::ThinkEnd,
        Special::SearchBegin,
        Special::SearchEnd,
        Special::FimHole,
        Special::FimBegin,
        Special::FimEnd,
        Special::Eot,
        Special::ToolCallsBegin,
        Special::ToolCallsEnd,
        Special::ToolCallBegin,
        Special::ToolCallEnd,
        Special::ToolOutputsBegin,
        Special::ToolOutputsEnd,
        Special::ToolOutputBegin,
        Special::ToolOutputEnd,
        Special::ToolSep,
    ];

    /// The token's text (`｜` is U+FF5C, `▁` is U+2581).
    pub const fn name(self) -> &'static str {
        match self {
            Special::Bos => "<｜begin▁of▁sentence｜>",
            Special::Eos => "<｜end▁of▁sentence｜>",
            Special::Pad => "<｜▁pad▁｜>",
            Special::User => "<｜User｜>",
            Special::Assistant => "<｜Assistant｜>",
            Special::ThinkBegin => "<think>",
            Special::ThinkEnd => "</think>",
            Special::SearchBegin => "<｜search▁begin｜>",
            Special::SearchEnd => "<｜search▁end｜>",
            Special::FimHole => "<｜fim▁hole｜>",
            Special::FimBegin => "<｜fim▁begin｜>",
            Special::FimEnd => "<｜fim▁end｜>",
            Special::Eot => "<|EOT|>",
            Special::ToolCallsBegin => "<｜tool▁calls▁begin｜>",
            Special::ToolCallsEnd => "<｜tool▁calls▁end｜>",
            Special::ToolCallBegin => "<｜tool▁call▁begin｜>",
            Special::ToolCallEnd => "<｜tool▁call▁end｜>",
            Special::ToolOutputsBegin => "<｜tool▁outputs▁begin｜>",
            Special::ToolOutputsEnd => "<｜tool▁outputs▁end｜>",
            Special::ToolOutputBegin => "<｜tool▁output▁begin｜>",
            Special::ToolOutputEnd => "<｜tool▁output▁end｜>",
            Special::ToolSep => "<｜tool▁sep｜>",
        }
    }

    /// Whether a vocabulary without it is refused: no chat can be written without these six.
    pub const fn is_required(self) -> bool {
        matches!(
            self,
            Special::Bos
                | Special::Eos
                | Special::User
                | Special::Assistant
                | Special::ThinkBegin
                | Special::ThinkEnd
        )
    }
}

/// The ids that one `tokenizer.json` gives to the control tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// [`Special::Bos`].
    pub bos: TokenId,
    /// [`Special::Eos`].
    pub eos: TokenId,
    /// [`Special::User`].
    pub user: TokenId,
    /// [`Special::Assistant`].
    pub assistant: TokenId,
    /// [`Special::ThinkBegin`].
    pub think_begin: TokenId,
    /// [`Special::ThinkEnd`].
    pub think_end: TokenId,
    /// [`Special::Eot`], a second stop token for FIM and base use.
    pub eot: Option<TokenId>,
    ids: [Option<TokenId>; Special::ALL.len()],
}

impl SpecialTokens {
    /// Looks every name up with `find`.
    ///
    /// # Errors
    /// [`Error::MissingSpecial`] naming the first required token that is not there.
    pub(crate) fn find(origin: &str, find: impl Fn(&str) -> Option<TokenId>) -> Result<Self> {
        let ids = Special::ALL.map(|special| find(special.name()));
        let required = |special: Special| {
            ids[special as usize].ok_or_else(|| Error::MissingSpecial {
                origin: origin.to_owned(),
                token: special.name(),
            })
        };
        Ok(SpecialTokens {
            bos: required(Special::Bos)?,
            eos: required(Special::Eos)?,
            user: required(Special::User)?,
            assistant: required(Special::Assistant)?,
            think_begin: required(Special::ThinkBegin)?,
            think_end: required(Special::ThinkEnd)?,
            eot: ids[Special::Eot as usize],
            ids,
        })
    }

    /// The id of a control token, if this vocabulary has it.
    pub fn id(&self, special: Special) -> Option<TokenId> {
        self.ids[special as usize]
    }

    /// Like [`SpecialTokens::id`], for those who cannot go on without it.
    ///
    /// # Errors
    /// [`Error::NoSuchSpecial`] naming the token.
    pub fn require(&self, special: Special) -> Result<TokenId> {
        self.id(special).ok_or(Error::NoSuchSpecial {
            token: special.name(),
        })
    }

    /// The control token that an id stands for, if it is one of [`Special::ALL`].
    pub fn special(&self, id: TokenId) -> Option<Special> {
        Special::ALL
            .into_iter()
            .find(|&special| self.id(special) == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks if ALL's order and the discriminants drift apart: every lookup would then be wrong.
    #[test]
    fn all_is_in_discriminant_order_and_names_are_distinct() {
        let names: std::collections::HashSet<_> = Special::ALL.map(Special::name).into();
        assert_eq!(names.len(), Special::ALL.len());
        for (at, special) in Special::ALL.into_iter().enumerate() {
            assert_eq!(special as usize, at);
        }
    }

    // Breaks if a missing required token stops being an error, or its name is left out of it.
    #[test]
    fn a_missing_required_token_is_named() {
        for missing in Special::ALL {
            let found = SpecialTokens::find("t.json", |name| {
                (name != missing.name()).then_some(name.len() as TokenId)
            });
            match found {
                Ok(tokens) => {
                    assert!(!missing.is_required());
                    assert_eq!(tokens.id(missing), None);
                    assert!(tokens.require(missing).is_err());
                }
                Err(error) => {
                    assert!(missing.is_required());
                    assert!(error.to_string().contains(missing.name()));
                }
            }
        }
    }
}
