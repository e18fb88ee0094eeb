//! Rows of integer codes times activations that are whole numbers too.
//!
//! A lane is a row: sixteen rows' codes are turned so that each lane finds four columns of its own
//! in a word, once for all tokens. A group's products are summed exactly, then scaled and added to
//! the sums of the groups before it, so the bits of a result depend neither on the instruction set
//! nor on the company that a token has.

use std::ops::Range;

use super::integer_rows::TILE as ROW_TILE;
use super::integers::Integers;
use super::lanes::{Kernel, LANES, LINE, Lanes, Onward, Sixteen, WORDS};
use super::rows::Groups;
use crate::packed::{GROUP_UNIT, GroupCodes};

/// Registers of rows that are worked on together.
pub(super) const PANELS: usize = 2;
/// Rows that are turned together.
pub(super) const PANEL_ROWS: usize = PANELS * LANES;
/// Columns that are turned at once: with these rows, and a tile's tokens, they fit a core's first
/// cache.
const COLUMNS: usize = 512;
/// The same where tiles read from the second cache: it holds them.
const STREAMED_COLUMNS: usize = 1 << 14;
/// The same for few tokens, whose time goes to turning: it pays by sixteen scales at once.
const FEW_COLUMNS: usize = 1024;
/// Tokens of a tile: with two registers of rows, whole and scaled sums of each fill AVX-512's.
const TILE: usize = 6;
/// Tokens that meet one panel after the other: their columns stay in a core's second cache.
const TOKENS: usize = 40 * TILE;
/// From so many tokens on it pays to turn all panels of a task before the tokens meet them, where tiles
/// don't read from the second cache.
const MANY: usize = 4 * TILE;
/// Bytes of a row between what is turned and what is asked of memory.
const AHEAD: usize = 512;

/// Room for turned rows and for sums, kept from call to call.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) turned: Vec<Turned>,
    /// `[panels of rows, T, PANELS]`
    pub(super) sums: Vec<[[f32; LANES]; PANELS]>,
}

/// Some columns of [`PANEL_ROWS`] rows, a lane for each row.
#[derive(Default)]
pub(super) struct Turned {
    /// `[columns / 4, PANELS]`, words of four columns
    words: Vec<[[u8; WORDS]; PANELS]>,
    /// `[PANELS, groups]`
    pub(super) scales: [Vec<[f32; LANES]>; PANELS],
}

/// `rows[range] · x`.
pub(super) struct IntegerDots<'a, 'y> {
    pub(super) x: &'a Integers,
    /// Its tokens that are asked for.
    pub(super) which: &'a [usize],
    pub(super) rows: Groups<'a>,
    pub(super) range: Range<usize>,
    /// For each token, `[rows of the range]`.
    pub(super) y: &'a mut [&'y mut [f32]],
    /// Room to work in, kept from call to call.
    pub(super) buffer: &'a mut Buffer,
}

impl Kernel for IntegerDots<'_, '_> {
    const BYTES: bool = true;
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let tokens = self.which.len();
        let at_once = match tokens < MANY || L::STREAMS {
            // What lies in one piece is read in one piece.
            true => PANEL_ROWS,
            false => self.range.len().max(1),
        };
        for at in self.range.clone().step_by(at_once) {
            let end = (at + at_once).min(self.range.end);
            self.panels(l, at..end);
            let rows = at - self.range.start..end - self.range.start;
            for (t, y) in self.y.iter_mut().enumerate() {
                let panels = y[rows.clone()].chunks_mut(PANEL_ROWS);
                let sums = self.buffer.sums[t..].iter().step_by(tokens);
                for (y, sums) in panels.zip(sums) {
                    y.copy_from_slice(&sums.as_flattened()[..y.len()]);
                }
            }
        }
    }
}

