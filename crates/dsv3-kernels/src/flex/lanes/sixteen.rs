//! Where sixteen rows of a weight lie.

use super::{LANES, LINE, Lanes, prefetch};

/// Sixteen rows, a lane for each, the same number of bytes apart. Where there are fewer, the last one
/// is taken again.
#[derive(Clone, Copy)]
pub(in crate::flex) struct Sixteen<'a> {
    bytes: &'a [u8],
    /// Where each begins, none in front of the one before it.
    at: [usize; LANES],
}

impl<'a> Sixteen<'a> {
    /// The first of `count` rows that lie `apart` bytes from one to the next.
    #[inline(always)]
    pub(in crate::flex) fn new(bytes: &'a [u8], apart: usize, count: usize) -> Self {
        let mut at = [0; LANES];
        let last = count.clamp(1, LANES) - 1;
        for (lane, at) in at.iter_mut().enumerate() {
            *at = lane.min(last) * apart;
        }
        assert!(at[LANES - 1] <= bytes.len());
        Sixteen { bytes, at }
    }

    /// A row and what lies behind it.
    #[inline(always)]
    pub(in crate::flex) fn row(&self, lane: usize) -> &'a [u8] {
        &self.bytes[self.at[lane]..]
    }

    /// `N` bytes of a row from byte `from` on, zeros behind the last row's end.
    #[inline(always)]
    pub(super) fn padded<const N: usize>(&self, lane: usize, from: usize) -> [u8; N] {
        let bytes = self.row(lane).get(from..).unwrap_or(&[]);
        match bytes.first_chunk() {
            Some(bytes) => *bytes,
            None => {
                let mut to = [0; N];
                to[..bytes.len()].copy_from_slice(bytes);
                to
            }
        }
    }

    /// `N` bytes of each row from byte `from` on, if all rows have them. What falls back to
    /// [`all_padded`](Self::all_padded) does so outside: as one function int8 takes a fifth longer.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(in crate::flex) fn all<const N: usize>(&self, from: usize) -> Option<[[u8; N]; LANES]> {
        if !self.have(from.saturating_add(N)) {
            return None;
        }
        let mut to = [[0; N]; LANES];
        for (lane, to) in to.iter_mut().enumerate() {
            // SAFETY: they have them.
            *to = *unsafe { self.part(lane, from) };
        }
        Some(to)
    }

    /// The same with zeros behind the last row's end.
    #[inline(always)]
    pub(in crate::flex) fn all_padded<const N: usize>(&self, from: usize) -> [[u8; N]; LANES] {
        let mut to = [[0; N]; LANES];
        for (lane, to) in to.iter_mut().enumerate() {
            *to = self.padded(lane, from);
        }
        to
    }

    /// Whether each row has `len` bytes.
    #[inline(always)]
    pub(super) fn have(&self, len: usize) -> bool {
        self.bytes.len() - self.at[LANES - 1] >= len
    }

    /// `N` bytes of a row from byte `from` on.
    ///
    /// # Safety
    ///
    /// The rows [`have`](Self::have) `from + N` bytes.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn part<const N: usize>(&self, lane: usize, from: usize) -> &'a [u8; N] {
        // SAFETY: the caller says that there are so many bytes behind the begin of the last row, which
        // none of the others lies behind. A reference to bytes needs no alignment.
        unsafe { &*self.bytes.as_ptr().add(self.at[lane] + from).cast() }
    }

    /// `M` times `N` bytes of a row from byte `from` on.
    ///
    /// # Safety
    ///
    /// The rows [`have`](Self::have) `from + M * N` bytes.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn parts<const N: usize, const M: usize>(
        &self,
        lane: usize,
        from: usize,
    ) -> &'a [[u8; N]; M] {
        // SAFETY: as in `part`.
        unsafe { &*self.bytes.as_ptr().add(self.at[lane] + from).cast() }
    }

    /// Ask memory for what each row has at byte `at`.
    #[inline(always)]
    pub(in crate::flex) fn ask<L: Lanes>(&self, at: usize) {
        for row in &self.at {
            prefetch::<L>(self.bytes.as_ptr().wrapping_add(row + at));
        }
    }
}

/// What memory is asked for while sixteen rows are read.
#[derive(Clone, Copy)]
pub(in crate::flex) enum Onward<'a> {
    /// Nothing: others have.
    Nothing,
    /// Of each row what lies so many bytes further on.
    Near(usize),
    /// What lies behind the rows, in its order.
    Next(Next<'a>),
}

/// Bytes to come, and when they are asked for.
#[derive(Clone, Copy)]
pub(in crate::flex) struct Next<'a> {
    pub(in crate::flex) bytes: &'a [u8],
    /// Lines at each step.
    pub(in crate::flex) lines: usize,
    /// Steps before the rows' first line; each line is a step.
    pub(in crate::flex) before: usize,
}

impl Onward<'_> {
    /// Ask for what goes with the line at byte `at` of the rows.
    #[inline(always)]
    pub(super) fn ask<L: Lanes>(&self, rows: &Sixteen<'_>, at: usize) {
        match self {
            Onward::Nothing => {}
            Onward::Near(bytes) => rows.ask::<L>(at + bytes),
            Onward::Next(next) => next.ask::<L>(next.before + at / LINE),
        }
    }

    /// Ask for what goes with a step before the rows.
    #[inline(always)]
    pub(in crate::flex) fn before<L: Lanes>(&self, step: usize) {
        if let Onward::Next(next) = self {
            next.ask::<L>(step);
        }
    }
}

impl Next<'_> {
    #[inline(always)]
    fn ask<L: Lanes>(&self, step: usize) {
        let first = step * self.lines * LINE;
        if first < self.bytes.len() {
            for line in 0..self.lines {
                prefetch::<L>(self.bytes.as_ptr().wrapping_add(first + line * LINE));
            }
        }
    }
}
