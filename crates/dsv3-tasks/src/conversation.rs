//! Several turns that make one example.

use dsv3_tokenizer::Message;

use crate::chat;
use crate::check::Check;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split, Turn};

/// What the user says, how the answer is found, the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exchange {
    /// What the user says.
    pub(crate) text: String,
    /// How the answer is found.
    pub(crate) reasoning: String,
    /// The whole answer.
    pub(crate) answer: String,
}

impl Exchange {
    /// From its three texts.
    pub(crate) fn new(
        text: impl Into<String>,
        reasoning: impl Into<String>,
        answer: impl Into<String>,
    ) -> Self {
        Exchange {
            text: text.into(),
            reasoning: reasoning.into(),
            answer: answer.into(),
        }
    }
}

/// A conversation, before the mode decides what of it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    /// Names the parameters.
    pub(crate) id: String,
    /// A system message.
    pub(crate) system: Option<String>,
    /// The turns; the last one is what it is about.
    pub(crate) exchanges: Vec<Exchange>,
}

impl Conversation {
    /// Without thinking every answer is a turn of the example. With thinking only the last one
    /// is: the format drops the reasoning of turns that are past, so that what was written there
    /// is not what the next turn stands behind.
    pub(crate) fn into_example(self, kind: Kind, mode: Mode) -> Result<Example, TasksError> {
        let mut messages: Vec<Message> = self.system.map(Message::System).into_iter().collect();
        let mut turns = Vec::with_capacity(self.exchanges.len());
        let mut there = 0;
        let last = self.exchanges.len().saturating_sub(1);
        for (at, exchange) in self.exchanges.into_iter().enumerate() {
            messages.push(Message::User(exchange.text));
            if mode != Mode::Think || at == last {
                let given = chat::given(&messages, &[], mode)?.split_off(there);
                let reasoning = (mode == Mode::Think).then_some(exchange.reasoning.as_str());
                let answer = chat::answer(reasoning, &exchange.answer);
                there += given.len() + answer.len();
                turns.push(Turn {
                    given,
                    answer,
                    check: Check::Exact {
                        answer: exchange.answer.clone(),
                    },
                });
            }
            messages.push(Message::assistant(exchange.answer));
        }
        Ok(Example {
            split: Split::of(&self.id),
            id: self.id,
            kind,
            mode,
            turns,
        })
    }
}

#[cfg(test)]
mod tests {
    use dsv3_tokenizer::{RenderOptions, render};

    use super::*;
    use crate::example::spell;

    /// Breaks with: a turn that begins a segment too early or too late, or a history that is not
    /// written as the format writes it.
    #[test]
    fn turns_make_the_sequence_that_the_format_renders() {
        let conversation = Conversation {
            id: "x".to_owned(),
            system: Some("Be brief.".to_owned()),
            exchanges: vec![
                Exchange::new("What is 1 + 1?", "1+1=2", "2"),
                Exchange::new("And 2 more?", "2+2=4", "4"),
                Exchange::new("Double it.", "4*2=8", "8"),
            ],
        };
        let mut messages = vec![Message::system("Be brief.")];
        for exchange in &conversation.exchanges {
            messages.push(Message::user(exchange.text.clone()));
            messages.push(Message::assistant(exchange.answer.clone()));
        }
        let whole = render(&messages, &[], &RenderOptions::default())
            .unwrap()
            .to_text();
        let example = conversation
            .clone()
            .into_example(Kind::MultiTurn, Mode::Nothink)
            .unwrap();
        let written: String = example
            .turns
            .iter()
            .map(|turn| spell(&turn.given) + &spell(&turn.answer))
            .collect();
        assert_eq!(example.turns.len(), 3);
        assert_eq!(written, whole);

        let example = conversation
            .into_example(Kind::MultiTurn, Mode::Think)
            .unwrap();
        let [turn] = example.turns.as_slice() else {
            panic!("one turn with thinking")
        };
        messages.pop();
        let given = render(&messages, &[], &RenderOptions::to_generate(true))
            .unwrap()
            .to_text();
        assert_eq!(spell(&turn.given), given);
        assert_eq!(spell(&turn.answer), "4*2=8</think>8<｜end▁of▁sentence｜>");
    }
}
