//! From the ids that the model writes to reasoning, answer and tool calls.
//!
//! A state machine on ids. Text that merely looks like a control token is text; a control token
//! is never text.
//!
//! # The rules
//!
//! A well-formed turn is `[reasoning </think>] answer [calls] EOS` with calls
//! `<｜tool▁calls▁begin｜>` (`<｜tool▁call▁begin｜>` name `<｜tool▁sep｜>` arguments
//! `<｜tool▁call▁end｜>`)* `<｜tool▁calls▁end｜>` (DeepSeek-V3.1 model card, ToolCall), and
//! `<｜search▁begin｜>` query `<｜search▁end｜>` anywhere in reasoning or answer. For what is not
//! well-formed:
//!
//! - `<think>` in an answer opens reasoning. In reasoning it is stray, as `</think>` in an answer.
//! - `<｜tool▁calls▁begin｜>` or `<｜tool▁call▁begin｜>` in reasoning ends the reasoning. What
//!   follows the calls is answer.
//! - `<｜tool▁call▁begin｜>` without `<｜tool▁calls▁begin｜>` opens the list of calls by itself.
//! - Text between calls, or in a list without a call, is answer.
//! - A call is done when its `<｜tool▁call▁end｜>` comes after its `<｜tool▁sep｜>`. Any other end (a
//!   second beginning, the end of the list, EOS, the end of the turn) makes it unfinished; it is
//!   reported with all that it held, and the token then counts as it would after the call.
//! - Search ends at `<｜search▁end｜>`. A second beginning, a think or tool call token or EOS leaves
//!   it unfinished, and then counts as it would after the query.
//! - EOS and `<|EOT|>` end what is open. If more comes all the same it is answer.
//! - Every other control token, and any in a place not named here, is stray: reported by name,
//!   part of no text.
//! - A character in progress ends at every control token; what there is of it becomes U+FFFD.

use std::sync::Arc;

use crate::event::{Event, FinishReason, Parsed};
use crate::prompt::Mode;
use crate::special::Special;
use crate::stream::Utf8Stream;
use crate::vocabulary::{Kind, Vocabulary};
use crate::{Error, Result, TokenId, Tokenizer};

/// Turns the ids that a model writes into [`Event`]s, as they come.
pub struct OutputParser {
    vocabulary: Arc<Vocabulary>,
    state: State,
    utf8: Utf8Stream,
    /// The number of the next call.
    next_index: usize,
    /// Calls that were closed, and calls that were not.
    closed: usize,
    unclosed: usize,
    finished: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Reasoning,
    Content,
    /// In the list of calls, in none of them.
    Calls,
    Name {
        index: usize,
        name: String,
    },
    Arguments {
        index: usize,
        name: String,
        arguments: String,
    },
    Search {
        query: String,
        in_reasoning: bool,
    },
}

impl OutputParser {
    /// A parser for one answer to a prompt that left the model in `mode`
    /// ([`Prompt::mode`](crate::Prompt::mode)).
    pub fn new(tokenizer: &Tokenizer, mode: Mode) -> Self {
        OutputParser {
            vocabulary: Arc::clone(tokenizer.vocabulary()),
            state: match mode {
                Mode::Thinking => State::Reasoning,
                Mode::NonThinking => State::Content,
            },
            utf8: Utf8Stream::default(),
            next_index: 0,
            closed: 0,
            unclosed: 0,
            finished: false,
        }
    }

    /// Whether the model is reasoning now.
    pub fn in_reasoning(&self) -> bool {
        matches!(
            self.state,
            State::Reasoning
                | State::Search {
                    in_reasoning: true,
                    ..
                }
        )
    }

    /// Whether the model is in a tool call now.
    pub fn in_tool_call(&self) -> bool {
        matches!(self.state, State::Name { .. } | State::Arguments { .. })
    }

    /// Whether an id is a control token of V3.1, which is never text.
    pub fn is_control(&self, id: TokenId) -> bool {
        self.vocabulary.special.special(id).is_some()
    }

    /// Takes the next id.
    ///
    /// # Errors
    /// [`Error::UnknownId`], after which the parser can be used on; [`Error::ParserFinished`].
    pub fn push(&mut self, id: TokenId) -> Result<Vec<Event>> {
        self.push_all(&[id])
    }

