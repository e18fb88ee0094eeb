//! The conversation so far, and what typed lines do to it.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use dsv3_tokenizer::{AssistantMessage, Conversation, Message, Parsed, Tool};
use serde_json::json;

use crate::input::file_text;

const HELP: &str = "\
/think  /nothink   let the model reason first, or not
/thoughts          leave reasoning on the screen, or fold it to a line once it is done
/system TEXT       instructions for the model; without TEXT none
/tools FILE.json   tools that it may call (OpenAI's list); without FILE none
/result TEXT       the result of its tool call
/save FILE         write the conversation (OpenAI's message format)
/load FILE         read one
/clear             begin anew; instructions and tools stay
/quit              or Ctrl-D
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
    pub(super) tools: Vec<Tool>,
    pub(super) thinking: bool,
    /// Reasoning stays on the screen.
    pub(super) show_thoughts: bool,
    /// Tool calls of the last answer that have no result yet.
    open_calls: usize,
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
                "the model reasons first".to_owned()
            }
            ("nothink", _) => {
                self.thinking = false;
                "the model answers at once".to_owned()
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
            ("tools", true) => {
                self.tools.clear();
                "no tools".to_owned()
            }
            ("tools", false) => {
                self.tools = read_tools(Path::new(rest))?;
                self.tool_names()
            }
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
                self.tools = conversation.tools;
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

    fn result(&mut self, text: &str) -> anyhow::Result<Next> {
        if self.open_calls == 0 {
            return Err(anyhow!("/result answers a tool call, and none is open"));
        }
        self.messages.push(Message::tool(text));
        self.open_calls -= 1;
        Ok(match self.open_calls {
            0 => Next::Answer,
            left => Next::Say(format!("{left} more results are needed")),
        })
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

/// A text that is typed line by line.
pub(super) struct Input {
    text: String,
    quoted: bool,
    done: bool,
}

const QUOTES: &str = "\"\"\"";

impl Input {
    /// Begin with the first line.
    pub(super) fn new(line: &str) -> Self {
        let mut input = Input {
            text: String::new(),
            quoted: false,
            done: false,
        };
        match line.trim_start().strip_prefix(QUOTES) {
            Some(rest) => {
                input.quoted = true;
                input.add_quoted(rest);
            }
            None => input.add_plain(line),
        }
        input
    }

    /// Take the next line.
    pub(super) fn push(&mut self, line: &str) {
        self.text.push('\n');
        match self.quoted {
            true => self.add_quoted(line),
            false => self.add_plain(line),
        }
    }

    fn add_plain(&mut self, line: &str) {
        match line.strip_suffix('\\') {
            Some(begun) => self.text.push_str(begun),
            None => {
                self.text.push_str(line);
                self.done = true;
            }
        }
    }

    fn add_quoted(&mut self, line: &str) {
        match line.trim_end().strip_suffix(QUOTES) {
            Some(last) => {
                self.text.push_str(last);
                self.done = true;
            }
            None => self.text.push_str(line),
        }
    }

    /// The text, if that was all of it.
    pub(super) fn whole(&self) -> Option<String> {
        self.done.then(|| self.text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsv3_tokenizer::ToolCall;

    fn typed(lines: &[&str]) -> Option<String> {
        let mut input = Input::new(lines[0]);
        for line in &lines[1..] {
            assert_eq!(input.whole(), None, "ended before {line:?}");
            input.push(line);
        }
        input.whole()
    }

    /// Breaks with: a text that ends too soon, never, or with its marks in it.
    #[test]
    fn texts_of_several_lines() {
        assert_eq!(typed(&["one"]).unwrap(), "one");
        assert_eq!(typed(&["one\\", "two"]).unwrap(), "one\ntwo");
        assert_eq!(
            typed(&["\"\"\"a", "", "b\\", "c\"\"\""]).unwrap(),
            "a\n\nb\\\nc"
        );
        assert_eq!(typed(&["\"\"\"a\"\"\""]).unwrap(), "a");
        assert_eq!(typed(&["one\\"]), None);
    }

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
