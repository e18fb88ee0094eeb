//! The conversation so far, and what typed lines do to it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use dsv3_tokenizer::{
    AssistantMessage, Conversation, Message, Parsed, Prompt, RenderOptions, Tool, render,
};
use serde_json::json;

use crate::demo_tools::DemoTools;
use crate::input::file_text;
use crate::search::Library;

const HELP: &str = "\
/think  /nothink   let the model reason first, or not
/thoughts          leave reasoning on the screen, or fold it to a line once it is done
/system TEXT       instructions for the model; without TEXT none
/tools on          tools that run here: a calculator, a clock, a number at random
/tools FILE.json   tools of your own (OpenAI's list); /tools off takes all away
/result TEXT       the result of a call of your own tools
/search PATH       what the model may search in: a folder or file of pages; also on, off
/save FILE         write the conversation (OpenAI's message format)
/load FILE         read one
/clear             begin anew; instructions, tools and search stay
/quit              or Ctrl-D
DeepSeek-V3.1 calls tools when it answers at once, and searches while it
reasons: tools wait while /think is on.
A line that ends in \\ goes on; \"\"\" begins and ends a text of several lines.
Ctrl-C stops the answer, not the program.";

/// What a typed line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The model's turn.
    Answer,
    /// Something to tell the user.
    Say(String),
    Quit,
}

/// A conversation and how it is led.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) messages: Vec<Message>,
    tools: Vec<Tool>,
    /// The tools are [`DemoTools`].
    demo_tools: bool,
    pub(super) thinking: bool,
    /// Reasoning stays on the screen.
    pub(super) show_thoughts: bool,
    /// Tool calls of the last answer that have no result yet.
    open_calls: usize,
    pages: Option<Library>,
    searching: bool,
    /// What `/search on` opens where nothing was searched before.
    pub(super) default_pages: Option<PathBuf>,
}

/// A list of tools in a file.
pub(super) fn read_tools(path: &Path) -> anyhow::Result<Vec<Tool>> {
    Tool::list_from_json(&file_text(path)?).with_context(|| path.display().to_string())
}

impl Session {
    pub(super) fn new(system: Option<String>, thinking: bool) -> Self {
        Session {
            messages: system.into_iter().map(Message::system).collect(),
            thinking,
            ..Session::default()
        }
    }