    /// Takes the next ids. Texts of one channel come joined.
    ///
    /// # Errors
    /// As [`OutputParser::push`]; none of the ids is then taken.
    pub fn push_all(&mut self, ids: &[TokenId]) -> Result<Vec<Event>> {
        if self.finished {
            return Err(Error::ParserFinished);
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        let tokens = ids
            .iter()
            .map(|&id| vocabulary.token(id).map(|token| (id, token)))
            .collect::<Result<Vec<_>>>()?;
        let mut events = Events(Vec::new());
        for (id, (bytes, kind)) in tokens {
            if matches!(kind, Kind::Added { .. }) {
                self.end_character(&mut events);
                match vocabulary.special.special(id) {
                    Some(special) => self.control(special, &mut events),
                    None => events.stray(&String::from_utf8_lossy(bytes)),
                }
            } else {
                let mut text = String::new();
                self.utf8.push(bytes, &mut text);
                self.deliver(text, &mut events);
            }
        }
        Ok(events.0)
    }

    /// Ends the answer: reports what is open as unfinished, then gives [`Event::Finish`]. A
    /// [`FinishReason::Stop`] after tool calls that are all closed is given as
    /// [`FinishReason::ToolCalls`]. A second time it gives nothing.
    pub fn finish(&mut self, reason: FinishReason) -> Vec<Event> {
        if self.finished {
            return Vec::new();
        }
        self.finished = true;
        let mut events = Events(Vec::new());
        self.end_character(&mut events);
        self.abandon(&mut events);
        let reason = match reason {
            FinishReason::Stop if self.closed > 0 && self.unclosed == 0 => FinishReason::ToolCalls,
            other => other,
        };
        events.0.push(Event::Finish { reason });
        events.0
    }

    fn end_character(&mut self, events: &mut Events) {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        self.deliver(text, events);
    }

    /// Puts text where the state says it belongs.
    fn deliver(&mut self, text: String, events: &mut Events) {
        if text.is_empty() {
            return;
        }
        match &mut self.state {
            State::Reasoning => events.reasoning(text),
            State::Content | State::Calls => events.text(text),
            State::Name { name, .. } => name.push_str(&text),
            State::Arguments {
                index, arguments, ..
            } => {
                arguments.push_str(&text);
                events.arguments(*index, text);
            }
            State::Search { query, .. } => query.push_str(&text),
        }
    }

    /// Leaves a call or a query that was not closed, and reports it.
    fn abandon(&mut self, events: &mut Events) {
        let (next, event) = match std::mem::replace(&mut self.state, State::Content) {
            State::Name { index, name } => (
                State::Calls,
                Event::UnfinishedToolCall {
                    index,
                    name,
                    arguments: None,
                },
            ),
            State::Arguments {
                index,
                name,
                arguments,
            } => (
                State::Calls,
                Event::UnfinishedToolCall {
                    index,
                    name,
                    arguments: Some(arguments),
                },
            ),
            State::Search {
                query,
                in_reasoning,
            } => (outside_search(in_reasoning), Event::UnfinishedSearch(query)),
            other => {
                self.state = other;
                return;
            }
        };
        if next == State::Calls {
            self.unclosed += 1;
        }
        self.state = next;
        events.0.push(event);
    }

    fn control(&mut self, special: Special, events: &mut Events) {
        use Special as S;

        // What an open call or query does not know how to go on with ends it first.
        let ends_what_is_open = match self.state {
            State::Name { .. } => matches!(
                special,
                S::ToolCallsBegin
                    | S::ToolCallsEnd
                    | S::ToolCallBegin
                    | S::ToolCallEnd
                    | S::Eos
                    | S::Eot
            ),
            State::Arguments { .. } => matches!(
                special,
                S::ToolCallsBegin | S::ToolCallsEnd | S::ToolCallBegin | S::Eos | S::Eot
            ),
            State::Search { .. } => matches!(
                special,
                S::SearchBegin
                    | S::ThinkBegin
                    | S::ThinkEnd
                    | S::ToolCallsBegin
                    | S::ToolCallsEnd
                    | S::ToolCallBegin
                    | S::ToolCallEnd
                    | S::ToolSep
                    | S::Eos
                    | S::Eot
            ),
            State::Reasoning | State::Content | State::Calls => false,
        };
        if ends_what_is_open {
            let in_name = matches!(self.state, State::Name { .. });
            self.abandon(events);
            if in_name && special == S::ToolCallEnd {
                // It closed the call, such as it was.
                return;
            }
        }

        // The owned state makes the names and arguments movable; stray tokens put it back.
        let state = std::mem::replace(&mut self.state, State::Content);
        self.state = match (state, special) {
            (_, S::Eos | S::Eot) => State::Content,
            (State::Reasoning, S::ThinkEnd) => State::Content,
            (State::Content, S::ThinkBegin) => State::Reasoning,
            (State::Reasoning, S::SearchBegin) => State::Search {
                query: String::new(),
                in_reasoning: true,
            },
            (State::Content, S::SearchBegin) => State::Search {
                query: String::new(),
                in_reasoning: false,
            },
            (
                State::Search {
                    query,
                    in_reasoning,
                },
                S::SearchEnd,
            ) => {
                events.0.push(Event::SearchQuery(query));
                outside_search(in_reasoning)
            }
            (State::Reasoning | State::Content, S::ToolCallsBegin) => State::Calls,
            (State::Reasoning | State::Content | State::Calls, S::ToolCallBegin) => {
                let index = self.next_index;
                self.next_index += 1;
                State::Name {
                    index,
                    name: String::new(),
                }
            }
            (State::Calls, S::ToolCallsEnd) => State::Content,
            (State::Name { index, name }, S::ToolSep) => {
                events.0.push(Event::ToolCallBegin {
                    index,
                    name: name.clone(),
                });
                State::Arguments {
                    index,
                    name,
                    arguments: String::new(),
                }
            }
            (State::Arguments { index, .. }, S::ToolCallEnd) => {
                self.closed += 1;
                events.0.push(Event::ToolCallEnd { index });
                State::Calls
            }
            (state, stray) => {
                events.stray(stray.name());
                state
            }
        };
    }
}

fn outside_search(in_reasoning: bool) -> State {
    if in_reasoning {
        State::Reasoning
    } else {
        State::Content
    }
}

/// Events in the making; text joins the text before it.
struct Events(Vec<Event>);

impl Events {
    fn reasoning(&mut self, text: String) {
        match self.0.last_mut() {
            Some(Event::Reasoning(last)) => last.push_str(&text),
            _ => self.0.push(Event::Reasoning(text)),
        }
    }

