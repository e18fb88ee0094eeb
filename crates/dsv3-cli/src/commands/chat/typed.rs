//! What is typed: a line, or a text of several lines.

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
}
