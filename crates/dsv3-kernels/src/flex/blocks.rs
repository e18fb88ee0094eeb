//! Rows of weights times many tokens: a block of some rows and columns is decoded once into a
//! buffer, and all tokens meet it while it is near.
//!
//! The sixteen sums of a row and a token are kept between two blocks of columns, so that they run
//! over the columns in their order as everywhere.

use std::ops::Range;

use super::decode::{Decode, UNIT, fill_from};
use super::dots::Chosen;
use super::group::{ROWS, put, reduced};
use super::lanes::{LANES, Lanes};

/// Units of a block's columns at most: four rows of them and six tokens fit a core's first cache.
const COLUMNS: usize = 32;
/// The same where tiles read from the second cache.
const STREAMED_COLUMNS: usize = 128;
/// Rows of a block at most.
const BLOCK_ROWS: usize = 32;
/// Bytes of a block at most: half of a core's second cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Values between two rows of a block, a cache line of them: rows whose distance is that of a page,
/// as of the tokens that they meet, get in each other's way where they are read side by side.
const APART: usize = LANES;
/// Tokens that meet a block, where their sums are kept from one block of columns to the next.
const TOKENS: usize = 128;
/// Tokens of a tile: with four rows, and what is loaded, they fill AVX-512's registers. Where lanes
/// take two registers of sixteen, two rows and three tokens do.
const TILE: usize = 6;

/// Room for decoded rows and for sums, kept from call to call.
#[derive(Default)]
pub(super) struct Buffer {
    /// `[rows, columns of a block + APART]`
    rows: Vec<f32>,
    /// `[groups of rows, tokens, ROWS]`, sixteen each
    sums: Vec<[f32; LANES]>,
    /// Activations beside the scales of the rows that they meet, `[tokens, units]`
    pub(super) scaled: Vec<[f32; UNIT]>,
}

/// Rows of a block, whose row has so many units.
#[inline(always)]
pub(super) fn rows_of_a_block<L: Lanes>(units: usize) -> usize {
    let fit = BLOCK_BYTES / (4 * UNIT * columns::<L>(units).max(1));
    (fit / ROWS * ROWS).clamp(ROWS, BLOCK_ROWS)
}

/// Units of a block's columns: the same for all blocks of a row, but for the last.
#[inline(always)]
fn columns<L: Lanes>(units: usize) -> usize {
    let most = if L::STREAMS {
        STREAMED_COLUMNS
    } else {
        COLUMNS
    };
    units.div_ceil(units.div_ceil(most).max(1))
}

/// Some rows and all tokens.
pub(super) struct Block<'a, 'y, L: Lanes> {
    pub(super) lanes: L,
    pub(super) x: Chosen<'a>,
    /// For each token, a place for every row of the call.
    pub(super) y: &'a mut [&'y mut [f32]],
    /// Where the first of these rows stands in it.
    pub(super) at: usize,
    pub(super) buffer: &'a mut Buffer,
    /// Bytes from one row to the next.
    pub(super) row_bytes: usize,
}

impl<L: Lanes> Block<'_, '_, L> {
    /// The rows `range`.
    #[inline(always)]
    pub(super) fn run<D: Decode>(&mut self, range: Range<usize>, row: &impl Fn(usize) -> D) {
        let all = self.x.tokens();
        let units = self.x.units();
        let at_once = match columns::<L>(units) < units {
            true => TOKENS,
            false => all,
        };
        for first in (0..all).step_by(at_once) {
            self.tokens(range.clone(), first..(first + at_once).min(all), row);
        }
    }

