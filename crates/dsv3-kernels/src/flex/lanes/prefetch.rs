//! Asking memory for what will be read soon.

/// Bytes that memory gives at once.
pub(in crate::flex) const LINE: usize = 64;

/// Bring the cache line at `at` near. Any address will do: nothing happens where nothing lies.
///
/// The machine's own prefetching follows a stream within a page of 4 KiB, which is less than a row
/// of weights; this reaches over the ends of pages.
#[inline(always)]
#[allow(unsafe_code)]
pub(in crate::flex) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCHT0 is a hint. It accesses memory for no one: it changes no register and
        // no memory, and an address that can't be read raises no fault. It is part of SSE, which
        // every x86-64 processor has.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