    /// Take a typed line.
    pub(super) fn line(&mut self, line: &str) -> anyhow::Result<Next> {
        let Some(command) = line.strip_prefix('/') else {
            self.messages.push(Message::user(line));
            return Ok(Next::Answer);
        };
        let (name, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = rest.trim();
        let said = match (name, rest.is_empty()) {
            ("think", _) => {
                self.thinking = true;
                match self.tools.is_empty() {
                    true => "the model reasons first".to_owned(),
                    false => "the model reasons first; its tools wait for /nothink".to_owned(),
                }
            }
            ("nothink", _) => {
                self.thinking = false;
                match self.tools.is_empty() {
                    true => "the model answers at once".to_owned(),
                    false => format!("the model answers at once; {}", self.tool_names()),
                }
            }
            ("thoughts", _) => {
                self.show_thoughts = !self.show_thoughts;
                match self.show_thoughts {
                    true => "reasoning stays on the screen".to_owned(),
                    false => "reasoning is folded to a line".to_owned(),
                }
            }
            ("system", empty) => {
                self.messages.retain(|m| !matches!(m, Message::System(_)));
                if !empty {
                    self.messages.insert(0, Message::system(rest));
                }
                match empty {
                    true => "no instructions".to_owned(),
                    false => "instructions taken".to_owned(),
                }
            }
            ("tools", _) => self.tools_command(rest)?,
            ("search", _) => self.search_command(rest)?,
            ("result", _) => return self.result(rest),
            ("save", false) => {
                self.save(Path::new(rest))?;
                format!("saved to {rest}")
            }
            ("load", false) => {
                let conversation = Conversation::from_json(&file_text(Path::new(rest))?)
                    .with_context(|| rest.to_owned())?;
                self.open_calls = open_calls(&conversation.messages);
                self.messages = conversation.messages;
                self.set_tools(conversation.tools);
                format!("{} messages", self.messages.len())
            }
            ("clear", _) => {
                self.messages.retain(|m| matches!(m, Message::System(_)));
                self.open_calls = 0;
                "a new conversation".to_owned()
            }
            ("help", _) => HELP.to_owned(),
            ("quit" | "exit", _) => return Ok(Next::Quit),
            ("save" | "load", true) => return Err(anyhow!("/{name} needs a file's name")),
            _ => return Err(anyhow!("/{name} is no command; /help lists them")),
        };
        Ok(Next::Say(said))
    }

    fn tools_command(&mut self, rest: &str) -> anyhow::Result<String> {
        match rest {
            "" | "off" => {
                self.set_tools(Vec::new());
                return Ok("no tools".to_owned());
            }
            "on" => self.use_demo_tools(),
            file => self.set_tools(read_tools(Path::new(file))?),
        }
        let mut said = self.tool_names();
        if std::mem::take(&mut self.thinking) {
            said.push_str("\nthe model answers at once now: it calls tools only then");
        }
        Ok(said)
    }

    fn search_command(&mut self, rest: &str) -> anyhow::Result<String> {
        match rest {
            "" | "off" => self.searching = false,
            "on" if self.pages.is_some() => self.searching = true,
            "on" => {
                let pages = self.default_pages.clone().ok_or_else(|| {
                    anyhow!("/search on has nothing to search in: name it, /search PATH")
                })?;
                self.search_in(Library::open(&pages)?);
            }
            path => self.search_in(Library::open(Path::new(path))?),
        }
        Ok(match self.pages() {
            Some(library) => format!("search in {}", library.described()),
            None => "no search".to_owned(),
        })
    }

    /// Offer these tools, whose results somebody else gives.
    pub(super) fn set_tools(&mut self, tools: Vec<Tool>) {
        // A saved conversation with our own tools goes on with them.
        self.demo_tools = !tools.is_empty() && tools == DemoTools::described();
        self.tools = tools;
    }

    /// Offer the tools that are run here.
    pub(super) fn use_demo_tools(&mut self) {
        self.set_tools(DemoTools::described());
    }

    /// Let the model search in a library.
    pub(super) fn search_in(&mut self, library: Library) {
        self.pages = Some(library);
        self.searching = true;
    }

    /// What a search searches in.
    pub(super) fn pages(&self) -> Option<&Library> {
        self.pages.as_ref().filter(|_| self.searching)
    }

    /// Whether calls are run here.
    pub(super) fn runs_tools(&self) -> bool {
        self.demo_tools
    }

    /// Whether there are tools that the next answer can't call.
    pub(super) fn tools_wait(&self) -> bool {
        self.thinking && !self.tools.is_empty()
    }

    /// What the model goes on from. Tools are offered where it answers at once: V3.1 calls them
    /// only then (its model card, ToolCall).
    pub(super) fn prompt(&self) -> dsv3_tokenizer::Result<Prompt> {
        // Behind a result comes the answer to it, whatever was switched on meanwhile.
        let after_result = matches!(self.messages.last(), Some(Message::Tool(_)));
        let tools: &[Tool] = match self.thinking && !after_result {
            true => &[],
            false => &self.tools,
        };
        let options = RenderOptions::to_generate(self.thinking);
        render(&self.messages, tools, &options)
    }

    /// What is on and what is off, and how to change it.
    pub(super) fn state(&self) -> String {
        let (mut on, mut off) = (Vec::new(), Vec::new());
        match self.thinking {
            true => on.push("thinking (/nothink)".to_owned()),
            false => off.push("thinking (/think)".to_owned()),
        }
        match self.pages() {
            Some(library) => on.push(format!("search in {} (/search off)", library.described())),
            None => off.push("search (/search)".to_owned()),
        }
        match self.tools.is_empty() {
            true => off.push("tools (/tools on)".to_owned()),
            false if self.thinking => off.push("tools while it thinks (/nothink)".to_owned()),
            false => on.push(format!("{} (/tools off)", self.tool_names())),
        }
        let parts = [("on", on), ("off", off)].into_iter();
        let parts = parts.filter(|(_, what)| !what.is_empty());
        let parts = parts.map(|(word, what)| format!("{word}: {}", what.join(", ")));
        parts.collect::<Vec<_>>().join("\n")
    }

    fn result(&mut self, text: &str) -> anyhow::Result<Next> {
        if self.open_calls == 0 {
            return Err(anyhow!("/result answers a tool call, and none is open"));
        }
        self.tool_result(text);
        Ok(match self.open_calls {
            0 => Next::Answer,
            left => Next::Say(format!("{left} more results are needed")),
        })
    }

    /// Add the result of the next call that has none.
    pub(super) fn tool_result(&mut self, text: &str) {
        self.messages.push(Message::tool(text));
        self.open_calls = self.open_calls.saturating_sub(1);
    }

    /// Forget what came after these messages.
    pub(super) fn take_back_to(&mut self, messages: Vec<Message>) {
        self.open_calls = open_calls(&messages);
        self.messages = messages;
    }

    fn tool_names(&self) -> String {
        let names: Vec<&str> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
        format!("tools: {}", names.join(", "))
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let conversation = json!({ "messages": self.messages, "tools": self.tools });
        let text = serde_json::to_string_pretty(&conversation)? + "\n";
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".partial");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Add what the model said.
    pub(super) fn keep(&mut self, parsed: Parsed) {
        self.open_calls = parsed.tool_calls.len();
        self.messages.push(Message::Assistant(AssistantMessage {
            content: Some(parsed.content),
            reasoning_content: parsed.reasoning_content,
            tool_calls: parsed.tool_calls,
            ..AssistantMessage::default()
        }));
    }
}

/// Calls at the end of a conversation that have no result.
fn open_calls(messages: &[Message]) -> usize {
    let results = messages
        .iter()
        .rev()
        .take_while(|m| matches!(m, Message::Tool(_)))
        .count();
    match messages.iter().rev().nth(results) {
        Some(Message::Assistant(turn)) => turn.tool_calls.len().saturating_sub(results),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsv3_tokenizer::ToolCall;

    /// Breaks with: a command that does something else, or a typed text taken for one.
    #[test]
    fn commands_change_the_session() {
        let mut s = Session::new(Some("Be brief.".into()), false);
        s.line("/think").unwrap();
        assert!(s.thinking);
        s.line("/nothink").unwrap();
        assert!(!s.thinking);
        assert_eq!(s.line("hello").unwrap(), Next::Answer);
        assert_eq!(s.messages.len(), 2);
        s.line("/clear").unwrap();
        assert_eq!(s.messages, [Message::system("Be brief.")]);
        s.line("/system").unwrap();
        assert!(s.messages.is_empty());
        assert_eq!(s.line("/quit").unwrap(), Next::Quit);
        for wrong in ["/unknown", "/save", "/load /no/such/file", "/result 1"] {
            assert!(s.line(wrong).is_err(), "{wrong}");
        }
    }

    /// Breaks with: the model asked before it has all results, or never.
    #[test]
    fn every_call_waits_for_its_result() {
        let mut s = Session::default();
        let mut parsed = Parsed::default();
        parsed.tool_calls = vec![ToolCall::new("f", "{}"), ToolCall::new("g", "{}")];
        s.keep(parsed);
        assert!(matches!(s.line("/result 1").unwrap(), Next::Say(_)));
        assert_eq!(open_calls(&s.messages), 1);
        assert_eq!(s.line("/result 2").unwrap(), Next::Answer);
    }

    /// Breaks with: tools offered where the model may not call them, not offered where it may, or
    /// taken away between a call's result and its answer.
    #[test]
    fn tools_wait_while_it_thinks() {
        let mut s = Session::new(None, true);
        let offered = |s: &Session| s.prompt().unwrap().to_text().contains("## Tools");
        s.line("hello").unwrap();
        assert!(!offered(&s));
        let Next::Say(said) = s.line("/tools on").unwrap() else {
            panic!("no answer");
        };
        assert!(
            said.contains("create_number") && said.contains("at once"),
            "{said}"
        );
        assert!(offered(&s) && s.runs_tools() && !s.thinking);
        s.line("/think").unwrap();
        assert!(!offered(&s) && s.tools_wait());
        let mut parsed = Parsed::default();
        parsed.tool_calls = vec![ToolCall::new("create_number", "{}")];
        s.keep(parsed);
        s.tool_result("{}");
        assert!(offered(&s));
        s.line("/tools off").unwrap();
        assert!(!offered(&s) && !s.runs_tools());
        assert!(s.line("/tools no-such-file.json").is_err());
    }

    /// Breaks with: a search that can't be switched, or a folder that can't be searched taken.
    #[test]
    fn search_is_switched_and_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.md"), "A bus goes.").unwrap();
        let mut s = Session::default();
        assert!(s.line("/search on").is_err());
        assert!(
            s.state()
                .contains("off: thinking (/think), search (/search)")
        );
        s.default_pages = Some(dir.path().to_owned());
        s.line("/search on").unwrap();
        assert!(s.pages().is_some());
        assert!(s.state().contains("1 page) (/search off)"), "{}", s.state());
        s.line("/search off").unwrap();
        assert!(s.pages().is_none());
        s.line("/search on").unwrap();
        assert!(s.line("/search /no/such/folder").is_err());
        assert!(s.pages().is_some(), "a mistake took the pages away");
        s.line(&format!("/search {}", dir.path().join("a.md").display()))
            .unwrap();
        assert_eq!(s.pages().unwrap().find("bus", 3).len(), 1);
    }

    /// Breaks with: a conversation that comes back otherwise than it was saved.
    #[test]
    fn saved_and_loaded_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("talk.json");
        let mut s = Session::new(Some("x".into()), true);
        s.line("q").unwrap();
        let mut parsed = Parsed::default();
        parsed.content = "a".into();
        s.keep(parsed);
        s.line(&format!("/save {}", file.display())).unwrap();
        let mut other = Session::default();
        other.line(&format!("/load {}", file.display())).unwrap();
        assert_eq!(other.messages, s.messages);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
