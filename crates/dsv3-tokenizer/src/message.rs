//! Messages, in OpenAI's form outside and typed inside.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::json::dumps;
use crate::tool::Tool;
use crate::{Error, Result};

/// One message of a conversation.
///
/// Reads and writes OpenAI's JSON form. The role `developer` is read as `system`. Content may be a
/// string or a list of `{"type": "text", "text": …}` parts, which are joined by a newline, as the
/// common servers do for templates that take strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Message {
    /// Instructions. The chat format moves all of them to the front.
    System(String),
    /// What the user said.
    User(String),
    /// What the model said.
    Assistant(AssistantMessage),
    /// What a tool gave back.
    Tool(ToolMessage),
}

/// A turn of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssistantMessage {
    /// The answer. Without tool calls it must be there, even if empty.
    pub content: Option<String>,
    /// The reasoning. The chat format drops it from past turns.
    pub reasoning_content: Option<String>,
    /// The tool calls of this turn.
    pub tool_calls: Vec<ToolCall>,
    /// This message is the beginning of the answer that the model is to go on with.
    pub prefix: bool,
}

/// The result of a tool call. The format has no place for the call's id: results follow in the
/// order of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolMessage {
    /// The result.
    pub content: String,
    /// The call that this answers. Kept, not rendered.
    pub tool_call_id: Option<String>,
}

/// One call of a function. Reads and writes OpenAI's form,
/// `{"id": …, "type": "function", "function": {"name": …, "arguments": "…"}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct ToolCall {
    /// An id made up by whoever serves the model; the model never sees one.
    pub id: Option<String>,
    /// The function's name.
    pub name: String,
    /// The arguments as the model wrote them: JSON if all went well.
    pub arguments: String,
}

/// A conversation and the tools that the model may call in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The tools.
    pub tools: Vec<Tool>,
}

impl Message {
    /// The role in OpenAI's spelling.
    pub fn role(&self) -> &'static str {
        match self {
            Message::System(_) => "system",
            Message::User(_) => "user",
            Message::Assistant(_) => "assistant",
            Message::Tool(_) => "tool",
        }
    }

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Message::System(content.into())
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Message::User(content.into())
    }

    /// An assistant message with content alone.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::Assistant(AssistantMessage {
            content: Some(content.into()),
            ..AssistantMessage::default()
        })
    }

    /// An assistant message that the model is to go on with.
    pub fn prefix(content: impl Into<String>) -> Self {
        Message::Assistant(AssistantMessage {
            content: Some(content.into()),
            prefix: true,
            ..AssistantMessage::default()
        })
    }

    /// A tool's result.
    pub fn tool(content: impl Into<String>) -> Self {
        Message::Tool(ToolMessage {
            content: content.into(),
            tool_call_id: None,
        })
    }

    /// Whether this is an assistant message to be gone on with.
    pub(crate) fn is_prefix(&self) -> bool {
        matches!(self, Message::Assistant(turn) if turn.prefix)
    }
}

impl ToolCall {
    /// A call without an id.
    pub fn new(name: impl Into<String>, arguments: impl Into<String>) -> Self {
        ToolCall {
            id: None,
            name: name.into(),
            arguments: arguments.into(),
        }
    }
}

impl Conversation {
    /// Reads a list of messages, or an object with `messages` and perhaps `tools`.
    ///
    /// # Errors
    /// [`Error::Json`] where the text is no JSON, [`Error::Message`] and [`Error::Tool`] with the
    /// place of the one that is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        let wrong = |problem: String| Error::Json {
            what: "the conversation",
            problem,
        };
        let value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        match value {
            Value::Array(_) => Ok(Conversation {
                messages: messages_from_value(&value)?,
                tools: Vec::new(),
            }),
            Value::Object(ref fields) => {
                let messages = fields
                    .get("messages")
                    .ok_or_else(|| wrong("the object has no field `messages`".to_owned()))?;
                Ok(Conversation {
                    messages: messages_from_value(messages)?,
                    tools: match fields.get("tools") {
                        None | Some(Value::Null) => Vec::new(),
                        Some(tools) => Tool::list_from_value(tools)?,
                    },
                })
            }
            _ => Err(wrong(
                "expected a list of messages or an object with `messages`".to_owned(),
            )),
        }
    }
}

/// Reads a list of messages from parsed JSON.
///
/// # Errors
/// [`Error::Json`] if it is no list, [`Error::Message`] with the place of a message that is wrong.
pub fn messages_from_value(value: &Value) -> Result<Vec<Message>> {
    let Value::Array(items) = value else {
        return Err(Error::Json {
            what: "the conversation",
            problem: format!("`messages` is {}, not a list", kind(value)),
        });
    };
    items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            Message::try_from(item.clone()).map_err(|problem| Error::Message { index, problem })
        })
        .collect()
}

