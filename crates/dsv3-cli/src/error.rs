//! How failure looks: one paragraph on stderr, and an exit code that says whose fault it was.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use dsv3_weights::WeightsError;

/// The command line, or a value on it, is wrong.
pub(crate) const USAGE: u8 = 2;
/// The command line was right and the work failed.
const FAILURE: u8 = 1;
/// What a shell reports for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// A mistake on the command line that clap can't see.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that ends with exit code 2.
pub(crate) fn usage(problem: impl Into<String>) -> anyhow::Error {
    Usage(problem.into()).into()
}

/// Print what clap has to say: help and version to stdout, refusals to stderr.
pub(crate) fn refused_arguments(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told when this can't be written.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
}

/// Print an error's whole chain as one paragraph and give the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS; // whoever read has read enough
    }
    eprintln!("error: {}", paragraph(error));
    ExitCode::from(if is_usage(error) { USAGE } else { FAILURE })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut sources = error.chain();
    sources.any(|source| match source.downcast_ref::<io::Error>() {
        Some(io) => io.kind() == io::ErrorKind::BrokenPipe,
        None => false,
    })
}

/// Whether the command line is what is wrong. Ids that the checkpoint lacks, or a prompt that is
/// too long for it, count as failures: another checkpoint would take them.
fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|source| {
        let option = matches!(
            source.downcast_ref::<WeightsError>(),
            Some(WeightsError::BadOption { .. } | WeightsError::MemorySize { .. })
        );
        option || source.is::<Usage>()
    })
}

/// The chain of causes in one line. A cause that is in the text before it is not said again.
pub(crate) fn paragraph(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for source in error.chain() {
        let part = source.to_string();
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    one_line(&text)
}

/// Line breaks become spaces; other control characters, which could come from a file's names and
/// move the terminal's cursor, are shown as escapes.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = String::with_capacity(text.len());
    for c in words.join(" ").chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// Set while a driver is tried out: its absence is a panic that the caller catches and words.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Run `f` without panics being announced.
pub(crate) fn without_announcing_panics<T>(f: impl FnOnce() -> T) -> T {
    QUIET.store(true, Ordering::SeqCst);
    let result = f();
    QUIET.store(false, Ordering::SeqCst);
    result
}

/// Word a bug as one paragraph.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        if QUIET.load(Ordering::SeqCst) {
            return;
        }
        let place = panic
            .location()
            .map_or_else(String::new, |l| format!(" at {l}"));
        let what = panic.payload_as_str().unwrap_or("no message");
        eprintln!(
            "error: internal error{place}: {}. This is a bug in dsv3 or a library: please report \
             it with the command that you ran.",
            one_line(what)
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    /// Breaks with: causes said twice, or an error that spreads over several lines or moves the
    /// cursor.
    #[test]
    fn a_chain_is_one_clean_line() {
        let io = io::Error::other("disk\nfell \x1b[2J out");
        let error = Err::<(), _>(io)
            .context("cannot write x: disk\nfell \x1b[2J out")
            .context("while saving")
            .unwrap_err();
        assert_eq!(
            paragraph(&error),
            "while saving: cannot write x: disk fell \\u{1b}[2J out"
        );
    }

    /// Breaks with: an exit code that blames the wrong side.
    #[test]
    fn usage_is_found_under_context() {
        assert!(is_usage(&usage("no").context("more")));
        assert!(!is_usage(&anyhow::anyhow!("a disk failed")));
    }
}
