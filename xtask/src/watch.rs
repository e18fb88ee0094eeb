//! What a long writing of weights shows, and how it is stopped.

use std::cell::Cell;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use dsv3_weights::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar and an ear for Ctrl-C.
pub(crate) struct Watch {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    /// Whether it was said that the disk is too small.
    noted: Cell<bool>,
}

impl Watch {
    /// Listens from now on: Ctrl-C no longer ends the program by itself.
    pub(crate) fn new() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed))
            .context("cannot listen for Ctrl-C")?;
        let (bar, noted) = (bar(), Cell::new(false));
        Ok(Self { bar, stop, noted })
    }

    /// Shows how far it has come; breaks after Ctrl-C.
    pub(crate) fn show(&self, progress: &Progress<'_>) -> ControlFlow<()> {
        let bar = &self.bar;
        if bar.length() != Some(progress.bytes_total) {
            bar.set_length(progress.bytes_total);
            // What an earlier run did must not count towards this run's speed.
            bar.set_position(progress.bytes_done);
            bar.reset_eta();
        }
        bar.set_position(progress.bytes_done);
        bar.set_message(message(progress));
        if !self.noted.get()
            && let Some(note) = progress.shortage()
        {
            self.noted.set(true);
            bar.suspend(|| eprintln!("note: {note}"));
        }
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Which file and weight are in hand; the weight's name comes out of somebody's file.
fn message(progress: &Progress<'_>) -> String {
    let name = progress.shown_tensor();
    format!("file {}/{} {name}", progress.shard, progress.shards)
}

/// On standard error, and nothing at all where that is no terminal: a log has no use for a bar.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::no_length();
    let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a name out of a checkpoint that is printed as it is.
    #[test]
    fn a_name_that_clears_the_screen_is_escaped() {
        let message = message(&Progress {
            tensor: "\u{1b}[2J\u{1b}]0;owned\u{7}",
            tensors_done: 0,
            tensors_total: 1,
            bytes_done: 0,
            bytes_total: 1,
            shard: 2,
            shards: 3,
            bytes_short: 0,
        });
        assert!(!message.contains(char::is_control), "{message:?}");
        assert!(message.starts_with("file 2/3 ") && message.contains("owned"));
    }
}
