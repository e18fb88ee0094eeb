//! Rows of weights times rows of activations: the inner kernel of every linear layer.
//!
//! A weight is decoded in registers, once for up to four tokens and beside three other rows, and
//! never written anywhere; with many tokens a few rows are decoded to a buffer in the cache first.
//! Each product of a row and a token is summed in sixteen lanes of its own, over the columns in
//! their order, so its bits depend neither on the other rows and tokens of the call nor on the
//! machine.

use std::ops::Range;

use super::blocks::{BLOCK_ROWS, Block, Buffer};
use super::codes::{Int4, Int8};
use super::decode::{Decode, UNIT, has_nan, padded};
use super::formats::{Bf16, Buffered, E4m3, F16, F32, Fp8};
use super::group::{Group, ROWS};
use super::lanes::{E4M3_UNBIAS, Kernel, LANES, Lanes};
use super::pairs::{Bf16Pairs, Fp8Pairs, are_powers, pairs_of};
use super::rows::{Blocks, Row, Rows, View};
use crate::packed::{GroupCodes, HalfFormat};

/// Most tokens that e4m3's scales are multiplied to: more meet decoded rows.
const FEW: usize = <Fp8<'static> as Decode>::BUFFERED_FROM - 1;

/// Activations `[T, in]`, padded with zeros to whole units.
pub(super) struct Activated<'a> {
    /// `[T, units]`
    units: std::borrow::Cow<'a, [[f32; UNIT]]>,
    tokens: usize,
    /// Whether the units are of pairs of bf16.
    are_pairs: bool,
}

impl<'a> Activated<'a> {
    /// `x [T, in]`; borrowed where `in` is a number of whole units.
    pub(super) fn new(x: &'a [f32], tokens: usize) -> Self {
        let input = x.len() / tokens.max(1);
        let units = match x.as_chunks::<UNIT>() {
            (units, []) if input.is_multiple_of(UNIT) => units.into(),
            _ => padded_rows(x.chunks_exact(input.max(1))).into(),
        };
        Activated {
            units,
            tokens,
            are_pairs: false,
        }
    }

    /// As pairs of bf16, if that changes nothing.
    pub(super) fn pairs(&self) -> Option<Activated<'static>> {
        if !self.units().is_multiple_of(2) {
            return None;
        }
        let units = pairs_of(&self.units)?;
        Some(Activated {
            units: units.into(),
            tokens: self.tokens,
            are_pairs: true,
        })
    }

    /// The values, and how many a token has; copied if they were borrowed.
    pub(super) fn values_mut(&mut self) -> (&mut [f32], usize) {
        let width = self.units() * UNIT;
        (self.units.to_mut().as_flattened_mut(), width)
    }

    /// Units of a token.
    #[inline(always)]
    fn units(&self) -> usize {
        self.units.len() / self.tokens.max(1)
    }

    /// Tokens of these, in this order.
    pub(super) fn chosen(&'a self, which: &'a [usize]) -> Chosen<'a> {
        Chosen { x: self, which }
    }
}

/// Some tokens of [`Activated`], where they lie.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    x: &'a Activated<'a>,
    which: &'a [usize],
}

impl<'a> Chosen<'a> {
    /// How many tokens.
    #[inline(always)]
    pub(super) fn tokens(&self) -> usize {
        self.which.len()
    }

    /// Units of a token.
    #[inline(always)]
    pub(super) fn units(&self) -> usize {
        self.x.units()
    }

    /// Units of token `t`.
    #[inline(always)]
    pub(super) fn token(&self, t: usize) -> &'a [[f32; UNIT]] {
        let n = self.x.units();
        &self.x.units[self.which[t] * n..][..n]
    }
}

/// Rows in whole units, each filled up with zeros.
pub(super) fn padded_rows<R: AsRef<[f32]>>(rows: impl IntoIterator<Item = R>) -> Vec<[f32; UNIT]> {
    let mut units = Vec::new();
    for row in rows {
        let (full, rest) = row.as_ref().as_chunks::<UNIT>();
        units.extend_from_slice(full);
        units.extend((!rest.is_empty()).then(|| padded(rest)));
    }
    units
}

/// `rows[range] · x`.
pub(super) struct Dots<'a, 'y> {
    pub(super) x: Chosen<'a>,
    pub(super) rows: &'a Rows,
    pub(super) range: Range<usize>,
    /// For each token, `[rows of the range]`.
    pub(super) y: &'a mut [&'y mut [f32]],
    /// Room to work in, kept from call to call.
    pub(super) buffer: &'a mut Buffer,
}

