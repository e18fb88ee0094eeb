//! A task's rows of one format, group after group or block after block.

use std::ops::Range;

use super::blocks::{Block, Buffer, rows_of_a_block};
use super::decode::{Decode, UNIT, has_nan};
use super::dots::{Activated, Chosen, Dots};
use super::formats::{Buffered, E4m3, Fp8};
use super::group::{Group, ROWS, ROWS_OF_ONE};
use super::lanes::{E4M3_UNBIAS, Kernel, LANES, Lanes};
use super::pairs::{Fp8Pairs, are_powers};
use super::rows::{Blocks, Row, Rows};

/// Most tokens that e4m3's scales are multiplied to: more meet decoded rows.
const FEW: usize = <E4m3<'_> as Decode>::WIDE_BUFFERED_FROM - 1;

/// All rows of one format. Each format is compiled by itself: what a compiler needs for a function
/// grows faster than the function.
pub(super) struct Each<'a, 'y, F> {
    pub(super) dots: Dots<'a, 'y>,
    pub(super) row: F,
}

impl<D: Decode, F: Fn(usize) -> D> Kernel for Each<'_, '_, F> {
    const PAIRS: bool = D::PAIRS;
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        Sweep::new(lanes, self.dots).each(self.row);
    }
}

/// Rows of e4m3 in blocks of whole units.
pub(super) struct InBlocks<'a, 'y> {
    pub(super) dots: Dots<'a, 'y>,
    pub(super) blocks: Blocks<'a>,
}

impl Kernel for InBlocks<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        Sweep::new(lanes, self.dots).blocks(self.blocks);
    }
}

/// The same in front of activations in pairs.
pub(super) struct PairsInBlocks<'a, 'y> {
    pub(super) dots: Dots<'a, 'y>,
    pub(super) blocks: Blocks<'a>,
}

impl Kernel for PairsInBlocks<'_, '_> {
    const PAIRS: bool = true;
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        Sweep::new(lanes, self.dots).shared_blocks(self.blocks);
    }
}

/// Rows of any width, block and scale.
pub(super) struct Slowly<'a, 'y> {
    pub(super) dots: Dots<'a, 'y>,
}

impl Kernel for Slowly<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let rows = self.dots.rows;
        Sweep::new(lanes, self.dots).slowly(rows);
    }
}

/// Groups of rows, one after the other.
struct Sweep<'a, 'y, L: Lanes> {
    lanes: L,
    x: Chosen<'a>,
    /// For each token, `[rows of the range]`.
    y: &'a mut [&'y mut [f32]],
    range: Range<usize>,
    /// Bytes from one row to the next.
    row_bytes: usize,
    buffer: &'a mut Buffer,
}

impl<'a, 'y, L: Lanes> Sweep<'a, 'y, L> {
    #[inline(always)]
    fn new(lanes: L, dots: Dots<'a, 'y>) -> Self {
        Sweep {
            lanes,
            x: dots.x,
            y: dots.y,
            row_bytes: dots.rows.row_bytes(),
            range: dots.range,
            buffer: dots.buffer,
        }
    }

    /// The group that begins at row `at`, and how many rows it has. Where there are fewer than `R`
    /// rows left up to `end` the last one is taken again.
    #[inline(always)]
    fn group<D: Copy, const R: usize>(
        at: usize,
        end: usize,
        row: &impl Fn(usize) -> D,
    ) -> ([D; R], usize) {
        let count = (end - at).min(R);
        let last = at + count - 1;
        // Not by `map`, which is not inlined: its calls are felt in short rows.
        let mut rows = [row(at); R];
        for (r, to) in rows.iter_mut().enumerate().skip(1) {
            *to = row((at + r).min(last));
        }
        (rows, count)
    }

    #[inline(always)]
    fn out(&mut self, at: usize, count: usize) -> Group<'_, 'y, L> {
        let start = at - self.range.start;
        Group {
            lanes: self.lanes,
            x: self.x,
            y: self.y,
            at: start..start + count,
            row_bytes: self.row_bytes,
            may_be_nan: false,
        }
    }

    /// Rows that are worked on together.
    #[inline(always)]
    fn step<D: Decode>(&self) -> usize {
        match self.is_few::<D>() {
            true if self.is_one::<D>() => ROWS_OF_ONE,
            true => ROWS,
            false => rows_of_a_block::<L>(self.x.units()),
        }
    }

    /// Whether the tokens meet rows in the registers, and not in a buffer.
    #[inline(always)]
    fn is_few<D: Decode>(&self) -> bool {
        let from = match (L::IS_WIDE, L::KEEPS_ONE_ROW) {
            (true, _) => D::WIDE_BUFFERED_FROM,
            (_, true) => D::NARROW_BUFFERED_FROM,
            _ => D::BUFFERED_FROM,
        };
        self.x.tokens() < from
    }

    /// Whether there is one token, which meets more rows.
    #[inline(always)]
    fn is_one<D: Decode>(&self) -> bool {
        L::STREAMS && !D::SHARED && self.x.tokens() == 1
    }

    #[inline(always)]
    fn each<D: Decode>(mut self, row: impl Fn(usize) -> D) {
        let step = self.step::<D>();
        for at in self.range.clone().step_by(step) {
            let end = (at + step).min(self.range.end);
            self.rows(at..end, &row);
        }
    }

