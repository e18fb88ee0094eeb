//! `dsv3 chat`

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use dsv3_engine::{Engine, EngineEvent, FinishReason, Request};
use dsv3_sampling::SamplingParams;
use dsv3_tokenizer::{
    AssistantMessage, Conversation, Event, Message, Parsed, RenderOptions, Tool, render,
};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::generate::one_shot;
use crate::cli::{ChatArgs, Global};
use crate::output::{Usage, read_stdin, read_text, say};
use crate::{interrupt, model};

const HELP: &str = "\
/think  /nothink   let the model reason first, or not
/thoughts          show reasoning as it comes, or as one line
/system TEXT       instructions for the model; without TEXT none
/tools FILE        tools that it may call (JSON list); without FILE none
/result TEXT       the result of its tool call
/save FILE         write the conversation (OpenAI's message format)
/load FILE         read one
/clear             begin anew
/quit              or Ctrl-D
A line that ends in \\ goes on; three quotes begin and end a text of several lines.
Ctrl-C stops the answer, not the program.
";

/// Talk, or answer once where nobody is there to talk.
pub(crate) fn run(global: &Global, args: ChatArgs) -> anyhow::Result<ExitCode> {
    let params = args.sampling.params(model::folder(global)?)?;
    let tools = match &args.tools {
        Some(path) => read_tools(path)?,
        None => Vec::new(),
    };
    let (mut engine, load_s) = model::engine(global, &args.load)?;
    if engine.tokenizer().is_none() {
        let text = "this checkpoint has no tokenizer.json, and a conversation is text; \
            `dsv3 generate --input-ids` works without one";
        return Err(Usage(text.into()).into());
    }
    let mut chat = Chat {
        system: args.system,
        messages: Vec::new(),
        tools,
        thinking: args.think,
        show_thoughts: true,
        params,
        stop: args.sampling.stop(),
    };
    if args.prompt.is_some() || !std::io::stdin().is_terminal() {
        let text = match args.prompt {
            Some(text) => text,
            None => read_stdin()?,
        };
        chat.messages.push(Message::user(text));
        let request = chat.request()?;
        return one_shot(global, &mut engine, request, load_s);
    }
    interrupt::watch()?;
    converse(&mut engine, &mut chat, args.history)?;
    Ok(ExitCode::SUCCESS)
}

fn read_tools(path: &Path) -> anyhow::Result<Vec<Tool>> {
    Tool::list_from_json(&read_text(path)?).with_context(|| path.display().to_string())
}

/// A conversation and how it is led.
struct Chat {
    system: Option<String>,
    messages: Vec<Message>,
    tools: Vec<Tool>,
    thinking: bool,
    show_thoughts: bool,
    params: SamplingParams,
    stop: dsv3_engine::StopConditions,
}

/// What a typed line asks for.
enum Next {
    Answer,
    Ask,
    Quit,
}

impl Chat {
    /// The conversation with its instructions.
    fn all(&self) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain(self.messages.iter().cloned()).collect()
    }

    fn request(&self) -> anyhow::Result<Request> {
        let options = RenderOptions::to_generate(self.thinking);
        let prompt = render(&self.all(), &self.tools, &options)?;
        let mut request = Request::new(prompt, self.params.clone());
        request.stop = self.stop.clone();
        Ok(request)
    }

    /// Take a typed line.
    fn line(&mut self, line: &str) -> anyhow::Result<Next> {
        let Some(command) = line.strip_prefix('/') else {
            self.messages.push(Message::user(line));
            return Ok(Next::Answer);
        };
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = rest.trim();
        let path = PathBuf::from(rest);
        match (name, rest.is_empty()) {
            ("think" | "nothink", _) => {
                self.thinking = name == "think";
                eprintln!("[{name}]");
            }
            ("thoughts", _) => {
                self.show_thoughts = !self.show_thoughts;
                let how = if self.show_thoughts {
                    "as they come"
                } else {
                    "as one line"
                };
                eprintln!("[thoughts are shown {how}]");
            }
            ("system", empty) => {
                self.system = (!empty).then(|| rest.to_owned());
                eprintln!(
                    "[{}]",
                    if empty {
                        "no instructions"
                    } else {
                        "instructions set"
                    }
                );
            }
            ("tools", empty) => {
                self.tools = match empty {
                    true => Vec::new(),
                    false => read_tools(&path)?,
                };
                eprintln!("[{} tools]", self.tools.len());
            }
            ("result", _) => {
                self.messages.push(Message::tool(rest));
                return Ok(Next::Answer);
            }
            ("save", false) => {
                let text = serde_json::to_string_pretty(&self.all())? + "\n";
                let temporary = path.with_extension("tmp");
                std::fs::write(&temporary, text)
                    .and_then(|()| std::fs::rename(&temporary, &path))
                    .with_context(|| format!("{rest} can't be written"))?;
                eprintln!("[{} messages written]", self.all().len());
            }
            ("load", false) => {
                let conversation =
                    Conversation::from_json(&read_text(&path)?).with_context(|| rest.to_owned())?;
                self.system = None;
                self.messages = conversation.messages;
                eprintln!("[{} messages read]", self.messages.len());
            }
            ("clear", _) => {
                self.messages.clear();
                eprintln!("[begun anew]");
            }
            ("help", _) => say(HELP)?,
            ("quit" | "exit", _) => return Ok(Next::Quit),
            ("save" | "load", true) => eprintln!("/{name} needs a file's name"),
            _ => eprintln!("/{name} is no command; /help lists them"),
        }
        Ok(Next::Ask)
    }

    /// Let the model answer and keep what it said.
    fn answer(&mut self, engine: &mut Engine) -> anyhow::Result<()> {
        interrupt::clear();
        let mut view = View::new(self.show_thoughts);
        let mut failed = None;
        let completion = engine.stream(self.request()?, &mut |event| {
            if let EngineEvent::Parsed(event) = event
                && let Err(error) = view.event(event)
            {
                failed = Some(error);
                return std::ops::ControlFlow::Break(());
            }
            interrupt::check()
        })?;
        interrupt::clear();
        if let Some(error) = failed {
            return Err(error);
        }
        say("\n")?;
        match &completion.finish_reason {
            FinishReason::Length => eprintln!("[the limit of tokens is reached]"),
            FinishReason::Cancelled => eprintln!("[stopped]"),
            FinishReason::Error(why) => eprintln!("[the answer broke off: {why}]"),
            _ => {}
        }
        let usage = completion.usage;
        tracing::info!(
            prompt_tokens = usage.prompt_tokens,
            cached_tokens = usage.cached_tokens,
            tokens = usage.completion_tokens
        );
        self.keep(completion.parsed.unwrap_or_default());
        Ok(())
    }

    fn keep(&mut self, parsed: Parsed) {
        let turn = AssistantMessage {
            content: Some(parsed.content),
            reasoning_content: parsed.reasoning_content,
            tool_calls: parsed.tool_calls,
            ..AssistantMessage::default()
        };
        if !turn.tool_calls.is_empty() {
            eprintln!("[give the tool's result with /result TEXT]");
        }
        self.messages.push(Message::Assistant(turn));
    }
}