impl TryFrom<Value> for Message {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let role = match value.get("role") {
            Some(Value::String(role)) => role.as_str(),
            Some(other) => return Err(format!("`role` is {}, not a string", kind(other))),
            None if value.is_object() => return Err("it has no `role`".to_owned()),
            None => return Err(format!("it is {}, not an object", kind(&value))),
        };
        let content = content(value.get("content"))?;
        let needed = |content: Option<String>| {
            content.ok_or_else(|| format!("a {role} message needs `content`"))
        };
        match role {
            "system" | "developer" => Ok(Message::System(needed(content)?)),
            "user" => Ok(Message::User(needed(content)?)),
            "assistant" => {
                let tool_calls = match value.get("tool_calls") {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::Array(calls)) => calls
                        .iter()
                        .enumerate()
                        .map(|(at, call)| {
                            ToolCall::try_from(call.clone())
                                .map_err(|problem| format!("tool_calls[{at}]: {problem}"))
                        })
                        .collect::<Result<_, _>>()?,
                    Some(other) => {
                        return Err(format!("`tool_calls` is {}, not a list", kind(other)));
                    }
                };
                if content.is_none() && tool_calls.is_empty() {
                    return Err("an assistant message needs `content` or `tool_calls`".to_owned());
                }
                Ok(Message::Assistant(AssistantMessage {
                    content,
                    reasoning_content: optional_string(&value, "reasoning_content")?,
                    tool_calls,
                    prefix: match value.get("prefix") {
                        None | Some(Value::Null) => false,
                        Some(Value::Bool(prefix)) => *prefix,
                        Some(other) => {
                            return Err(format!("`prefix` is {}, not true or false", kind(other)));
                        }
                    },
                }))
            }
            "tool" => Ok(Message::Tool(ToolMessage {
                content: needed(content)?,
                tool_call_id: optional_string(&value, "tool_call_id")?,
            })),
            other => Err(format!(
                "unknown role `{other}`; the roles are system, developer, user, assistant and tool"
            )),
        }
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Value {
        let role = message.role();
        match message {
            Message::System(content) | Message::User(content) => {
                json!({"role": role, "content": content})
            }
            Message::Tool(tool) => {
                let mut value = json!({"role": role, "content": tool.content});
                if let Some(id) = tool.tool_call_id {
                    value["tool_call_id"] = Value::String(id);
                }
                value
            }
            Message::Assistant(turn) => {
                let mut value = json!({"role": role, "content": turn.content});
                if let Some(reasoning) = turn.reasoning_content {
                    value["reasoning_content"] = Value::String(reasoning);
                }
                if !turn.tool_calls.is_empty() {
                    value["tool_calls"] = turn.tool_calls.into_iter().map(Value::from).collect();
                }
                if turn.prefix {
                    value["prefix"] = Value::Bool(true);
                }
                value
            }
        }
    }
}

impl TryFrom<Value> for ToolCall {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value.get("type") {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind == "function" => {}
            Some(other) => return Err(format!("its `type` is {other}, not \"function\"")),
        }
        let function = value
            .get("function")
            .filter(|function| function.is_object())
            .ok_or("it has no object `function`")?;
        let name = optional_string(function, "name")?.ok_or("its `function` has no `name`")?;
        let arguments = match function.get("arguments") {
            Some(Value::String(arguments)) => arguments.clone(),
            // Some clients send the parsed object; the model saw such things through json.dumps.
            Some(object @ Value::Object(_)) => dumps(object),
            Some(other) => {
                return Err(format!(
                    "`arguments` is {}, not a string of JSON",
                    kind(other)
                ));
            }
            None => return Err("its `function` has no `arguments`".to_owned()),
        };
        Ok(ToolCall {
            id: optional_string(&value, "id")?,
            name,
            arguments,
        })
    }
}

impl From<ToolCall> for Value {
    fn from(call: ToolCall) -> Value {
        let function = json!({"name": call.name, "arguments": call.arguments});
        match call.id {
            Some(id) => json!({"id": id, "type": "function", "function": function}),
            None => json!({"type": "function", "function": function}),
        }
    }
}

/// A string or a list of text parts; `None` for null and nothing.
fn content(value: Option<&Value>) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(parts)) => {
            let mut texts = Vec::with_capacity(parts.len());
            for (at, part) in parts.iter().enumerate() {
                match (part.get("type").and_then(Value::as_str), part.get("text")) {
                    (Some("text"), Some(Value::String(text))) => texts.push(text.as_str()),
                    (Some("text"), _) => return Err(format!("content[{at}] has no string `text`")),
                    (Some(other), _) => {
                        return Err(format!(
                            "content[{at}] is of type `{other}`; this model takes only text"
                        ));
                    }
                    (None, _) => return Err(format!("content[{at}] has no string `type`")),
                }
            }
            Ok(Some(texts.join("\n")))
        }
        Some(other) => Err(format!(
            "`content` is {}, not a string or a list of text parts",
            kind(other)
        )),
    }
}

fn optional_string(value: &Value, field: &str) -> Result<Option<String>, String> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{field}` is {}, not a string", kind(other))),
    }
}

/// What a JSON value is, for error messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
