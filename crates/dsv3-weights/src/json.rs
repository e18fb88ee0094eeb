//! Reading JSON that may be hostile: bounded length, bounded depth.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::WeightsError;

/// No file of a checkpoint nests deeper than this; the published ones stay under 5.
pub(crate) const MAX_DEPTH: usize = 32;

/// Reads a whole small file, refusing one longer than `limit` before anything is allocated.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, WeightsError> {
    let metadata = std::fs::metadata(path).map_err(WeightsError::io("open", path))?;
    if !metadata.is_file() {
        return Err(WeightsError::NotAFile { path: path.into() });
    }
    let size = metadata.len();
    if size > limit {
        return Err(WeightsError::FileTooLarge {
            path: path.into(),
            size,
            limit,
        });
    }
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // The file may have grown since it was measured.
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(WeightsError::io("read", path))?;
    Ok(bytes)
}

/// Refuses brackets nested deeper than [`MAX_DEPTH`], before a recursive reader meets them.
///
/// It only counts brackets outside of strings; whether the text is JSON is for the reader to say.
pub(crate) fn check_depth(json: &[u8]) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The reader's message, kept short: it may quote the file at length.
pub(crate) fn problem(e: &serde_json::Error) -> String {
    let text = e.to_string();
    match text.char_indices().nth(300) {
        Some((cut, _)) => format!(
            "{}… (line {}, column {})",
            &text[..cut],
            e.line(),
            e.column()
        ),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Brackets in strings must not count, or a chat template in a config would be refused.
    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let mut nested = vec![b'['; MAX_DEPTH];
        assert!(check_depth(&nested).is_ok());
        nested.push(b'[');
        assert!(check_depth(&nested).is_err());
        let quoted = format!("\"{}\\\"{}\"", "[".repeat(100), "{".repeat(100));
        assert!(check_depth(quoted.as_bytes()).is_ok());
        assert!(check_depth("[]".repeat(100).as_bytes()).is_ok());
    }
}
