//! An answer on a terminal: reasoning dim, and folded to one line when it is done.

use std::time::Instant;

use dsv3_engine::{Completion, EngineEvent};
use dsv3_tokenizer::Event;

use super::turn::{Display, Ran, Report, Search};
use crate::answer::{shown_call, shown_unfinished};
use crate::error::one_line;
use crate::output::{bold, dim, say};

/// Shows the answers of one turn.
pub(super) struct View {
    keep_thoughts: bool,
    lines: Lines,
    /// Columns and rows of the screen: what has scrolled out of it can't be taken back.
    size: (usize, usize),
    thoughts: usize,
    thinking_since: Option<Instant>,
    /// A line of the answer is begun.
    in_answer: bool,
}

impl View {
    /// A view on a screen of so many columns and rows.
    pub(super) fn new(keep_thoughts: bool, size: Option<(usize, usize)>) -> Self {
        // A terminal that doesn't say how large it is gets the size of the oldest ones.
        let size = size.unwrap_or((80, 24));
        View {
            keep_thoughts,
            lines: Lines::new(size.0),
            size,
            thoughts: 0,
            thinking_since: None,
            in_answer: false,
        }
    }

    /// Reasoning is over, or pauses for a search: put one line in its place.
    fn fold(&mut self, pauses: bool) -> anyhow::Result<()> {
        let Some(since) = self.thinking_since.take() else {
            return Ok(());
        };
        let rows = std::mem::replace(&mut self.lines, Lines::new(self.size.0)).rows;
        let thoughts = std::mem::take(&mut self.thoughts);
        if self.keep_thoughts && pauses {
            return say("\n");
        }
        let seconds = since.elapsed().as_secs_f64();
        let note = dim(&format!("thought for {thoughts} tokens ({seconds:.1} s)"));
        if self.keep_thoughts {
            return say(&format!("\n{note}\n"));
        }
        let up = match rows.min(self.size.1.saturating_sub(1)) {
            0 => String::new(),
            up => format!("\x1b[{up}A"),
        };
        // To the first line of the reasoning, and away with all from there.
        say(&format!("\r{up}\x1b[J{note}\n"))
    }

    /// End a line that the answer has begun.
    fn end_line(&mut self) -> anyhow::Result<()> {
        match std::mem::take(&mut self.in_answer) {
            true => say("\n"),
            false => Ok(()),
        }
    }

    /// Say which pages an answer cites, and what else there is to say.
    pub(super) fn finish(&mut self, report: &Report) -> anyhow::Result<()> {
        for (number, title) in report.sources() {
            let title = title.map_or("there is no such page".to_owned(), one_line);
            say(&dim(&format!("[{number}] {title}\n")))?;
        }
        if let Some(note) = report.note() {
            eprintln!("[{note}]");
        }
        Ok(())
    }
}

impl Display for View {
    fn event(&mut self, event: &EngineEvent) -> anyhow::Result<()> {
        let EngineEvent::Parsed(event) = event else {
            return Ok(());
        };
        match event {
            Event::Reasoning(text) => {
                self.end_line()?;
                self.thinking_since.get_or_insert_with(Instant::now);
                self.thoughts += 1;
                say(&dim(&self.lines.push(text)))
            }
            Event::Text(text) => {
                self.fold(false)?;
                self.in_answer = true;
                say(text)
            }
            // Parts of an answer end where a query waits for its results.
            Event::SearchQuery(_) => self.fold(true),
            _ => self.fold(false),
        }
    }

    fn searched(&mut self, search: &Search) -> anyhow::Result<()> {
        self.end_line()?;
        say(&format!(
            "{}\n",
            bold(&format!("search: {}", one_line(&search.query)))
        ))?;
        if search.pages.is_empty() {
            return say("  nothing found\n");
        }
        for (number, title) in &search.pages {
            say(&format!("  [{number}] {}\n", one_line(title)))?;
        }
        Ok(())
    }

    fn ended(&mut self, completion: &Completion, _run: bool) -> anyhow::Result<()> {
        self.fold(false)?;
        self.end_line()?;
        let Some(parsed) = &completion.parsed else {
            return Ok(());
        };
        for call in &parsed.tool_calls {
            say(&(bold(&one_line(&shown_call(call))) + "\n"))?;
        }
        for unfinished in &parsed.unfinished {
            eprintln!("[{}]", shown_unfinished(unfinished));
        }
        Ok(())
    }

    fn ran(&mut self, ran: &Ran) -> anyhow::Result<()> {
        let name = one_line(&ran.call.name);
        say(&format!("  {name}: {}\n", one_line(&ran.output)))
    }
}

/// Breaks text into lines itself, so that it knows how many there are.
struct Lines {
    /// Characters of a line; a margin for those that are two columns wide.
    width: usize,
    column: usize,
    /// Line breaks so far.
    rows: usize,
}

impl Lines {
    fn new(width: usize) -> Self {
        Lines {
            width: width.max(2) - 1,
            column: 0,
            rows: 0,
        }
    }

    /// The text with line breaks where the lines are full.
    fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 2);
        for c in text.chars() {
            // Beyond the Latin, Greek and Cyrillic scripts a character may take two columns.
            let columns = if c < '\u{1100}' { 1 } else { 2 };
            if c == '\n' || self.column + columns > self.width {
                out.push('\n');
                self.rows += 1;
                self.column = 0;
            }
            // A control character could move the cursor away from where it is counted.
            if c != '\n' && !c.is_control() {
                out.push(c);
                self.column += columns;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: rows counted wrong, so that folding eats lines above or leaves some.
    #[test]
    fn rows_are_counted_as_they_are_written() {
        let mut lines = Lines::new(6);
        let text = [
            lines.push("abc"),
            lines.push("defg\nh"),
            lines.push("你好吗"),
        ]
        .concat();
        assert_eq!(text, "abcde\nfg\nh你好\n吗");
        assert_eq!(lines.rows, text.matches('\n').count());
    }
}
