//! `dsv3 generate`

use std::process::ExitCode;

use dsv3_engine::{Engine, Input, Request};
use dsv3_tokenizer::{Message, Prompt, RenderOptions, render};

use crate::answer::{self, Printer};
use crate::cli::{GenerateArgs, Global};
use crate::input::{file_text, stdin_text, without_final_newline};
use crate::model::{self, Opened};
use crate::output::say_json;
use crate::{error::usage, interrupt};

/// Tokens that are written if nothing else is said.
const MAX_NEW_TOKENS: usize = 512;

/// Write one answer.
pub(crate) fn run(global: &Global, args: GenerateArgs) -> anyhow::Result<ExitCode> {
    let opened = model::open(global)?;
    let params = args.sampling.params(&opened.dir)?;
    let (input, prompt_tokens) = input(&args, &opened)?;
    let mut request = Request::new(input, params);
    request.stop = args.sampling.stop(MAX_NEW_TOKENS);
    let tokens = prompt_tokens.saturating_add(request.stop.max_new_tokens);
    let (mut engine, load_s) = opened.load(global, &args.load, tokens)?;
    interrupt::install()?;
    one_shot(global, &mut engine, request, load_s)
}

/// What to go on from, in what form, and how many tokens it has.
fn input(args: &GenerateArgs, opened: &Opened) -> anyhow::Result<(Input, usize)> {
    if let Some(ids) = &args.input_ids {
        opened.check_ids(&ids.0)?;
        if !args.sampling.stop.is_empty() {
            opened.tokenizer()?;
        }
        return Ok((Input::Ids(ids.0.clone()), ids.0.len()));
    }
    let text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => without_final_newline(file_text(file)?),
        (None, None) => without_final_newline(stdin_text("the prompt")?),
    };
    if text.is_empty() {
        return Err(usage("the prompt is empty: give some text"));
    }
    let tokenizer = opened.tokenizer()?;
    let (input, ids) = match (args.raw, args.special) {
        // Encoded here, because an engine's plain text is not parsed for control tokens.
        (true, true) => {
            let ids = tokenizer.encode_raw_prompt(&text)?;
            (Input::Ids(ids.clone()), ids)
        }
        (true, false) => {
            let ids = Prompt::raw(&text).to_ids(tokenizer)?;
            (Input::Ids(ids.clone()), ids)
        }
        (false, _) => {
            let options = RenderOptions::to_generate(args.think);
            let prompt = render(&[Message::user(text)], &[], &options)?;
            let ids = prompt.to_ids(tokenizer)?;
            (Input::Chat(prompt), ids)
        }
    };
    opened.check_ids(&ids)?;
    Ok((input, ids.len()))
}

/// Generate, stream or collect, and say how it ended.
fn one_shot(
    global: &Global,
    engine: &mut Engine,
    request: Request,
    load_s: f64,
) -> anyhow::Result<ExitCode> {
    let mut printer = Printer::new(engine.tokenizer().is_none());
    let listening = interrupt::listen();
    let completion = answer::drive(
        engine,
        request,
        &listening,
        &mut |event| match global.json {
            true => Ok(()),
            false => printer.show(event),
        },
    )?;
    match global.json {
        true => say_json(&answer::to_json(&completion, load_s)?)?,
        false => printer.finish(&completion)?,
    }
    let usage = completion.usage;
    tracing::info!(
        prompt_tokens = usage.prompt_tokens,
        tokens = usage.completion_tokens,
        prefill_s = usage.prefill_s,
        decode_s = usage.decode_s,
        finish = completion.finish_reason.name(),
        "answered"
    );
    answer::exit_code(&completion)
}