impl IntegerDots<'_, '_> {
    /// The sums of some panels of rows, the last of which may have fewer than [`PANEL_ROWS`].
    #[inline(always)]
    fn panels<L: Lanes>(&mut self, l: L, rows: Range<usize>) {
        let tokens = self.which.len();
        let columns = self.rows.format.columns;
        let input = self.rows.columns();
        let groups = self.rows.format.scales(input);
        let by_rows = tokens
            <= match self.rows.format.codes {
                GroupCodes::Int8 => L::INT8_ROWS,
                GroupCodes::Int4 => L::INT4_ROWS,
            };
        let step = match by_rows && tokens <= ROW_TILE {
            true => groups,
            false if L::STREAMS => STREAMED_COLUMNS / columns,
            false if tokens < MANY => FEW_COLUMNS / columns,
            false => COLUMNS / columns,
        };
        let step = step.max(1);
        let is_eight = L::SUMS_EIGHT && self.rows.format.codes == GroupCodes::Int4;
        let panels = rows.len().div_ceil(PANEL_ROWS);
        self.buffer.sums.clear();
        let none = [[0.0; LANES]; PANELS];
        self.buffer.sums.resize(panels * tokens, none);
        self.buffer.turned.resize_with(panels, Turned::default);
        for first in (0..groups).step_by(step) {
            let span = Span {
                groups: first..(first + step).min(groups),
                columns: first * columns..((first + step) * columns).min(input),
                is_first: first == 0,
                is_last: first + step >= groups,
            };
            for panel in 0..panels {
                if !by_rows {
                    self.turn(l, panel, &panel_rows(&rows, panel), &span);
                }
            }
            for first in (0..tokens).step_by(TOKENS) {
                let tokens = first..(first + TOKENS).min(tokens);
                for panel in 0..panels {
                    match by_rows {
                        true => self.by_rows(l, panel, &panel_rows(&rows, panel), &tokens, &span),
                        false if is_eight => self.tiles::<L, true>(l, panel, &tokens, &span),
                        false => self.tiles::<L, false>(l, panel, &tokens, &span),
                    }
                }
            }
        }
    }

    /// Tokens meet a panel's turned rows, one word after the other or eight at a time.
    #[inline(always)]
    fn tiles<L: Lanes, const EIGHT: bool>(
        &mut self,
        l: L,
        panel: usize,
        tokens: &Range<usize>,
        span: &Span,
    ) {
        let mut t = tokens.start;
        while t < tokens.end {
            t += match tokens.end - t {
                1 => self.tile::<L, 1, EIGHT>(l, panel, t, span),
                2 | 3 => self.tile::<L, 2, EIGHT>(l, panel, t, span),
                _ if !L::IS_WIDE => self.tile::<L, 2, EIGHT>(l, panel, t, span),
                4 | 5 => self.tile::<L, 4, EIGHT>(l, panel, t, span),
                _ => self.tile::<L, TILE, EIGHT>(l, panel, t, span),
            };
        }
    }

    /// Codes and scales of the rows, a lane for each. Where there are too few rows the last one is
    /// taken again.
    #[inline(always)]
    fn turn<L: Lanes>(&mut self, l: L, panel: usize, rows: &Range<usize>, span: &Span) {
        let row_bytes = self.rows.format.row_bytes;
        let code_bytes = self.rows.code_bytes();
        let words = span.columns.len().div_ceil(WORDS) * LANES;
        let buffer = &mut self.buffer.turned[panel];
        buffer.words.resize(words, [[0; WORDS]; PANELS]);
        for panel in 0..PANELS {
            let of = self.rows.sixteen(sixteen(rows, panel));
            for (at, to) in buffer.words.chunks_exact_mut(LANES).enumerate() {
                let column = span.columns.start + at * WORDS;
                let byte = self.rows.format.code_bytes(column);
                if byte.is_multiple_of(LINE) {
                    of.ask::<L>(ahead(byte, row_bytes));
                }
                let codes = match self.rows.format.codes {
                    GroupCodes::Int8 => int8(&of, byte, L::INT8_ZERO),
                    GroupCodes::Int4 => int4(&of, byte),
                };
                for (to, turned) in to.iter_mut().zip(&l.turned(&codes)) {
                    to[panel] = *turned;
                }
            }
            let from = code_bytes + 2 * span.groups.start;
            let ahead = span.to_next_scales(PANEL_ROWS * row_bytes);
            let scales = &mut buffer.scales[panel];
            turn_scales(
                l,
                &of,
                from,
                span.groups.len(),
                ahead,
                &Onward::Nothing,
                scales,
            );
        }
    }

