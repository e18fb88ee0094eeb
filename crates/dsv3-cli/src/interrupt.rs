//! Ctrl-C: once to stop the answer, where there is one; else, or again, to stop the program.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::error::INTERRUPTED;

static LISTENING: AtomicBool = AtomicBool::new(false);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Take Ctrl-C over. Until [`listen`] it still ends the program.
pub(crate) fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        let again = PRESSED.swap(true, Ordering::SeqCst);
        if again || !LISTENING.load(Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// While this lives, one Ctrl-C is only noted.
pub(crate) struct Listening(());

/// Begin to note Ctrl-C.
pub(crate) fn listen() -> Listening {
    PRESSED.store(false, Ordering::SeqCst);
    LISTENING.store(true, Ordering::SeqCst);
    Listening(())
}

impl Listening {
    /// For those who look at a flag instead of asking.
    pub(crate) fn flag(&self) -> &'static AtomicBool {
        &PRESSED
    }

    /// Whether it was pressed.
    pub(crate) fn pressed(&self) -> bool {
        PRESSED.load(Ordering::SeqCst)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.store(false, Ordering::SeqCst);
        PRESSED.store(false, Ordering::SeqCst);
    }
}
