//! A generated example as a line of training data, to be mixed with a user's own.

use dsv3_tasks::Example;
use dsv3_tokenizer::{Segment, Special};
use serde_json::{Map, Value, json};

/// The conversation that an example renders: `{"messages": […]}`. What the model wrote before the
/// example begins to ask has weight 0.
///
/// `None` for what has no form in plain messages: tools, searches, fill-in-the-middle.
pub fn example_messages(example: &Example) -> Option<Value> {
    let mut reader = Reader::default();
    for turn in &example.turns {
        for segment in &turn.given {
            reader.read(segment, false)?;
        }
        for segment in &turn.answer {
            reader.read(segment, true)?;
        }
    }
    reader.push();
    Some(json!({ "messages": reader.messages }))
}

/// Reads segments of the chat format back into messages.
#[derive(Default)]
struct Reader {
    messages: Vec<Value>,
    /// The message in hand.
    current: Map<String, Value>,
    /// The field that text goes to.
    field: &'static str,
}

impl Reader {
    fn read(&mut self, segment: &Segment, learned: bool) -> Option<()> {
        match segment {
            Segment::Special(Special::Bos) => self.begin("system"),
            Segment::Special(Special::User) => self.begin("user"),
            Segment::Special(Special::Assistant) => self.begin("assistant"),
            Segment::Special(Special::ThinkBegin) => self.field = "reasoning_content",
            Segment::Special(Special::ThinkEnd) => self.field = "content",
            Segment::Special(Special::Eos) => {
                if !learned {
                    self.current.insert("weight".into(), 0.into());
                }
                self.push();
            }
            Segment::Special(_) => return None,
            Segment::Text(text) => match self.current.get_mut(self.field)? {
                Value::String(before) => before.push_str(text),
                _ => return None,
            },
        }
        if self.field == "reasoning_content" && !self.current.contains_key(self.field) {
            self.current.insert(self.field.into(), "".into());
        }
        Some(())
    }

    fn begin(&mut self, role: &str) {
        self.push();
        self.current.insert("role".into(), role.into());
        self.current.insert("content".into(), "".into());
        self.field = "content";
    }

    /// Ends the message in hand, if there is anything in it.
    fn push(&mut self) {
        let message = std::mem::take(&mut self.current);
        // A conversation without instructions begins with BOS all the same.
        let content = message.get("content").and_then(Value::as_str);
        if content.is_some_and(|content| !content.is_empty()) {
            self.messages.push(Value::Object(message));
        }
    }
}
