//! What the model wrote, as events and put together.

use serde::Serialize;

use crate::message::ToolCall;

/// A piece of what the model wrote. Texts of the same channel that follow each other belong
/// together; none is ever empty or ends in half a character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Reasoning, to be shown apart from the answer or not at all.
    Reasoning(String),
    /// The answer.
    Text(String),
    /// A tool call has begun and its name is known. `index` counts the calls of the turn from 0.
    ToolCallBegin {
        /// The call's number.
        index: usize,
        /// The function's name.
        name: String,
    },
    /// The next piece of a call's arguments.
    ToolCallArguments {
        /// The call's number.
        index: usize,
        /// A piece of the JSON.
        fragment: String,
    },
    /// The model has closed the call. Whether its arguments are the JSON that the tool wants is
    /// for the caller to see.
    ToolCallEnd {
        /// The call's number.
        index: usize,
    },
    /// A search agent's query, complete.
    SearchQuery(String),
    /// A call was cut off. Its pieces, if any were given before, are here again.
    UnfinishedToolCall {
        /// The call's number.
        index: usize,
        /// The name, which is itself cut off if `arguments` is `None`.
        name: String,
        /// The arguments so far; `None` if no [`Event::ToolCallBegin`] was given.
        arguments: Option<String>,
    },
    /// A search query was cut off.
    UnfinishedSearch(String),
    /// A control token stood where the format has no place for it. It is not part of any text.
    Stray {
        /// The token's text.
        token: String,
    },
    /// Nothing comes after this.
    Finish {
        /// Why.
        reason: FinishReason,
    },
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was met.
    Stop,
    /// The model ended its turn with tool calls.
    ToolCalls,
    /// There was no room for more tokens.
    Length,
    /// The caller wanted no more.
    Cancelled,
    /// Something failed.
    Error,
}

/// Something that the model began and did not end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Unfinished {
    /// A tool call.
    ToolCall {
        /// The call's number in the turn, from 0.
        index: usize,
        /// The name, itself cut off if `arguments` is `None`.
        name: String,
        /// The arguments so far.
        arguments: Option<String>,
    },
    /// A search query.
    Search {
        /// The query so far.
        query: String,
    },
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Parsed {
    /// The reasoning, `None` if there was none.
    pub reasoning_content: Option<String>,
    /// The answer.
    pub content: String,
    /// The calls that the model closed, in order.
    pub tool_calls: Vec<ToolCall>,
    /// The search queries, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search_queries: Vec<String>,
    /// What was cut off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
    /// Control tokens that stood where they don't belong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stray_tokens: Vec<String>,
    /// Why it ended; `None` while it hasn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// The call that is being written.
    #[serde(skip)]
    open: Option<ToolCall>,
}

impl Parsed {
    /// Puts events together.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut parsed = Parsed::default();
        for event in events {
            parsed.apply(event);
        }
        parsed
    }

    /// Adds what came after this in the same turn: an answer goes on behind the results of a
    /// search.
    pub fn extend(&mut self, later: Parsed) {
        if let Some(reasoning) = later.reasoning_content {
            self.reasoning_content
                .get_or_insert_default()
                .push_str(&reasoning);
        }
        self.content.push_str(&later.content);
        self.tool_calls.extend(later.tool_calls);
        self.search_queries.extend(later.search_queries);
        self.unfinished.extend(later.unfinished);
        self.stray_tokens.extend(later.stray_tokens);
        self.finish_reason = later.finish_reason;
        self.open = later.open;
    }

    /// Adds one event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Reasoning(text) => self
                .reasoning_content
                .get_or_insert_default()
                .push_str(text),
            Event::Text(text) => self.content.push_str(text),
            Event::ToolCallBegin { name, .. } => {
                self.open = Some(ToolCall::new(name, ""));
            }
            Event::ToolCallArguments { fragment, .. } => {
                self.open
                    .get_or_insert_default()
                    .arguments
                    .push_str(fragment);
            }
            Event::ToolCallEnd { .. } => self.tool_calls.extend(self.open.take()),
            Event::SearchQuery(query) => self.search_queries.push(query.clone()),
            Event::UnfinishedToolCall {
                index,
                name,
                arguments,
            } => {
                self.open = None;
                self.unfinished.push(Unfinished::ToolCall {
                    index: *index,
                    name: name.clone(),
                    arguments: arguments.clone(),
                });
            }
            Event::UnfinishedSearch(query) => self.unfinished.push(Unfinished::Search {
                query: query.clone(),
            }),
            Event::Stray { token } => self.stray_tokens.push(token.clone()),
            Event::Finish { reason } => self.finish_reason = Some(*reason),
        }
    }
}