    fn text(&mut self, text: String) {
        match self.0.last_mut() {
            Some(Event::Text(last)) => last.push_str(&text),
            _ => self.0.push(Event::Text(text)),
        }
    }

    fn arguments(&mut self, index: usize, text: String) {
        match self.0.last_mut() {
            // Calls follow each other with other events between, so it is the same call.
            Some(Event::ToolCallArguments { fragment, .. }) => fragment.push_str(&text),
            _ => self.0.push(Event::ToolCallArguments {
                index,
                fragment: text,
            }),
        }
    }

    fn stray(&mut self, token: &str) {
        self.0.push(Event::Stray {
            token: token.to_owned(),
        });
    }
}

/// Parses a whole answer.
///
/// # Errors
/// [`Error::UnknownId`].
pub fn parse_ids(
    tokenizer: &Tokenizer,
    ids: &[TokenId],
    mode: Mode,
    reason: FinishReason,
) -> Result<Parsed> {
    let mut parser = OutputParser::new(tokenizer, mode);
    let mut events = parser.push_all(ids)?;
    events.extend(parser.finish(reason));
    Ok(Parsed::from_events(&events))
}

/// Parses a whole answer that is at hand as text, in which control tokens are written out.
///
/// # Errors
/// [`Error::Encode`].
pub fn parse_text(tokenizer: &Tokenizer, text: &str, mode: Mode) -> Result<Parsed> {
    let ids = tokenizer.encode_with_special(text)?;
    parse_ids(tokenizer, &ids, mode, FinishReason::Stop)
}
