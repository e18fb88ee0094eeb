//! A checkpoint's own `chat_template.jinja`, rendered with limits.
//!
//! What a template may do is bounded: its instructions and the memory that its values take (by
//! fuel), its recursion, its stack, the size of its source and of its output. It cannot read files
//! or the environment.
//!
//! One thing is not bounded, because minijinja charges for it only afterwards: turning into a
//! string, or comparing, a list that was doubled or made to hold another list twice, dozens of
//! times over. A template is to be trusted about as far as the checkpoint that it came with;
//! [`render`](crate::render()) needs no template at all.

use std::fmt;
use std::io;
use std::path::Path;
use std::slice;
use std::str::FromStr;
use std::thread;

use minijinja::value::{Serde, Value, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, ErrorKind, State, context};

use crate::json::dumps;
use crate::message::Message;
use crate::render::{RenderOptions, check, tool_block};
use crate::special::Special;
use crate::tokenizer::read_limited;
use crate::tool::Tool;
use crate::{Error, Result};

const NAME: &str = "chat_template.jinja";

/// V3.1's template has under 4 kB.
const MAX_SOURCE_BYTES: u64 = 64 << 10;

/// Fuel without regard to the conversation: one unit pays for an instruction or 64 bytes.
const BASE_FUEL: u64 = 100_000;

/// Fuel for each message or tool. V3.1's template spends about 60.
const FUEL_PER_ITEM: u64 = 300;

/// One unit of fuel for so many bytes of the conversation: they may be copied 16 times.
const BYTES_PER_FUEL: u64 = 4;

/// Fuel for any conversation. It bounds the memory that values take to about 256 MB; what needs
/// more is many times longer than the model's context.
const MAX_FUEL: u64 = 4_000_000;

/// Stack to parse on. minijinja's parser and compiler recurse along chains (`1+1+…`, `x.a.a…`)
/// without a limit of their own, so the longest chain that fits a source must find room.
const BASE_STACK_BYTES: u64 = 128 << 20;

/// Stack to render on, for each unit of fuel: values that hold each other are dropped, compared
/// and shown recursively, and fuel is what bounds their depth.
const STACK_BYTES_PER_FUEL: u64 = 512;

/// How deep `tojson` follows; serde_json reads no deeper.
const MAX_JSON_DEPTH: usize = 128;

/// How deep blocks, macros and includes may nest.
const RECURSION_LIMIT: usize = 100;

/// Output bytes without regard to the conversation.
const BASE_OUTPUT_BYTES: u64 = 16 << 20;

/// A Jinja chat template as Hugging Face's transformers renders it: `trim_blocks` and
/// `lstrip_blocks` on, Python's methods on strings, `tojson` as `json.dumps`, no HTML escaping.
pub struct Template {
    environment: Environment<'static>,
    /// Whether the template has a place for `tools` of its own.
    takes_tools: bool,
}