    /// `T` tokens from `t` on meet a panel's turned rows; says how many tokens that were.
    #[inline(always)]
    fn tile<L: Lanes, const T: usize, const EIGHT: bool>(
        &mut self,
        l: L,
        panel: usize,
        t: usize,
        span: &Span,
    ) -> usize {
        let turned = &self.buffer.turned[panel];
        // Written out, as below: closures of `from_fn` are calls.
        let mut x = [self.x.token(self.which[t]); T];
        for (x, which) in x.iter_mut().zip(&self.which[t..]) {
            *x = self.x.token(*which);
        }
        let kept = &mut self.buffer.sums[panel * self.which.len() + t..][..T];
        let mut sums = [[l.splat(0.0); PANELS]; T];
        for (sums, kept) in sums.iter_mut().zip(kept.iter()) {
            for (sum, kept) in sums.iter_mut().zip(kept) {
                *sum = l.load(kept);
            }
        }
        // Codes with signs have no zero to be taken off.
        let from_zero = L::INT8_ZERO == 0 && self.rows.format.codes == GroupCodes::Int8;
        let per_group = self.rows.format.columns / 4;
        let end = span.columns.end / 4;
        let scales = turned.scales[0].iter().zip(&turned.scales[1]);
        for (group, scales) in span.groups.clone().zip(scales) {
            let from = group * per_group;
            let to = (from + per_group).min(end);
            let mut whole = [[l.whole(0); PANELS]; T];
            for (whole, x) in whole.iter_mut().zip(&x) {
                let start = if from_zero { 0 } else { x.starts[group] };
                *whole = [l.whole(start); PANELS];
            }
            // Said once, so that the loop need not look at every index.
            let words = &turned.words[from - span.columns.start / 4..][..to - from];
            let mut near = [&x[0].words[from..to]; T];
            for (near, x) in near.iter_mut().zip(&x) {
                *near = &x.words[from..to];
                assert!(near.len() >= words.len());
            }
            match EIGHT {
                true => by_eight(l, words, &near, &mut whole),
                false => by_word(l, words, &near, &mut whole),
            }
            for ((sums, whole), x) in sums.iter_mut().zip(whole).zip(&x) {
                let scale = l.splat(x.scales[group]);
                let scales = [scales.0, scales.1];
                for ((sum, whole), scales) in sums.iter_mut().zip(whole).zip(scales) {
                    let factor = l.mul(l.load(scales), scale);
                    *sum = l.mul_add(l.to_float(whole), factor, *sum);
                }
            }
        }
        for (sums, kept) in sums.iter().zip(kept) {
            for (sum, kept) in sums.iter().zip(kept) {
                *kept = l.store(*sum);
            }
        }
        T
    }
}

/// A group's words, one after the other.
#[inline(always)]
fn by_word<L: Lanes, const T: usize>(
    l: L,
    words: &[[[u8; WORDS]; PANELS]],
    x: &[&[[i8; 4]]; T],
    sums: &mut [[L::I; PANELS]; T],
) {
    for (at, word) in words.iter().enumerate() {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, word) in sums.iter_mut().zip(word) {
                *sum = l.dot(*sum, word, x[at]);
            }
        }
    }
}

/// The same of four-bit codes, eight words at a time: groups are of whole units, which have eight.
#[inline(always)]
fn by_eight<L: Lanes, const T: usize>(
    l: L,
    words: &[[[u8; WORDS]; PANELS]],
    x: &[&[[i8; 4]]; T],
    sums: &mut [[L::I; PANELS]; T],
) {
    let (eights, _) = words.as_chunks::<8>();
    for (at, words) in eights.iter().enumerate() {
        let mut near = [&x[0].as_chunks().0[at]; T];
        for (near, x) in near.iter_mut().zip(x) {
            *near = &x.as_chunks().0[at];
        }
        l.dot_eight(sums, words, &near);
    }
}

