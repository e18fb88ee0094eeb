//! `dsv3 chat`

mod once;
mod session;
mod turn;
mod typed;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use dsv3_engine::Engine;
use dsv3_tokenizer::Message;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use self::session::{Next, Session};
use self::turn::{Answers, End};
use self::view::View;
use crate::cli::{ChatArgs, Global};
use crate::demo_tools::DemoTools;
use crate::error::{paragraph, usage};
use crate::input::{stdin_text, without_final_newline};
use crate::model::Opened;
use crate::search::Library;
use crate::{default_model, interrupt, model};

/// Tokens of a conversation if nothing else is said.
const CONTEXT: usize = 8192;

/// Things to say to the small model, one for each of what it can do.
const EXAMPLES: &str = "\
try: What is 47 + 38?  or: How much is tea in Northfield now?
     or, after /tools on: What is 47 * 83?";

/// Talk, or answer once where nobody is there to talk.
pub(crate) fn run(global: &Global, args: ChatArgs) -> anyhow::Result<ExitCode> {
    let opened = model::open(global)?;
    // A conversation is text: this command is the wrong one here.
    opened.tokenizer().map_err(|e| {
        usage(format!(
            "{e}; `dsv3 generate --input-ids` works without one"
        ))
    })?;
    let small = opened.is_small;
    let mut session = begin(&args, &opened)?;
    let params = args.sampling.params(&opened.dir)?;
    let mut answers = Answers {
        tools: DemoTools::new(params.seed.map_or(0, |seed| seed.0)),
        params,
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
        if session.tools_wait() {
            return Err(usage(
                "the model calls tools only when it answers at once: leave out --think, or the \
                 tools",
            ));
        }
        session.messages.push(Message::user(text));
        // What can't be rendered shows before the model is loaded.
        session.prompt()?;
    } else if global.json {
        return Err(usage(
            "--json has no form for a conversation: give --prompt, or the message on stdin",
        ));
    }
    let (mut engine, load_s) = opened.load(global, &args.load, CONTEXT)?;
    interrupt::install()?;
    if !interactive {
        return once::answer(global, &mut engine, &mut session, &mut answers, load_s);
    }
    eprintln!("{}", session.state());
    if small {
        eprintln!("{EXAMPLES}");
    }
    converse(&mut engine, &mut session, &mut answers, args.history)?;
    Ok(ExitCode::SUCCESS)
}

/// The conversation before its first line. The small model begins with all that it can do; any
/// other one as it was published, without reasoning.
fn begin(args: &ChatArgs, opened: &Opened) -> anyhow::Result<Session> {
    let small = opened.is_small;
    let tools = args.tools.is_some() || args.demo_tools;
    let thinking = args.think || (small && !args.nothink && !tools);
    let mut session = Session::new(args.system.clone(), thinking);
    if let Some(path) = &args.tools {
        session.set_tools(session::read_tools(path)?);
    }
    if args.demo_tools {
        session.use_demo_tools();
    }
    if small {
        // It thinks in a moment: folded, nobody would see it.
        session.show_thoughts = true;
        session.default_pages = default_model::pages(&opened.dir);
    }
    if let Some(path) = args.search.as_ref().or(session.default_pages.as_ref()) {
        session.search_in(Library::open(path)?);
    }
    Ok(session)
}

/// Read, answer, and so on until the user has enough.
fn converse(
    engine: &mut Engine,
    session: &mut Session,
    answers: &mut Answers,
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
                match answer(engine, session, answers, size) {
                    // An answer that is none would only be in the way of the next one.
                    Ok(End::NothingToSearch) => session.take_back_to(before),
                    Ok(_) => {}
                    Err(error) => {
                        eprintln!("error: {}", paragraph(&error));
                        session.take_back_to(before);
                    }
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
fn answer(
    engine: &mut Engine,
    session: &mut Session,
    answers: &mut Answers,
    size: Option<(usize, usize)>,
) -> anyhow::Result<End> {
    let mut view = View::new(session.show_thoughts, size);
    let listening = interrupt::listen();
    let report = turn::turn(engine, session, answers, &listening, &mut view)?;
    view.finish(&report)?;
    let usage = report.completion.usage;
    tracing::info!(
        prompt_tokens = usage.prompt_tokens,
        cached_tokens = usage.cached_tokens,
        tokens = usage.completion_tokens,
        "answered"
    );
    Ok(report.end)
}

/// One input of the user, which may span lines.
fn read(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut input = typed::Input::new(&editor.readline("> ")?);
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
