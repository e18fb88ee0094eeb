//! One answer: driven step by step, shown as it comes, told as JSON at the end.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use dsv3_engine::{Completion, Engine, EngineEvent, FinishReason, ModelRunner, Request};
use dsv3_tokenizer::{Event, ToolCall, Unfinished};
use serde_json::{Value, json};

use crate::error::INTERRUPTED;
use crate::interrupt::Listening;
use crate::output;

/// Run a request to its end, or to Ctrl-C; `on_event` hears of everything. An error of its ends
/// the answer.
pub(crate) fn drive<R: ModelRunner>(
    engine: &mut Engine<R>,
    request: Request,
    listening: &Listening,
    on_event: &mut dyn FnMut(&EngineEvent) -> anyhow::Result<()>,
) -> anyhow::Result<Completion> {
    let id = engine.submit(request)?;
    let mut completion = Completion::default();
    while engine.has_work() {
        let events = match listening.pressed() {
            true => engine.cancel(id),
            false => engine.step(),
        };
        for (_, event) in &events {
            completion.apply(event);
            if let Err(error) = on_event(event) {
                engine.cancel(id);
                return Err(error);
            }
        }
    }
    Ok(completion)
}

/// Shows an answer as plain text: the answer itself on stdout, reasoning on stderr.
#[derive(Debug)]
pub(crate) struct Printer {
    as_ids: bool,
    wrote_id: bool,
    reasoning: bool,
}

impl Printer {
    /// `as_ids`: there is no tokenizer, so print ids.
    pub(crate) fn new(as_ids: bool) -> Self {
        Printer {
            as_ids,
            wrote_id: false,
            reasoning: false,
        }
    }

    /// Show one event.
    pub(crate) fn show(&mut self, event: &EngineEvent) -> anyhow::Result<()> {
        match event {
            EngineEvent::Token { token, .. } if self.as_ids => {
                let space = if self.wrote_id { " " } else { "" };
                self.wrote_id = true;
                output::say(&format!("{space}{token}"))
            }
            EngineEvent::Token { text, .. } | EngineEvent::Finished { text, .. } => {
                output::say(text)
            }
            EngineEvent::Parsed(Event::Reasoning(text)) => {
                self.reasoning = true;
                to_stderr(text)
            }
            EngineEvent::Parsed(event) => {
                if std::mem::take(&mut self.reasoning) {
                    to_stderr("\n")?;
                }
                match event {
                    Event::Text(text) => output::say(text),
                    _ => Ok(()),
                }
            }
        }
    }

    /// End the text with a newline, and list what is no text: tool calls on stdout, what was cut
    /// off on stderr.
    pub(crate) fn finish(&self, completion: &Completion) -> anyhow::Result<()> {
        output::say("\n")?;
        let Some(parsed) = &completion.parsed else {
            return Ok(());
        };
        for call in &parsed.tool_calls {
            output::say(&format!("{}\n", shown_call(call)))?;
        }
        for unfinished in &parsed.unfinished {
            eprintln!("note: {}", shown_unfinished(unfinished));
        }
        Ok(())
    }

    /// Something happened between two answers, or two parts of one: a line for people.
    pub(crate) fn aside(&mut self, line: &str) -> anyhow::Result<()> {
        if std::mem::take(&mut self.reasoning) {
            to_stderr("\n")?;
        }
        to_stderr(&format!("{line}\n"))
    }
}

/// A tool call in one line.
pub(crate) fn shown_call(call: &ToolCall) -> String {
    format!("tool call: {}({})", call.name, call.arguments)
}

/// What was begun and not ended, in one line.
pub(crate) fn shown_unfinished(unfinished: &Unfinished) -> String {
    match unfinished {
        Unfinished::ToolCall {
            name, arguments, ..
        } => format!(
            "the answer ended inside a tool call: {name}({}",
            arguments.as_deref().unwrap_or_default()
        ),
        Unfinished::Search { query } => {
            format!("the answer ended inside a search query: {query}")
        }
    }
}

/// Reasoning is for people: dim where they look, and no reason to fail where nobody does.
fn to_stderr(text: &str) -> anyhow::Result<()> {
    let mut err = io::stderr().lock();
    let _ = match io::stderr().is_terminal() {
        true => write!(err, "{}", output::dim(text)),
        false => write!(err, "{text}"),
    };
    Ok(())
}

/// The object that `--json` prints.
pub(crate) fn to_json(completion: &Completion, load_s: f64) -> anyhow::Result<Value> {
    let parsed = completion.parsed.as_ref();
    let usage = &completion.usage;
    let text = parsed.map_or(&completion.text, |p| &p.content);
    let mut object = json!({
        "prompt_tokens": usage.prompt_tokens,
        "tokens": completion.tokens,
        "text": text,
        "finish_reason": completion.finish_reason.name(),
    });
    if let Some(reasoning) = parsed.and_then(|p| p.reasoning_content.as_ref()) {
        object["reasoning"] = json!(reasoning);
    }
    if let Some(calls) = parsed
        .map(|p| &p.tool_calls)
        .filter(|calls| !calls.is_empty())
    {
        object["tool_calls"] = serde_json::to_value(calls).context("cannot write JSON")?;
    }
    // The first token comes out of the prefill; the others are decoded.
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let decoded = usage.completion_tokens.saturating_sub(1);
    object["timings"] = json!({
        "load_s": load_s,
        "prefill_s": usage.prefill_s,
        "decode_s": usage.decode_s,
        "prefill_tok_s": rate(computed, usage.prefill_s),
        "decode_tok_s": rate(decoded, usage.decode_s),
    });
    Ok(object)
}

/// Tokens a second; 0 where nothing was measured.
fn rate(tokens: usize, seconds: f64) -> f64 {
    match seconds > 0.0 {
        true => tokens as f64 / seconds,
        false => 0.0,
    }
}

/// What the process ends with.
pub(crate) fn exit_code(completion: &Completion) -> anyhow::Result<ExitCode> {
    match &completion.finish_reason {
        FinishReason::Error(problem) => Err(anyhow!("the answer could not be finished: {problem}")),
        FinishReason::Cancelled => Ok(ExitCode::from(INTERRUPTED)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