    #[inline(always)]
    fn tokens<D: Decode>(
        &mut self,
        range: Range<usize>,
        tokens: Range<usize>,
        row: &impl Fn(usize) -> D,
    ) {
        let units = self.x.units();
        let groups = range.len().div_ceil(ROWS);
        let columns = columns::<L>(units);
        let kept = match columns < units {
            true => groups * ROWS * tokens.len(),
            false => 0,
        };
        self.buffer.sums.resize(kept, [0.0; LANES]);
        // Where a row ends, memory is asked for the rows of the next block.
        let onward = (groups * ROWS - 1) * self.row_bytes;
        let mut from = 0;
        while from < units {
            let to = (from + columns).min(units);
            let width = to - from;
            let stride = width * UNIT + APART;
            self.buffer.rows.resize(groups * ROWS * stride, 0.0);
            for (i, decoded) in self.buffer.rows.chunks_exact_mut(stride).enumerate() {
                let (decoded, _) = decoded.as_chunks_mut();
                // Where there are fewer than four rows left the last one is taken again.
                let row = row((range.start + i).min(range.end - 1));
                fill_from(self.lanes, &row, from, decoded, onward);
            }
            let mut t = tokens.start;
            while t < tokens.end {
                let columns = from..to;
                t += match (tokens.end - t, L::IS_WIDE) {
                    (1, _) => self.tile::<D, 1, ROWS>(&range, &tokens, t, columns),
                    (2, false) => self.tile::<D, 2, 2>(&range, &tokens, t, columns),
                    (_, false) => self.tile::<D, 3, 2>(&range, &tokens, t, columns),
                    (2 | 3, _) => self.tile::<D, 2, ROWS>(&range, &tokens, t, columns),
                    (4 | 5, _) => self.tile::<D, 4, ROWS>(&range, &tokens, t, columns),
                    _ => self.tile::<D, TILE, ROWS>(&range, &tokens, t, columns),
                };
            }
            from = to;
        }
    }

    /// `T` tokens from `t` on meet all groups of rows, `R` rows of a group at a time; says how many
    /// tokens that were.
    #[inline(always)]
    fn tile<D: Decode, const T: usize, const R: usize>(
        &mut self,
        range: &Range<usize>,
        tokens: &Range<usize>,
        t: usize,
        columns: Range<usize>,
    ) -> usize {
        let l = self.lanes;
        let width = columns.len();
        let stride = width * UNIT + APART;
        // As long as the loop, which need not look at every index then. Written out: closures of
        // `from_fn` are calls.
        let mut x = [&self.x.token(t)[columns.start..][..width]; T];
        for (i, x) in x.iter_mut().enumerate() {
            *x = &self.x.token(t + i)[columns.start..][..width];
        }
        let is_first = columns.start == 0;
        let is_last = columns.end == self.x.units();
        for group in 0..range.len().div_ceil(ROWS) {
            let rows = &self.buffer.rows[group * ROWS * stride..][..ROWS * stride];
            // None where one block has all columns.
            let kept = (group * tokens.len() + t - tokens.start) * ROWS;
            let kept = self.buffer.sums.get_mut(kept..kept + T * ROWS);
            let (kept, _) = kept.unwrap_or_default().as_chunks_mut::<ROWS>();
            let mut all = [[l.splat(0.0); T]; ROWS];
            for (part, all) in all.as_chunks_mut::<R>().0.iter_mut().enumerate() {
                let mut near = [&rows.as_chunks::<UNIT>().0[..width]; R];
                for (r, near) in near.iter_mut().enumerate() {
                    let row = &rows[(part * R + r) * stride..][..width * UNIT];
                    *near = &row.as_chunks().0[..width];
                }
                let mut sums = [[l.splat(0.0); T]; R];
                if !is_first {
                    for (t, kept) in kept.iter().enumerate().take(T) {
                        for (r, sums) in sums.iter_mut().enumerate() {
                            sums[t] = l.load(&kept[part * R + r]);
                        }
                    }
                }
                for unit in 0..width {
                    for half in 0..2 {
                        let mut values = [l.splat(0.0); T];
                        for (value, x) in values.iter_mut().zip(&x) {
                            *value = l.load(&x[unit].as_chunks::<LANES>().0[half]);
                        }
                        for (near, sums) in near.iter().zip(&mut sums) {
                            let row = l.load(&near[unit].as_chunks::<LANES>().0[half]);
                            for (sum, value) in sums.iter_mut().zip(&values) {
                                *sum = D::multiply(l, row, *value, *sum);
                            }
                        }
                    }
                }
                if is_last {
                    *all = sums;
                    continue;
                }
                for (t, kept) in kept.iter_mut().enumerate().take(T) {
                    for (r, sums) in sums.iter().enumerate() {
                        kept[part * R + r] = l.store(sums[t]);
                    }
                }
            }
            if !is_last {
                continue;
            }
            let totals = reduced(l, &all);
            let at = self.at + group * ROWS..self.at + range.len().min((group + 1) * ROWS);
            for (y, totals) in self.y[t..t + T].iter_mut().zip(&totals) {
                put(&mut y[at.clone()], totals);
            }
        }
        T
    }
}
