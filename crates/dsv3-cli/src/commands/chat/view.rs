//! An answer on a terminal: reasoning dim, and folded to one line when it is done.

use std::time::Instant;

use dsv3_engine::{Completion, EngineEvent};
use dsv3_tokenizer::Event;

use crate::answer::{shown_call, shown_unfinished};
use crate::output::{bold, dim, say};

/// Shows one answer.
pub(super) struct View {
    keep_thoughts: bool,
    lines: Lines,
    /// Rows of the screen: what has scrolled out of it can't be taken back.
    height: usize,
    thoughts: usize,
    thinking_since: Option<Instant>,
}

impl View {
    /// A view on a screen of so many columns and rows.
    pub(super) fn new(keep_thoughts: bool, size: Option<(usize, usize)>) -> Self {
        // A terminal that doesn't say how large it is gets the size of the oldest ones.
        let (width, height) = size.unwrap_or((80, 24));
        View {
            keep_thoughts,
            lines: Lines::new(width),
            height,
            thoughts: 0,
            thinking_since: None,
        }
    }

    /// Show what happened.
    pub(super) fn show(&mut self, event: &EngineEvent) -> anyhow::Result<()> {
        let EngineEvent::Parsed(event) = event else {
            return Ok(());
        };
        match event {
            Event::Reasoning(text) => {
                self.thinking_since.get_or_insert_with(Instant::now);
                self.thoughts += 1;
                say(&dim(&self.lines.push(text)))
            }
            Event::Text(text) => {
                self.fold()?;
                say(text)
            }
            _ => self.fold(),
        }
    }

    /// Reasoning is over: put one line in its place.
    fn fold(&mut self) -> anyhow::Result<()> {
        let Some(since) = self.thinking_since.take() else {
            return Ok(());
        };
        let seconds = since.elapsed().as_secs_f64();
        let note = dim(&format!(
            "thought for {} tokens ({seconds:.1} s)",
            self.thoughts
        ));
        if self.keep_thoughts {
            return say(&format!("\n{note}\n"));
        }
        let up = self.lines.rows.min(self.height.saturating_sub(1));
        let up = match up {
            0 => String::new(),
            up => format!("\x1b[{up}A"),
        };
        // To the first line of the reasoning, and away with all from there.
        say(&format!("\r{up}\x1b[J{note}\n"))
    }

    /// End the answer's last line and show its tool calls.
    pub(super) fn finish(&mut self, completion: &Completion) -> anyhow::Result<()> {
        self.fold()?;
        say("\n")?;
        let Some(parsed) = &completion.parsed else {
            return Ok(());
        };
        for call in &parsed.tool_calls {
            say(&(bold(&shown_call(call)) + "\n"))?;
        }
        for unfinished in &parsed.unfinished {
            eprintln!("[{}]", shown_unfinished(unfinished));
        }
        Ok(())
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