/// An answer on a terminal: reasoning dim, or as one line that counts.
struct View {
    show_thoughts: bool,
    thoughts: usize,
    started: Instant,
    thinking: bool,
}

impl View {
    fn new(show_thoughts: bool) -> Self {
        View {
            show_thoughts,
            thoughts: 0,
            started: Instant::now(),
            thinking: false,
        }
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        if let Event::Reasoning(text) = event {
            self.thinking = true;
            self.thoughts += 1;
            if self.show_thoughts {
                return say(&format!("\x1b[2m{text}\x1b[0m"));
            }
            let (pieces, seconds) = (self.thoughts, self.started.elapsed().as_secs());
            return say(&format!(
                "\r\x1b[2mthinking: {pieces} tokens, {seconds} s\x1b[0m"
            ));
        }
        if std::mem::take(&mut self.thinking) {
            let seconds = self.started.elapsed().as_secs_f64();
            let line = match self.show_thoughts {
                true => format!(
                    "\n\x1b[2m({} tokens of thought, {seconds:.1} s)\x1b[0m\n",
                    self.thoughts
                ),
                false => format!(
                    "\r\x1b[K\x1b[2mthought for {} tokens, {seconds:.1} s\x1b[0m\n",
                    self.thoughts
                ),
            };
            say(&line)?;
        }
        match event {
            Event::Text(text) => say(text),
            Event::ToolCallBegin { name, .. } => {
                say(&format!("\n\x1b[1m[tool call] {name}\x1b[0m "))
            }
            Event::ToolCallArguments { fragment, .. } => say(fragment),
            Event::UnfinishedToolCall { .. } => say(" [cut off]"),
            Event::SearchQuery(query) => say(&format!("\n\x1b[1m[search]\x1b[0m {query}\n")),
            _ => Ok(()),
        }
    }
}

/// One input of the user, which may span lines.
fn read(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut text = editor.readline("> ")?;
    if let Some(rest) = text.strip_prefix("\"\"\"") {
        let mut lines = vec![rest.to_owned()];
        loop {
            let line = editor.readline("… ")?;
            if let Some(last) = line.strip_suffix("\"\"\"") {
                lines.push(last.to_owned());
                return Ok(lines.join("\n").trim().to_owned());
            }
            lines.push(line);
        }
    }
    while let Some(begun) = text.strip_suffix('\\') {
        text = format!("{begun}\n{}", editor.readline("… ")?);
    }
    Ok(text.trim().to_owned())
}

fn history_file(given: Option<PathBuf>) -> Option<PathBuf> {
    given.or_else(|| {
        let folder = std::env::home_dir()?.join(".local/share/dsv3");
        std::fs::create_dir_all(&folder).ok()?;
        Some(folder.join("history"))
    })
}

fn converse(engine: &mut Engine, chat: &mut Chat, history: Option<PathBuf>) -> anyhow::Result<()> {
    let mut editor = DefaultEditor::new()?;
    let history = history_file(history);
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    let mut stderr = std::io::stderr();
    writeln!(stderr, "/help lists the commands, Ctrl-D ends")?;
    loop {
        let text = match read(&mut editor) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => {
                writeln!(stderr, "(Ctrl-D or /quit ends)")?;
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        if text.is_empty() {
            continue;
        }
        editor.add_history_entry(&text)?;
        match chat.line(&text) {
            Ok(Next::Quit) => break,
            Ok(Next::Ask) => {}
            // A turn that can't be rendered or run is taken back: the conversation goes on.
            Ok(Next::Answer) => {
                let before = chat.messages.len();
                if let Err(error) = chat.answer(engine) {
                    writeln!(stderr, "error: {}", crate::output::paragraph(&error))?;
                    chat.messages.truncate(before.saturating_sub(1));
                }
            }
            Err(error) => writeln!(stderr, "error: {}", crate::output::paragraph(&error))?,
        }
    }
    if let Some(file) = &history {
        editor
            .save_history(file)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    Ok(())
}