impl Template {
    /// Reads a template from a file of at most 64 KiB.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::TooLarge`], [`Error::Template`] if it does not parse.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_limited(path, MAX_SOURCE_BYTES)?;
        let source = String::from_utf8(bytes).map_err(|error| Error::Template {
            problem: format!("{} is not UTF-8: {error}", path.display()),
        })?;
        Self::from_source(source)
    }

    /// Takes a template's text.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Template`] if it does not parse.
    pub fn from_source(source: impl Into<String>) -> Result<Self> {
        let source = source.into();
        if source.len() as u64 > MAX_SOURCE_BYTES {
            return Err(Error::TooLarge {
                what: "the chat template".to_owned(),
                bytes: source.len() as u64,
                limit: MAX_SOURCE_BYTES,
            });
        }
        on_own_stack(BASE_STACK_BYTES, || Self::parse(source))
    }

    fn parse(source: String) -> Result<Self> {
        let mut environment = Environment::new();
        // as transformers configures Jinja
        environment.set_syntax(
            minijinja::syntax::SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(failed)?,
        );
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(RECURSION_LIMIT);
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| {
            Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, source)
            .map_err(failed)?;
        let takes_tools = environment
            .get_template(NAME)
            .map_err(failed)?
            .undeclared_variables(false)
            .contains("tools");
        Ok(Template {
            environment,
            takes_tools,
        })
    }

    /// Renders a conversation to text. Tools are given to the template if it mentions them;
    /// V3.1's own does not, so they are described in the system text, as [`render`](crate::render)
    /// does.
    ///
    /// The text no longer tells a control token from someone's words that look like one, so
    /// encoding it opens the door that [`render`](crate::render) keeps shut.
    ///
    /// # Errors
    /// [`Error::Message`] as [`render`](crate::render), [`Error::Template`] if the template fails
    /// or runs past its limits.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Tool],
        options: &RenderOptions,
    ) -> Result<String> {
        check(messages)?;
        let described;
        let (messages, tools) = if tools.is_empty() || self.takes_tools {
            (messages, tools)
        } else {
            described = with_tools_described(messages, tools);
            (described.as_slice(), &[][..])
        };
        let size: u64 = messages.iter().map(message_bytes).sum::<u64>()
            + tools
                .iter()
                .map(|tool| dumps(&tool.clone().into()).len() as u64)
                .sum::<u64>();
        let items = (messages.len() + tools.len()) as u64;
        let fuel = (BASE_FUEL + items * FUEL_PER_ITEM + size / BYTES_PER_FUEL).min(MAX_FUEL);
        let limit = BASE_OUTPUT_BYTES.saturating_add(size.saturating_mul(4));

        let stack = BASE_STACK_BYTES + fuel * STACK_BYTES_PER_FUEL;
        let mut text = on_own_stack(stack, || self.run(messages, tools, options, fuel, limit))?;
        if options.continue_prefix
            && messages.last().is_some_and(Message::is_prefix)
            && let Some(rest) = text.strip_suffix(Special::Eos.name())
        {
            text.truncate(rest.len());
        }
        Ok(text)
    }

    fn run(
        &self,
        messages: &[Message],
        tools: &[Tool],
        options: &RenderOptions,
        fuel: u64,
        limit: u64,
    ) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let template = environment.get_template(NAME).map_err(failed)?;
        let mut output = Bounded {
            bytes: Vec::new(),
            limit,
        };
        let values = context! {
            messages => Value::from(Serde(messages)),
            tools => if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) },
            thinking => options.thinking,
            enable_thinking => options.thinking,
            add_generation_prompt => options.add_generation_prompt,
            bos_token => Special::Bos.name(),
            eos_token => Special::Eos.name(),
            pad_token => Special::Eos.name(),
        };
        template
            .render_captured_to(values, &mut output)
            .map_err(failed)?;
        String::from_utf8(output.bytes).map_err(|error| Error::Template {
            problem: error.to_string(),
        })
    }
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self> {
        Self::from_source(source)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("takes_tools", &self.takes_tools)
            .finish_non_exhaustive()
    }
}

fn failed(error: minijinja::Error) -> Error {
    let mut problem = error.to_string();
    if error.kind() == ErrorKind::OutOfFuel {
        problem.push_str("; it does more work than the conversation's size allows");
    }
    Error::Template { problem }
}

/// The conversation with the tools block after the system text, as [`crate::render`] has it.
fn with_tools_described(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let block = format!("\n\n{}", tool_block(tools));
    let mut messages = messages.to_vec();
    let last_system = messages.iter_mut().rev().find_map(|message| match message {
        Message::System(content) => Some(content),
        _ => None,
    });
    match last_system {
        Some(content) => content.push_str(&block),
        None => messages.insert(0, Message::System(block)),
    }
    messages
}

/// How many bytes a message gives the template to work on.
fn message_bytes(message: &Message) -> u64 {
    let bytes = match message {
        Message::System(text) | Message::User(text) => text.len(),
        Message::Tool(tool) => tool.content.len(),
        Message::Assistant(turn) => {
            let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            let calls = turn.tool_calls.iter();
            text(&turn.content)
                + text(&turn.reasoning_content)
                + calls
                    .map(|call| CALL_BYTES + call.name.len() + call.arguments.len())
                    .sum::<usize>()
        }
    };
    bytes as u64
}

/// What a tool call counts for besides its text, so that many short ones can be paid for.
const CALL_BYTES: usize = 400;