/// Groups that are worked on at once, and their columns.
pub(super) struct Span {
    pub(super) groups: Range<usize>,
    pub(super) columns: Range<usize>,
    /// Whether the row begins or ends with it.
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

impl Span {
    /// Bytes to the scales of the next columns, or to those of the rows that lie `rows` further on.
    #[inline(always)]
    pub(super) fn to_next_scales(&self, rows: usize) -> usize {
        match self.is_last {
            false => 2 * self.groups.len(),
            true => rows - 2 * self.groups.start,
        }
    }

    /// Units of the columns.
    #[inline(always)]
    pub(super) fn units(&self) -> Range<usize> {
        self.columns.start / GROUP_UNIT..self.columns.end / GROUP_UNIT
    }
}

/// Those of a panel; the last one may have fewer.
#[inline(always)]
fn panel_rows(rows: &Range<usize>, panel: usize) -> Range<usize> {
    let first = rows.start + panel * PANEL_ROWS;
    first..(first + PANEL_ROWS).min(rows.end)
}

/// Sixteen of these rows.
#[inline(always)]
pub(super) fn sixteen(rows: &Range<usize>, panel: usize) -> Range<usize> {
    let first = (rows.start + panel * LANES).min(rows.end - 1);
    first..(first + LANES).min(rows.end)
}

/// Scales of sixteen rows from byte `from` on, a lane for each row. Memory is asked for those `ahead`
/// bytes further on.
#[inline(always)]
pub(super) fn turn_scales<L: Lanes>(
    l: L,
    of: &Sixteen<'_>,
    from: usize,
    groups: usize,
    ahead: usize,
    onward: &Onward<'_>,
    to: &mut Vec<[f32; LANES]>,
) {
    to.resize(groups.next_multiple_of(LANES), [0.0; LANES]);
    for (at, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let from = from + at * 2 * LANES;
        of.ask::<L>(from + ahead);
        onward.before::<L>(at);
        l.turned_halves(of, from, to);
    }
}

/// Where a row's codes lie that memory is asked for at byte `byte`: behind its end, on to the next
/// panel's row.
#[inline(always)]
fn ahead(byte: usize, row_bytes: usize) -> usize {
    match byte + AHEAD < row_bytes {
        true => byte + AHEAD,
        false => byte + AHEAD + (PANEL_ROWS - 1) * row_bytes,
    }
}

/// Codes with their zero at 0 or 128. What stands behind a row's end is any.
#[inline(always)]
fn int8(rows: &Sixteen<'_>, from: usize, zero: u8) -> [[u8; WORDS]; LANES] {
    let mut to = match rows.all(from) {
        Some(codes) => codes,
        None => rows.all_padded(from),
    };
    for code in to.as_flattened_mut() {
        *code ^= zero;
    }
    to
}

/// Codes as they lie above -8. What stands behind a row's end is any.
#[inline(always)]
fn int4(rows: &Sixteen<'_>, from: usize) -> [[u8; WORDS]; LANES] {
    // As numbers: byte by byte it is done byte by byte.
    const LOW: u128 = u128::from_ne_bytes([15; LANES]);
    let codes: [[u8; WORDS / 2]; LANES] = match rows.all(from) {
        Some(codes) => codes,
        None => rows.all_padded(from),
    };
    let mut to = [[0; WORDS]; LANES];
    for (to, codes) in to.iter_mut().zip(&codes) {
        let (units, _) = codes.as_chunks::<LANES>();
        for (to, codes) in to.as_chunks_mut::<32>().0.iter_mut().zip(units) {
            let codes = u128::from_le_bytes(*codes);
            let (low, high) = to.split_at_mut(LANES);
            low.copy_from_slice(&(codes & LOW).to_le_bytes());
            high.copy_from_slice(&(codes >> 4 & LOW).to_le_bytes());
        }
    }
    to
}
