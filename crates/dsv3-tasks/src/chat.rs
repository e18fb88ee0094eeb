//! Conversations as the segments of a turn.

use dsv3_tokenizer::{Message, RenderOptions, Segment, Special, Tool, render};

use crate::error::TasksError;
use crate::example::Mode;

/// The conversation up to where the model writes, generation marks included.
pub(crate) fn given(
    messages: &[Message],
    tools: &[Tool],
    mode: Mode,
) -> Result<Vec<Segment>, TasksError> {
    let options = RenderOptions::to_generate(mode == Mode::Think);
    Ok(render(messages, tools, &options)?.segments().to_vec())
}

/// What the model writes: reasoning and its end where there is any, the text, EOS.
pub(crate) fn answer(reasoning: Option<&str>, text: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    if let Some(reasoning) = reasoning {
        push_text(&mut segments, reasoning);
        segments.push(Segment::Special(Special::ThinkEnd));
    }
    push_text(&mut segments, text);
    segments.push(Segment::Special(Special::Eos));
    segments
}

/// Append text, if there is any.
pub(crate) fn push_text(segments: &mut Vec<Segment>, text: &str) {
    if !text.is_empty() {
        segments.push(Segment::Text(text.to_owned()));
    }
}
