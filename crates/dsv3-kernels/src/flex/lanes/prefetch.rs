//! Asking memory for what will be read soon.

use super::Lanes;

/// Bytes that memory gives at once.
pub(in crate::flex) const LINE: usize = 64;

/// Where what memory was asked for is kept until it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flex) enum Cache {
    /// A core's first one, whose account of what has been asked for and is not there yet is short.
    First,
    /// A core's second one.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    Second,
}

/// Bring the cache line at `at` near. Any address will do: nothing happens where nothing lies.
///
/// The machine's own prefetching follows a stream within a page of 4 KiB, which is less than a row
/// of weights; this reaches over the ends of pages.
#[inline(always)]
#[allow(unsafe_code)]
pub(in crate::flex) fn prefetch<L: Lanes>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: PREFETCHT0 and PREFETCHT1 are hints. They access memory for no one: they change no
        // register and no memory, and an address that can't be read raises no fault. They are part
        // of SSE, which every x86-64 processor has.
        unsafe {
            match L::CACHE {
                Cache::First => _mm_prefetch::<_MM_HINT_T0>(at.cast()),
                Cache::Second => _mm_prefetch::<_MM_HINT_T1>(at.cast()),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
