//! Text and ids from arguments, files and stdin.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, anyhow};

/// More text than any context holds.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// All of stdin as text.
pub(crate) fn stdin_text(what: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        eprintln!("reading {what} from the terminal; end it with Ctrl-D");
    }
    text(stdin.lock(), "stdin")
}

/// A whole file as text; `-` is stdin.
pub(crate) fn file_text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return stdin_text("text");
    }
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    text(file, &name)
}

fn text(from: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(anyhow!(
            "{name} holds more than {MAX_TEXT_BYTES} bytes; cut it into pieces"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!(
            "{name} is not UTF-8 text: the bytes from offset {at} on are no character. Convert it \
             to UTF-8 first"
        )
    })
}

/// A prompt without the newline that editors and `echo` put at the end.
pub(crate) fn without_final_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Token ids of one argument.
#[derive(Debug, Clone)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

/// Reads `1,2,3`, `1 2 3` or `[1, 2, 3]`.
pub(crate) fn parse_ids(text: &str) -> Result<Ids, String> {
    let trimmed = text.trim();
    let inner = match (trimmed.strip_prefix('['), trimmed.strip_suffix(']')) {
        (None, None) => trimmed,
        (Some(_), Some(_)) => trimmed.get(1..trimmed.len() - 1).unwrap_or_default(),
        _ => return Err("a list that begins with [ must end with ]".into()),
    };
    let words = inner.split(|c: char| c == ',' || c.is_whitespace());
    let ids: Result<Vec<u32>, String> = words
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().map_err(|_| {
                let shown: String = word.chars().take(40).collect();
                format!("{shown:?} is no token id; ids are whole numbers from 0 up")
            })
        })
        .collect();
    Ok(Ids(ids?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a way of writing ids that is refused, or nonsense that is taken.
    #[test]
    fn ids_in_every_spelling() {
        for text in ["1,2,3", "1 2 3", "[1, 2, 3]", " 1,\n2\t3 "] {
            assert_eq!(parse_ids(text).unwrap().0, [1, 2, 3], "{text}");
        }
        assert!(parse_ids("").unwrap().0.is_empty());
        for text in ["1,x", "-1", "4294967296", "[1", "1.0", "[", "]"] {
            assert!(parse_ids(text).is_err(), "{text}");
        }
    }

    /// Breaks with: more than one newline taken away.
    #[test]
    fn only_one_final_newline_goes() {
        assert_eq!(without_final_newline("a\n\n".into()), "a\n");
        assert_eq!(without_final_newline("a\r\n".into()), "a");
        assert_eq!(without_final_newline("a".into()), "a");
    }
}