impl Kernel for Dots<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        if self.x.tokens() == 0 {
            return;
        }
        let (range, columns) = (self.range.clone(), self.rows.input());
        let group = Groups {
            lanes,
            x: self.x,
            y: self.y,
            range: self.range,
            row_bytes: self.rows.row_bytes(),
            buffer: self.buffer,
        };
        match self.rows.view() {
            View::Fp8(blocks) if group.x.x.are_pairs => group.shared_blocks(blocks),
            View::Half(bytes, HalfFormat::Bf16, n) if group.x.x.are_pairs => {
                group.each(|i| Bf16Pairs::new(Row::Bf16(&bytes[2 * i * n..][..2 * n])));
            }
            // Rows and blocks that end within a unit, and scales out of all proportion: no
            // checkpoint that we know of has them.
            _ if !columns.is_multiple_of(UNIT) => group.slowly(self.rows),
            View::Fp8(blocks) if !blocks.fit(&range) => group.slowly(self.rows),
            View::F32(values, n) => group.each(|i| F32::new(Row::F32(&values[i * n..][..n]))),
            View::Half(bytes, HalfFormat::Bf16, n) => {
                group.each(|i| Bf16::new(Row::Bf16(&bytes[2 * i * n..][..2 * n])));
            }
            View::Half(bytes, HalfFormat::F16, n) => {
                group.each(|i| F16::new(Row::F16(&bytes[2 * i * n..][..2 * n])));
            }
            View::Fp8(blocks) => group.blocks(blocks),
            View::Group(groups) => match groups.format.codes {
                GroupCodes::Int8 => group.each(|i| Int8::new(Row::Int8(groups.row(i)))),
                GroupCodes::Int4 => group.each(|i| Int4::new(Row::Int4(groups.row(i)))),
            },
        }
    }
}

/// Groups of rows, one after the other.
struct Groups<'a, 'y, L: Lanes> {
    lanes: L,
    x: Chosen<'a>,
    /// For each token, `[rows of the range]`.
    y: &'a mut [&'y mut [f32]],
    range: Range<usize>,
    /// Bytes from one row to the next.
    row_bytes: usize,
    buffer: &'a mut Buffer,
}

impl<'y, L: Lanes> Groups<'_, 'y, L> {
    /// The group that begins at row `at`, and how many rows it has. Where there are fewer than
    /// four rows left up to `end` the last one is taken again.
    #[inline(always)]
    fn group<D>(at: usize, end: usize, row: &impl Fn(usize) -> D) -> ([D; ROWS], usize) {
        let count = (end - at).min(ROWS);
        let last = at + count - 1;
        // Written out: `map` is not inlined, and four calls a group are felt in short rows.
        let rows = [
            row(at),
            row((at + 1).min(last)),
            row((at + 2).min(last)),
            row((at + 3).min(last)),
        ];
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
        if self.x.tokens() < D::BUFFERED_FROM {
            return ROWS;
        }
        BLOCK_ROWS
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
        if step > ROWS {
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
            let x = Activated {
                units: scaled.as_slice().into(),
                tokens,
                are_pairs: false,
            };
            for at in (start..end).step_by(ROWS) {
                let rows = at..end.min(at + ROWS);
                let may_be_nan = if is_scaled {
                    let mut beside = Groups {
                        lanes: self.lanes,
                        x: x.chosen(&which[..tokens]),
                        y: &mut *self.y,
                        range: self.range.clone(),
                        row_bytes: self.row_bytes,
                        buffer: &mut *self.buffer,
                    };
                    beside.rows(rows.clone(), &|i| E4m3::new(blocks.row(i)))
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
            self.rows(at..end, &|i| Fp8Pairs::new(blocks.row(i)));
            self.spoil(blocks, at..end);
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
        if tokens < D::BUFFERED_FROM {
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
    to.clear();
    for t in 0..x.tokens() {
        for (units, scale) in x.token(t).chunks(block / UNIT).zip(scales) {
            let scale = l.splat(scale * E4M3_UNBIAS);
            for unit in units {
                let (from, _) = unit.as_chunks::<LANES>();
                let mut scaled = [0.0; UNIT];
                let (halves, _) = scaled.as_chunks_mut::<LANES>();
                halves[0] = l.store(l.mul(l.load(&from[0]), scale));
                halves[1] = l.store(l.mul(l.load(&from[1]), scale));
                to.push(scaled);
            }
        }
    }
    let largest = |largest: u32, v: &f32| largest.max(v.to_bits() & 0x7fff_ffff);
    f32::from_bits(to.as_flattened().iter().fold(0, largest)).is_finite()
}
