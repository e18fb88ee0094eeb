//! Training data as JSON lines, one conversation a line.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use dsv3_tokenizer::{Conversation, Tokenizer, Tool, messages_from_value};
use serde_json::Value;
use serde_json::error::Category;

use crate::data::conversation::{ConversationOptions, learn};
use crate::data::dataset::{BadLine, Dataset};
use crate::error::TrainError;
use crate::lines::{Line, Lines};

/// The longest line that is read. The longest context of the published model, 128k tokens, is well
/// below a megabyte of text.
pub const MAX_LINE_BYTES: u64 = 64 << 20;

/// What to do with a line that can't be trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadLine {
    /// Give up: the first such line is the error.
    #[default]
    Refuse,
    /// Report it, count it and go on.
    Skip,
}

/// Reads a file of conversations, `{"messages": […], "tools": […]}` or a bare list of messages on
/// each line. Blank lines are allowed. A message's `weight` of 0, as in OpenAI's files, keeps an
/// assistant message from being trained.
///
/// `report` is called with each line that is skipped.
///
/// # Errors
/// [`TrainError::Read`], [`TrainError::EmptyData`]; with [`OnBadLine::Refuse`]
/// [`TrainError::BadLine`], with [`OnBadLine::Skip`] [`TrainError::NothingLeft`].
pub fn read_jsonl(
    path: impl AsRef<Path>,
    tokenizer: &Tokenizer,
    options: &ConversationOptions,
    on_bad_line: OnBadLine,
    report: &mut dyn FnMut(&BadLine),
) -> Result<Dataset, TrainError> {
    let path = path.as_ref();
    let unreadable = |source| TrainError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut lines = Lines::new(BufReader::new(file), MAX_LINE_BYTES);
    let mut dataset = Dataset::default();
    while let Some(line) = lines.next_line().map_err(unreadable)? {
        let lesson = match line {
            Line::TooLong { bytes } => Err(format!(
                "the line has {bytes} bytes, more than the {MAX_LINE_BYTES} accepted. Are the conversations on lines of their own? (`jq -c '.[]' FILE` writes a list so)"
            )),
            Line::Bytes(bytes) => match text(bytes) {
                Ok("") => continue,
                Ok(text) => parse(text).and_then(|(conversation, learned)| {
                    learn(&conversation, &learned, tokenizer, options)
                        .map_err(|error| error.to_string())
                }),
                Err(problem) => Err(problem),
            },
        };
        match lesson {
            Ok(lesson) => {
                let count = lesson.sequences.len();
                dataset.sequences.extend(lesson.sequences);
                let hashes = std::iter::repeat_n(lesson.hash, count);
                dataset.conversations.extend(hashes);
            }
            Err(problem) => {
                let bad = BadLine {
                    path: path.to_owned(),
                    line: lines.number(),
                    problem,
                };
                if on_bad_line == OnBadLine::Refuse {
                    return Err(TrainError::BadLine(bad));
                }
                report(&bad);
                dataset.skipped_lines += 1;
                if dataset.skipped.len() < Dataset::MAX_KEPT {
                    dataset.skipped.push(bad);
                }
            }
        }
    }
    if dataset.sequences.is_empty() {
        let path = path.to_owned();
        return Err(match dataset.skipped.into_iter().next() {
            None => TrainError::EmptyData { path },
            Some(first) => TrainError::NothingLeft {
                path,
                skipped: dataset.skipped_lines,
                first,
            },
        });
    }
    Ok(dataset)
}

/// A line as text, without the white space around it.
fn text(bytes: &[u8]) -> Result<&str, String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_ascii()),
        Err(error) => Err(format!(
            "byte {} of the line is not UTF-8. Write the file in that encoding (`iconv -t UTF-8 -f …` converts)",
            error.valid_up_to() + 1
        )),
    }
}

/// A conversation, and for each message whether it may be trained.
fn parse(line: &str) -> Result<(Conversation, Vec<bool>), String> {
    let value: Value = serde_json::from_str(line).map_err(|error| {
        let shown = error.to_string();
        // It counts lines within the line.
        let what = shown.split(" at line ").next().unwrap_or_default();
        match error.classify() {
            Category::Eof => format!(
                "the line ends inside of its JSON ({what}). Each conversation must stand on one line (`jq -c . FILE` writes it so)"
            ),
            _ => format!("not JSON: {what}, at byte {} of the line", error.column()),
        }
    })?;
    let (messages, tools) = match &value {
        Value::Array(items) if items.iter().any(|item| item.get("messages").is_some()) => {
            return Err("a list of conversations. Each must stand on a line of its own (`jq -c '.[]' FILE` writes it so)".to_owned());
        }
        Value::Array(_) => (&value, None),
        Value::Object(fields) => match fields.get("messages") {
            Some(messages) => (messages, fields.get("tools")),
            None => {
                return Err("the object has no field `messages`. A line is {\"messages\": […]} or a list of messages".to_owned());
            }
        },
        _ => {
            return Err("neither an object with `messages` nor a list of messages".to_owned());
        }
    };
    let conversation = Conversation {
        messages: messages_from_value(messages).map_err(|error| error.to_string())?,
        tools: match tools {
            None | Some(Value::Null) => Vec::new(),
            Some(tools) => Tool::list_from_value(tools).map_err(|error| error.to_string())?,
        },
    };
    let items = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let learned = items
        .iter()
        .enumerate()
        .map(|(index, item)| match item.get("weight") {
            None | Some(Value::Null) => Ok(true),
            Some(weight) => match weight.as_f64() {
                Some(1.0) => Ok(true),
                Some(0.0) => Ok(false),
                _ => Err(format!(
                    "messages[{index}]: `weight` is {weight}, not 0 or 1"
                )),
            },
        })
        .collect::<Result<_, _>>()?;
    Ok((conversation, learned))
}
