//! A question with one answer: the form of most tasks.

use dsv3_tokenizer::Message;

use crate::chat;
use crate::check::Check;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split, Turn};

/// What is asked and what is answered, before the mode decides what of it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    /// Names the parameters: not the wording (but for facts), never the mode.
    pub(crate) id: String,
    /// A system message.
    pub(crate) system: Option<String>,
    /// What the user says.
    pub(crate) text: String,
    /// How the answer is found.
    pub(crate) reasoning: String,
    /// The whole answer.
    pub(crate) answer: String,
}

impl Question {
    /// The example that asks it in a mode.
    pub(crate) fn into_example(self, kind: Kind, mode: Mode) -> Result<Example, TasksError> {
        let mut messages = Vec::with_capacity(2);
        messages.extend(self.system.map(Message::System));
        messages.push(Message::User(self.text));
        let reasoning = (mode == Mode::Think).then_some(self.reasoning.as_str());
        Ok(Example {
            split: Split::of(&self.id),
            id: self.id,
            kind,
            mode,
            turns: vec![Turn {
                given: chat::given(&messages, &[], mode)?,
                answer: chat::answer(reasoning, &self.answer),
                check: Check::Exact {
                    answer: self.answer,
                },
            }],
        })
    }
}

/// A system message that changes nothing, now and then: none most of the time.
pub(crate) fn plain_system(draw: &mut Draw) -> Option<String> {
    const PLAIN: [&str; 5] = [
        "You are a helpful assistant.",
        "You are a helpful assistant.",
        "Be brief.",
        "Answer the user's question.",
        "You are dsv3, a small model.",
    ];
    draw.one_in(10).then(|| draw.pick(&PLAIN).to_owned())
}

/// Things in a row with commas, the last two joined by `word` where there is one.
pub(crate) fn listed(items: &[impl AsRef<str>], word: &str) -> String {
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        match (at, at + 1 == items.len() && !word.is_empty()) {
            (0, _) => {}
            (_, false) => text.push_str(", "),
            (_, true) => {
                text.push(' ');
                text.push_str(word);
                text.push(' ');
            }
        }
        text.push_str(item.as_ref());
    }
    text
}
