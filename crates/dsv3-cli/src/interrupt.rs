//! Ctrl-C as a flag that long work looks at.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static PRESSED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

/// From now on Ctrl-C sets the flag. Pressed a second time before anybody looked, it ends the
/// process.
pub(crate) fn watch() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if PRESSED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
    })?;
    Ok(())
}

/// Whether it was pressed.
pub(crate) fn pressed() -> bool {
    PRESSED.load(Ordering::SeqCst)
}

/// Forget that it was pressed.
pub(crate) fn clear() {
    PRESSED.store(false, Ordering::SeqCst);
}

/// Break off if it was pressed.
pub(crate) fn check() -> ControlFlow<()> {
    match pressed() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}