/// Runs what a hostile template could make recurse deeply on a thread with room for it: running
/// out of stack would end the process. Untouched stack takes no memory.
fn on_own_stack<T: Send>(bytes: u64, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |problem: String| Error::Template { problem };
    let bytes = usize::try_from(bytes).map_err(|error| failed(error.to_string()))?;
    thread::scope(|scope| {
        thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(bytes)
            .spawn_scoped(scope, work)
            .map_err(|error| failed(format!("no thread to render it on: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(failed("the template engine panicked".to_owned())))
    })
}

/// Takes output up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + more.len()) as u64 > self.limit {
            return Err(io::Error::other("the template writes too much"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hugging Face's `tojson`: `json.dumps(…, ensure_ascii=False)`, not the HTML-safe one of Jinja.
fn tojson(state: &State<'_, '_>, value: Value) -> Result<String, minijinja::Error> {
    Ok(dumps(&to_json(state, &value, 0)?))
}

/// A template's value as JSON. Each element is paid for, since a value that holds another twice
/// can be far longer written out than it is in memory.
fn to_json(
    state: &State<'_, '_>,
    value: &Value,
    depth: usize,
) -> Result<serde_json::Value, minijinja::Error> {
    let failed =
        |problem: &'static str| minijinja::Error::new(ErrorKind::BadSerialization, problem);
    if depth > MAX_JSON_DEPTH {
        return Err(failed("tojson: the value is nested too deeply"));
    }
    let text_bytes = value.as_str().map_or(0, str::len) as u64;
    state.consume_fuel(1 + text_bytes / 64)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .map(|item| to_json(state, &item, depth + 1))
            .collect(),
        ValueKind::Map => value
            .try_iter()?
            .map(|key| {
                let item = to_json(state, &value.get_item(&key)?, depth + 1)?;
                Ok((key.to_string(), item))
            })
            .collect::<Result<serde_json::Map<_, _>, _>>()
            .map(serde_json::Value::Object),
        _ => serde_json::to_value(value)
            .map_err(|error| failed("tojson: no JSON stands for the value").with_source(error)),
    }
}

/// The methods of Python's strings and dictionaries that chat templates call.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    let unknown = || minijinja::Error::from(ErrorKind::UnknownMethod);
    let Some(text) = value.as_str() else {
        return match method {
            "items" | "keys" | "values" if value.kind() == ValueKind::Map => {
                let () = from_args(args)?;
                match method {
                    "items" => state.apply_filter("items", slice::from_ref(value)),
                    "keys" => Ok(value.try_iter()?.collect()),
                    _ => value
                        .try_iter()?
                        .map(|key| value.get_item(&key))
                        .collect::<Result<Value, _>>(),
                }
            }
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = value.get_item(&key)?;
                Ok(match found.is_undefined() {
                    true => default.unwrap_or_else(|| Value::from(())),
                    false => found,
                })
            }
            _ => Err(unknown()),
        };
    };
    let trimmed = |side: fn(&str, &dyn Fn(char) -> bool) -> String| {
        let (set,): (Option<String>,) = from_args(args)?;
        Ok(Value::from(match set {
            Some(set) => side(text, &|c| set.contains(c)),
            None => side(text, &char::is_whitespace),
        }))
    };
    match method {
        "strip" => trimmed(|text, out| text.trim_matches(out).to_owned()),
        "lstrip" => trimmed(|text, out| text.trim_start_matches(out).to_owned()),
        "rstrip" => trimmed(|text, out| text.trim_end_matches(out).to_owned()),
        "startswith" => {
            let (start,): (&str,) = from_args(args)?;
            Ok(Value::from(text.starts_with(start)))
        }
        "endswith" => {
            let (end,): (&str,) = from_args(args)?;
            Ok(Value::from(text.ends_with(end)))
        }
        "upper" => Ok(Value::from(text.to_uppercase())),
        "lower" => Ok(Value::from(text.to_lowercase())),
        "title" | "capitalize" => state.apply_filter(method, slice::from_ref(value)),
        "find" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).and_then(|at| text.get(..at));
            Ok(at.map_or(Value::from(-1), |before| {
                Value::from(before.chars().count())
            }))
        }
        "replace" => {
            let (old, new): (&str, &str) = from_args(args)?;
            // Paid for before it is made, since the result can be far longer than the text.
            let found = text.matches(old).count() as u64;
            state.consume_fuel(found.saturating_mul(new.len() as u64) / 64)?;
            Ok(Value::from(text.replace(old, new)))
        }
        "splitlines" => {
            let () = from_args(args)?;
            Ok(text.lines().map(Value::from).collect())
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            split(text, separator, most)
        }
        _ => Err(unknown()),
    }
}

/// `str.split(sep=None, maxsplit=-1)`.
fn split(
    text: &str,
    separator: Option<&str>,
    most: Option<i64>,
) -> Result<Value, minijinja::Error> {
    let pieces = most
        .and_then(|most| usize::try_from(most).ok())
        .map_or(usize::MAX, |most| most.saturating_add(1));
    match separator {
        Some("") => Err(minijinja::Error::new(
            ErrorKind::InvalidOperation,
            "empty separator",
        )),
        Some(separator) => Ok(text.splitn(pieces, separator).map(Value::from).collect()),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_start();
            while !rest.is_empty() && parts.len() + 1 < pieces {
                let (part, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                parts.push(Value::from(part));
                rest = after.trim_start();
            }
            if !rest.is_empty() {
                parts.push(Value::from(rest));
            }
            Ok(Value::from(parts))
        }
    }
}
