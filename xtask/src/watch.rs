//! What a long writing of weights shows, and how it is stopped.

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
}

impl Watch {
    /// Listens from now on: Ctrl-C no longer ends the program by itself.
    pub(crate) fn new() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed))
            .context("cannot listen for Ctrl-C")?;
        Ok(Self { bar: bar(), stop })
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
        bar.set_message(format!(
            "file {}/{} {}",
            progress.shard, progress.shards, progress.tensor
        ));
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
