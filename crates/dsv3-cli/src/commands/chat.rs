//! `dsv3 chat`

mod session;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use dsv3_engine::{Engine, FinishReason, Request, StopConditions};
use dsv3_sampling::SamplingParams;
use dsv3_tokenizer::{Message, RenderOptions, render};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use self::session::{Next, Session};
use self::view::View;
use super::generate::one_shot;
use crate::cli::{ChatArgs, Global};
use crate::error::{paragraph, usage};
use crate::input::{stdin_text, without_final_newline};
use crate::{answer, interrupt, model};

/// Tokens of a conversation if nothing else is said.
const CONTEXT: usize = 8192;

/// How the model answers.
struct Answers {
    params: SamplingParams,
    stop: StopConditions,
}

/// Talk, or answer once where nobody is there to talk.
pub(crate) fn run(global: &Global, args: ChatArgs) -> anyhow::Result<ExitCode> {
    let opened = model::open(global)?;
    // A conversation is text: this command is the wrong one here.
    opened.tokenizer().map_err(|e| {
        usage(format!(
            "{e}; `dsv3 generate --input-ids` works without one"
        ))
    })?;
    let mut session = Session::new(args.system, args.think);
    if let Some(path) = &args.tools {
        session.tools = session::read_tools(path)?;
    }
    let answers = Answers {
        params: args.sampling.params(&opened.dir)?,
        stop: args.sampling.stop(usize::MAX), // the cache ends it
    };
    let once = match args.prompt {
        Some(text) => Some(text),
        None if std::io::stdin().is_terminal() => None,
        None => Some(without_final_newline(stdin_text("a message")?)),
    };
    let interactive = once.is_none();
    if let Some(text) = once {
        if text.is_empty() {
            return Err(usage("the message is empty: give some text"));
        }
        session.messages.push(Message::user(text));
        // What can't be rendered shows before the model is loaded.
        request(&session, &answers)?;
    } else if global.json {
        return Err(usage(
            "--json has no form for a conversation: give --prompt, or the message on stdin",
        ));
    }
    let (mut engine, load_s) = opened.load(global, &args.load, CONTEXT)?;
    interrupt::install()?;
    if interactive {
        converse(&mut engine, &mut session, &answers, args.history)?;
        return Ok(ExitCode::SUCCESS);
    }
    one_shot(global, &mut engine, request(&session, &answers)?, load_s)
}

fn request(session: &Session, answers: &Answers) -> anyhow::Result<Request> {
    let options = RenderOptions::to_generate(session.thinking);
    let prompt = render(&session.messages, &session.tools, &options)?;
    let mut request = Request::new(prompt, answers.params.clone());
    request.stop = answers.stop.clone();
    Ok(request)
}

/// Read, answer, and so on until the user has enough.
fn converse(
    engine: &mut Engine,
    session: &mut Session,
    answers: &Answers,
    history: Option<PathBuf>,
) -> anyhow::Result<()> {
    let mut editor = DefaultEditor::new().context("cannot read lines from this terminal")?;
    let history = history_file(history);
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    eprintln!("/help lists the commands, Ctrl-D ends");
    loop {
        let text = match read(&mut editor) {
            Ok(text) if text.is_empty() => continue,
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => {
                eprintln!("(Ctrl-D or /quit ends)");
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        editor.add_history_entry(&text)?;
        let before = session.messages.clone();
        match session.line(&text) {
            Ok(Next::Quit) => break,
            Ok(Next::Say(text)) => eprintln!("{text}"),
            Ok(Next::Answer) => {
                // A turn that can't be rendered or run is taken back: the conversation goes on.
                let size = editor.dimensions();
                let size = size.map(|(columns, rows)| (columns.into(), rows.into()));
                if let Err(error) = turn(engine, session, answers, size) {
                    eprintln!("error: {}", paragraph(&error));
                    session.messages = before;
                }
            }
            Err(error) => eprintln!("error: {}", paragraph(&error)),
        }
    }
    if let Some(file) = &history {
        editor
            .save_history(file)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Let the model answer and keep what it said; `size` is the screen's, in columns and rows.
fn turn(
    engine: &mut Engine,
    session: &mut Session,
    answers: &Answers,
    size: Option<(usize, usize)>,
) -> anyhow::Result<()> {
    let mut view = View::new(session.show_thoughts, size);
    let request = request(session, answers)?;
    let completion = answer::drive(engine, request, &mut |event| view.show(event))?;
    view.finish(&completion)?;
    match &completion.finish_reason {
        FinishReason::Length => {
            eprintln!("[the limit of tokens is reached: see --max-new-tokens and --context]")
        }
        FinishReason::Cancelled => eprintln!("[stopped]"),
        FinishReason::Error(why) => eprintln!("[the answer broke off: {why}]"),
        _ => {}
    }
    let usage = completion.usage;
    tracing::info!(
        prompt_tokens = usage.prompt_tokens,
        cached_tokens = usage.cached_tokens,
        tokens = usage.completion_tokens,
        "answered"
    );
    let parsed = completion.parsed.unwrap_or_default();
    if !parsed.tool_calls.is_empty() {
        eprintln!("[give each call's result, in order, with /result TEXT]");
    }
    session.keep(parsed);
    Ok(())
}

/// One input of the user, which may span lines.
fn read(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut input = session::Input::new(&editor.readline("> ")?);
    loop {
        match input.whole() {
            Some(text) => return Ok(text),
            None => input.push(&editor.readline("… ")?),
        }
    }
}

fn history_file(given: Option<PathBuf>) -> Option<PathBuf> {
    given.or_else(|| {
        let folder = std::env::home_dir()?.join(".local/share/dsv3");
        std::fs::create_dir_all(&folder).ok()?;
        Some(folder.join("history"))
    })
}
