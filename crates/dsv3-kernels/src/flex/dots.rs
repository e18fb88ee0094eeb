//! Rows of weights times rows of activations: the inner kernel of every linear layer.
//!
//! A weight is decoded in registers, once for up to four tokens and beside three other rows, and
//! never written anywhere; with many tokens a few rows are decoded to a buffer in the cache first.
//! Each product of a row and a token is summed in sixteen lanes of its own, over the columns in
//! their order, so its bits depend neither on the other rows and tokens of the call nor on the
//! machine.

use std::ops::Range;

use super::blocks::{BLOCK_ROWS, Block, Buffer};
use super::decode::{Bf16, Buffered, Decode, F16, F32, Fp8, Int4, Int8, UNIT, has_nan, padded};
use super::lanes::{Kernel, LANES, Lanes};
use super::pairs::{Bf16Pairs, Fp8Pairs, pairs_of};
use super::rows::{Blocks, Row, Rows, View};
use crate::packed::{GroupCodes, HalfFormat};

/// Rows that are read side by side.
pub(super) const ROWS: usize = 4;

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
        let step = self.step::<Fp8<'_>>();
        for at in self.range.clone().step_by(step) {
            let end = (at + step).min(self.range.end);
            self.rows(at..end, &|i| Fp8::<UNIT>::new(blocks.row(i)));
            self.spoil(blocks, at..end);
        }
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

    /// As they lie for few tokens, from a buffer for many.
    #[inline(always)]
    fn rows<D: Decode>(&mut self, range: Range<usize>, row: &impl Fn(usize) -> D) {
        let tokens = self.x.tokens();
        if tokens < D::BUFFERED_FROM {
            let (rows, count) = Self::group(range.start, range.end, row);
            let mut out = self.out(range.start, count);
            let mut t = 0;
            while t < tokens {
                t += out.tokens(&rows, t);
            }
            return;
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

/// Where the products of a few rows go.
struct Group<'a, 'y, L: Lanes> {
    lanes: L,
    x: Chosen<'a>,
    y: &'a mut [&'y mut [f32]],
    /// Where they stand in each token's `y`.
    at: Range<usize>,
    /// Bytes from one row to the next.
    row_bytes: usize,
}

impl<L: Lanes> Group<'_, '_, L> {
    /// As many tokens from `t` on as fit the registers; says how many.
    #[inline(always)]
    fn tokens<D: Decode>(&mut self, rows: &[D; ROWS], t: usize) -> usize {
        match self.x.tokens() - t {
            1 => self.tile::<D, 1>(rows, t),
            2 => self.tile::<D, 2>(rows, t),
            3 => self.tile::<D, 3>(rows, t),
            _ => self.tile::<D, 4>(rows, t),
        }
    }

    /// Four rows and `T` tokens; says how many tokens that were.
    #[inline(always)]
    fn tile<D: Decode, const T: usize>(&mut self, rows: &[D; ROWS], first: usize) -> usize {
        let l = self.lanes;
        let x: [&[[f32; UNIT]]; T] = std::array::from_fn(|t| self.x.token(first + t));
        let units = rows[0].units();
        // Said once, so that the loop need not look at every index.
        assert!(rows[1].units() >= units && rows[2].units() >= units && rows[3].units() >= units);
        for x in &x {
            assert!(x.len() >= units);
        }
        // Nobody asked memory for the first rows before.
        if self.at.start == 0 && first == 0 {
            for unit in 0..D::AHEAD.min(units) {
                for row in rows {
                    row.prefetch(unit, 0);
                }
            }
        }
        let mut sums = [[l.splat(0.0); T]; ROWS];
        let per_scale = rows[0].units_per_scale();
        let mut scales = [[0f32; LANES]; ROWS];
        let (mut begin, mut at) = (0, 0);
        while begin < units {
            let end = begin.saturating_add(per_scale).min(units);
            if at % LANES == 0 {
                scales[0] = rows[0].scales(l, at);
            }
            let shared = rows[0].factor(l, scales[0][at % LANES]);
            let mut factors = [shared; ROWS];
            if !D::SHARED {
                for r in 1..ROWS {
                    if at % LANES == 0 {
                        scales[r] = rows[r].scales(l, at);
                    }
                    factors[r] = rows[r].factor(l, scales[r][at % LANES]);
                }
            }
            for unit in begin..end {
                let x: [&[[f32; LANES]]; T] =
                    std::array::from_fn(|t| x[t][unit].as_chunks::<LANES>().0);
                let ahead = match unit + D::AHEAD < units {
                    true => 0,
                    // The ends of the rows: on to the next group.
                    false => (ROWS - 1) * self.row_bytes,
                };
                for r in 0..ROWS {
                    if first == 0 {
                        rows[r].prefetch(unit + D::AHEAD, ahead);
                    }
                    let factor = match D::SHARED {
                        true => shared,
                        false => factors[r],
                    };
                    let [a, b] = rows[r].unit(l, unit, factor);
                    for t in 0..T {
                        sums[r][t] = D::multiply(l, a, l.load(&x[t][0]), sums[r][t]);
                        sums[r][t] = D::multiply(l, b, l.load(&x[t][1]), sums[r][t]);
                    }
                }
            }
            (begin, at) = (end, at + 1);
        }
        let totals = reduced(l, &sums);
        for (t, y) in self.y[first..first + T].iter_mut().enumerate() {
            for (y, totals) in y[self.at.clone()].iter_mut().zip(&totals) {
                *y = totals[t];
            }
        }
        T
    }
}

/// The lanes of each sum added up.
#[inline(always)]
pub(super) fn reduced<L: Lanes, const T: usize>(
    l: L,
    sums: &[[L::F; T]; ROWS],
) -> [[f32; T]; ROWS] {
    let mut to = [[0f32; T]; ROWS];
    // Four tokens at a time: with four rows sixteen sums.
    let mut first = 0;
    while first < T {
        let mut sixteen = [l.splat(0.0); LANES];
        for (r, sums) in sums.iter().enumerate() {
            for t in first..(first + 4).min(T) {
                sixteen[4 * r + t - first] = sums[t];
            }
        }
        let totals = l.sums(sixteen);
        for (r, to) in to.iter_mut().enumerate() {
            for t in first..(first + 4).min(T) {
                to[t] = totals[4 * r + t - first];
            }
        }
        first += 4;
    }
    to
}
