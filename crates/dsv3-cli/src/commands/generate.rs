//! `dsv3 generate`

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::bail;
use dsv3_engine::{Completion, Engine, EngineEvent, FinishReason, Input, Request};
use dsv3_tokenizer::{Event, Message, Mode, RenderOptions, render};
use serde_json::{Value, json};

use crate::cli::{GenerateArgs, Global};
use crate::output::{read_stdin, read_text, say, say_json};
use crate::{interrupt, model};

/// Write one answer.
pub(crate) fn run(global: &Global, args: GenerateArgs) -> anyhow::Result<ExitCode> {
    let params = args.sampling.params(model::folder(global)?)?;
    let input = input(&args)?;
    let (mut engine, load_s) = model::engine(global, &args.load)?;
    let mut request = Request::new(input, params);
    request.stop = args.sampling.stop();
    one_shot(global, &mut engine, request, load_s)
}

/// What to go on from, and in what form.
fn input(args: &GenerateArgs) -> anyhow::Result<Input> {
    if let Some(ids) = &args.input_ids {
        return Ok(Input::Ids(ids.clone()));
    }
    let text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => read_text(file)?,
        (None, None) => read_stdin()?,
    };
    if args.raw {
        return Ok(Input::Text(text));
    }
    let options = RenderOptions::to_generate(args.think);
    Ok(Input::Chat(render(&[Message::user(text)], &[], &options)?))
}

/// Generate, stream or collect, and say how it ended.
pub(crate) fn one_shot(
    global: &Global,
    engine: &mut Engine,
    request: Request,
    load_s: f64,
) -> anyhow::Result<ExitCode> {
    interrupt::watch()?;
    let mut printer = Printer::new(global, engine.tokenizer().is_none(), request.parse);
    let mut failed = None;
    let completion = engine.stream(request, &mut |event| {
        if let Err(error) = printer.event(event) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        interrupt::check()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    match global.json {
        true => say_json(&as_json(&completion, load_s))?,
        false => say("\n")?,
    }
    let usage = completion.usage;
    tracing::info!(
        prompt_tokens = usage.prompt_tokens,
        tokens = usage.completion_tokens,
        prefill_s = usage.prefill_s,
        decode_s = usage.decode_s,
        finish = completion.finish_reason.name(),
    );
    match completion.finish_reason {
        FinishReason::Error(why) => bail!("the answer broke off: {why}"),
        FinishReason::Cancelled => Ok(ExitCode::from(interrupt::EXIT_CODE)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Shows an answer as it comes.
struct Printer {
    quiet: bool,
    ids: bool,
    first: bool,
    dim: bool,
    reasoning: bool,
}

impl Printer {
    fn new(global: &Global, ids: bool, parse: Option<Mode>) -> Self {
        Printer {
            quiet: global.json,
            ids,
            first: true,
            dim: std::io::stderr().is_terminal(),
            reasoning: parse == Some(Mode::Thinking),
        }
    }

    fn event(&mut self, event: &EngineEvent) -> anyhow::Result<()> {
        if self.quiet {
            return Ok(());
        }
        match event {
            EngineEvent::Token { token, .. } if self.ids => {
                let space = if self.first { "" } else { " " };
                self.first = false;
                say(&format!("{space}{token}"))
            }
            EngineEvent::Token { text, .. } | EngineEvent::Finished { text, .. } => say(text),
            EngineEvent::Parsed(event) => self.parsed(event),
        }
    }

    fn parsed(&mut self, event: &Event) -> anyhow::Result<()> {
        if let Event::Reasoning(text) = event {
            let mut stderr = std::io::stderr();
            match self.dim {
                true => write!(stderr, "\x1b[2m{text}\x1b[0m")?,
                false => write!(stderr, "{text}")?,
            }
            return Ok(());
        }
        if self.reasoning {
            // the answer begins on a line of its own
            self.reasoning = false;
            eprintln!();
        }
        match event {
            Event::Text(text) => say(text),
            Event::ToolCallBegin { name, .. } => say(&format!("\n[tool call] {name} ")),
            Event::ToolCallArguments { fragment, .. } => say(fragment),
            Event::UnfinishedToolCall { .. } => say(" [cut off]"),
            Event::SearchQuery(query) => say(&format!("\n[search] {query}\n")),
            _ => Ok(()),
        }
    }
}

/// The object that `--json` prints.
fn as_json(completion: &Completion, load_s: f64) -> Value {
    let usage = completion.usage;
    let per_second = |tokens: usize, seconds: f64| match seconds > 0.0 {
        true => tokens as f64 / seconds,
        false => 0.0,
    };
    let computed = usage.prompt_tokens - usage.cached_tokens;
    let decoded = usage.completion_tokens.saturating_sub(1); // the first comes with the prefill
    let parsed = completion.parsed.as_ref();
    let mut value = json!({
        "prompt_tokens": usage.prompt_tokens,
        "tokens": completion.tokens,
        "text": parsed.map_or(&completion.text, |p| &p.content),
        "finish_reason": completion.finish_reason.name(),
        "timings": {
            "load_s": load_s,
            "prefill_s": usage.prefill_s,
            "decode_s": usage.decode_s,
            "prefill_tok_s": per_second(computed, usage.prefill_s),
            "decode_tok_s": per_second(decoded, usage.decode_s),
        },
    });
    if let Some(parsed) = parsed {
        if let Some(reasoning) = &parsed.reasoning_content {
            value["reasoning"] = json!(reasoning);
        }
        if !parsed.tool_calls.is_empty() {
            value["tool_calls"] = json!(parsed.tool_calls);
        }
    }
    value
}