    /// As `each`, of e4m3, whose NaN codes are decoded to numbers.
    #[inline(always)]
    fn blocks(mut self, blocks: Blocks<'_>) {
        let tokens = self.x.tokens();
        let step = self.step::<Fp8<'_>>();
        if !self.is_few::<Fp8<'_>>() {
            for at in self.range.clone().step_by(step) {
                let end = (at + step).min(self.range.end);
                self.rows(at..end, &|i| Fp8::<UNIT>::new(blocks.row(i)));
                self.spoil(blocks, at..end);
            }
            return;
        }
        // Rows that share their scales: those of few tokens are multiplied once, not each weight.
        let which: [usize; FEW] = std::array::from_fn(|t| t);
        let mut scaled = std::mem::take(&mut self.buffer.scaled);
        let mut start = self.range.start;
        while start < self.range.end {
            let end = self.range.end.min(blocks.end(start));
            let is_scaled = scale(self.lanes, self.x, &blocks.row(start), &mut scaled);
            let x = Activated::of_units(&scaled, tokens);
            for at in (start..end).step_by(step) {
                let rows = at..end.min(at + step);
                let may_be_nan = if is_scaled {
                    let mut beside = Sweep {
                        lanes: self.lanes,
                        x: x.chosen(&which[..tokens]),
                        y: &mut *self.y,
                        range: self.range.clone(),
                        row_bytes: self.row_bytes,
                        buffer: &mut *self.buffer,
                    };
                    beside.rows(rows.clone(), &|i| E4m3::new(blocks.codes(i..i + 1)))
                } else {
                    self.rows(rows.clone(), &|i| Fp8::<UNIT>::new(blocks.row(i)));
                    true
                };
                if may_be_nan {
                    self.spoil(blocks, rows);
                }
            }
            start = end;
        }
        self.buffer.scaled = scaled;
    }

    /// As `blocks`, from and to pairs, of rows that share their scales.
    #[inline(always)]
    fn shared_blocks(mut self, blocks: Blocks<'_>) {
        let step = self.step::<Fp8Pairs<'_>>();
        let mut at = self.range.start;
        while at < self.range.end {
            let end = (at + step).min(self.range.end).min(blocks.end(at));
            if self.rows(at..end, &|i| Fp8Pairs::new(blocks.row(i))) {
                self.spoil(blocks, at..end);
            }
            at = end;
        }
    }

    /// Rows that have a NaN code give NaN.
    #[inline(always)]
    fn spoil(&mut self, blocks: Blocks<'_>, rows: Range<usize>) {
        if !has_nan(blocks.codes(rows.clone())) {
            return;
        }
        for row in rows.filter(|row| has_nan(blocks.codes(*row..row + 1))) {
            for y in self.y.iter_mut() {
                y[row - self.range.start] = f32::NAN;
            }
        }
    }

    /// As they lie for few tokens, from a buffer for many. Says whether a code may be NaN.
    #[inline(always)]
    fn rows<D: Decode>(&mut self, range: Range<usize>, row: &impl Fn(usize) -> D) -> bool {
        let tokens = self.x.tokens();
        if self.is_few::<D>() {
            if self.is_one::<D>() {
                let (rows, count) = Self::group(range.start, range.end, row);
                let mut out = self.out(range.start, count);
                out.one_token(&rows);
                return out.may_be_nan;
            }
            let (rows, count) = Self::group(range.start, range.end, row);
            let mut out = self.out(range.start, count);
            let mut t = 0;
            while t < tokens {
                t += out.tokens(&rows, t);
            }
            return out.may_be_nan;
        }
        Block {
            lanes: self.lanes,
            x: self.x,
            y: self.y,
            at: range.start - self.range.start,
            buffer: self.buffer,
            row_bytes: self.row_bytes,
        }
        .run(range, row);
        true
    }

    /// One value after another to whole units filled up with zeros.
    #[inline(always)]
    fn slowly(mut self, rows: &Rows) {
        let units = self.x.units();
        let mut decoded = vec![[0f32; UNIT]; ROWS * units];
        for at in self.range.clone().step_by(ROWS) {
            let end = (at + ROWS).min(self.range.end);
            for (i, to) in (at..end).zip(decoded.chunks_exact_mut(units.max(1))) {
                rows.decode(i, &mut to.as_flattened_mut()[..rows.input()]);
            }
            self.rows(at..end, &|i| {
                Buffered(&decoded[(i - at) * units..][..units])
            });
        }
    }
}

/// The activations times the scales of a row of e4m3, and times what its codes' bits are short of:
/// whether the scales are powers of two, and nothing became infinite. Then a product is the same,
/// to the last bit, as that of the scaled weight.
#[inline(always)]
fn scale<L: Lanes>(l: L, x: Chosen<'_>, row: &Row<'_>, to: &mut Vec<[f32; UNIT]>) -> bool {
    let Row::Fp8 { scales, block, .. } = *row else {
        return false;
    };
    if !are_powers(scales) {
        return false;
    }
    let n = x.units();
    to.resize(x.tokens() * n, [0.0; UNIT]);
    for (t, to) in to.chunks_exact_mut(n.max(1)).enumerate() {
        let blocks = x
            .token(t)
            .chunks(block / UNIT)
            .zip(to.chunks_mut(block / UNIT));
        for ((units, to), scale) in blocks.zip(scales) {
            let scale = l.splat(scale * E4M3_UNBIAS);
            for (unit, to) in units.iter().zip(to) {
                let (from, _) = unit.as_chunks::<LANES>();
                let (halves, _) = to.as_chunks_mut::<LANES>();
                halves[0] = l.store(l.mul(l.load(&from[0]), scale));
                halves[1] = l.store(l.mul(l.load(&from[1]), scale));
            }
        }
    }
    let largest = |largest: u32, v: &f32| largest.max(v.to_bits() & 0x7fff_ffff);
    f32::from_bits(to.as_flattened().iter().fold(0, largest)).is_finite()
}
