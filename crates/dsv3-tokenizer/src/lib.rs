//! DeepSeek-V3.1's text side: text to ids and back, conversations to prompts, and what the model
//! wrote to reasoning, answer and tool calls.
//!
//! It deliberately knows nothing of tensors, logits, sampling or HTTP, and nothing of any
//! vocabulary but the names of V3.1's control tokens: their ids are looked up in the
//! `tokenizer.json` at hand.
//!
//! ```
//! use dsv3_tokenizer::{Message, Mode, OutputParser, FinishReason, Parsed};
//! use dsv3_tokenizer::{RenderOptions, Tokenizer, render};
//!
//! # fn main() -> dsv3_tokenizer::Result<()> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tokenizer/tokenizer.json");
//! let tokenizer = Tokenizer::from_file(path)?;
//!
//! // A conversation becomes ids. What the user typed stays text, whatever it looks like.
//! let messages = [Message::user("Is <｜Assistant｜> one token?")];
//! let prompt = render(&messages, &[], &RenderOptions::to_generate(true))?;
//! let ids = prompt.to_ids(&tokenizer)?;
//! let marks = ids.iter().filter(|&&id| id == tokenizer.special().assistant);
//! assert_eq!(marks.count(), 1);
//!
//! // The ids that the model answers with become events, one id at a time.
//! let answer = tokenizer.encode_with_special("Let me see.</think>Yes.<｜end▁of▁sentence｜>")?;
//! let mut parser = OutputParser::new(&tokenizer, prompt.mode());
//! let mut parsed = Parsed::default();
//! for id in answer {
//!     for event in parser.push(id)? {
//!         parsed.apply(&event);
//!     }
//! }
//! for event in parser.finish(FinishReason::Stop) {
//!     parsed.apply(&event);
//! }
//! assert_eq!(parsed.reasoning_content.as_deref(), Some("Let me see."));
//! assert_eq!(parsed.content, "Yes.");
//! # assert_eq!(prompt.mode(), Mode::Thinking);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod error;
mod event;
mod json;
mod message;
mod parser;
mod prompt;
mod render;
mod search;
mod special;
mod stream;
pub mod template;
mod tokenizer;
mod tool;
mod vocabulary;

pub use error::{Error, Result};
pub use event::{Event, FinishReason, Parsed, Unfinished};
pub use json::dumps;
pub use message::{
    AssistantMessage, Conversation, Message, ToolCall, ToolMessage, messages_from_value,
};
pub use parser::{OutputParser, parse_ids, parse_text};
pub use prompt::{Mode, Prompt, Segment};
pub use render::{RenderOptions, render};
pub use search::citations;
pub use special::{Special, SpecialTokens};
pub use stream::StreamDecoder;
pub use template::Template;
pub use tokenizer::Tokenizer;
pub use tool::Tool;

/// A token's number in the vocabulary.
pub type TokenId = u32;
