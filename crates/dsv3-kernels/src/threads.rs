//! Which core runs which thread.

use std::sync::OnceLock;

use core_affinity::CoreId;

static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();

/// Keep the kernels' threads on a core each, from now on; this thread gets the first. Call it once,
/// before any operation and before other threads start, since they inherit this thread's core: those
/// of a pool of your own should call [`pin_this_thread`].
///
/// For machines that do nothing else: what shares a core with a pinned thread makes all wait for it.
/// Returns how many cores the system lets this process use; 0 where it doesn't say, and nothing is
/// pinned then.
pub fn pin_threads() -> usize {
    let cores = CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default());
    pin_this_thread(0);
    cores.len()
}

/// Keep this thread on the core with this number among those that the process may use, counted round
/// and round. Does nothing unless [`pin_threads`] was called before.
pub fn pin_this_thread(number: usize) {
    let cores = CORES.get().map_or(&[][..], Vec::as_slice);
    if let Some(core) = number.checked_rem(cores.len()).and_then(|at| cores.get(at)) {
        // Where the system refuses, the thread runs where it may, as without pinning.
        core_affinity::set_for_current(*core);
    }
}
