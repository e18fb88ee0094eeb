//! Rows of weights times rows of activations: the inner kernel of every linear layer.
//!
//! A weight is decoded in registers, once for up to four tokens and beside three other rows, and
//! never written anywhere; with many tokens a few rows are decoded to a buffer in the cache first.
//! Each product of a row and a token is summed in sixteen lanes of its own, over the columns in
//! their order, so its bits depend neither on the other rows and tokens of the call nor on the
//! machine.

use std::ops::Range;

use super::decode::{
    Bf16, Buffered, Decode, F16, F32, Fp8, Int4, Int8, UNIT, fill, has_nan, padded, unbiasable,
};
use super::lanes::{Kernel, LANES, Lanes};
use super::rows::{Row, Rows};

/// Rows that are read side by side.
const ROWS: usize = 4;
/// From so many tokens on, rows are decoded to a buffer.
const BUFFERED_FROM: usize = 9;

/// Activations `[T, in]`, padded with zeros to whole units.
pub(super) struct Activated<'a> {
    /// `[T, units]`
    units: std::borrow::Cow<'a, [[f32; UNIT]]>,
    tokens: usize,
}

impl<'a> Activated<'a> {
    /// `x [T, in]`; borrowed where `in` is a number of whole units.
    pub(super) fn new(x: &'a [f32], tokens: usize) -> Self {
        let input = x.len() / tokens.max(1);
        let units = match x.as_chunks::<UNIT>() {
            (units, []) if input.is_multiple_of(UNIT) => units.into(),
            _ => padded_rows(x.chunks_exact(input.max(1))).into(),
        };
        Activated { units, tokens }
    }

    /// Units of token `t`.
    #[inline(always)]
    fn token(&self, t: usize) -> &[[f32; UNIT]] {
        let n = self.units.len() / self.tokens.max(1);
        &self.units[t * n..][..n]
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

/// `rows[range] · x`; `y [rows of the range, T]`.
pub(super) struct Dots<'a> {
    pub(super) x: &'a Activated<'a>,
    pub(super) rows: &'a Rows,
    pub(super) range: Range<usize>,
    pub(super) y: &'a mut [f32],
    /// Room for decoded rows, kept from call to call.
    pub(super) buffer: &'a mut Vec<[f32; UNIT]>,
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let tokens = self.x.tokens;
        if tokens == 0 {
            return;
        }
        let mut y = self.y.chunks_mut(ROWS * tokens);
        let mut at = self.range.start;
        while at < self.range.end {
            let Some(y) = y.next() else { return };
            let count = (self.range.end - at).min(ROWS);
            // Where there are fewer than four rows left the last one is taken again.
            let group: [Row<'_>; ROWS] =
                std::array::from_fn(|r| self.rows.row(at + r.min(count - 1)));
            let mut out = Group {
                lanes,
                x: self.x,
                y,
                count,
            };
            out.rows(group, self.buffer);
            at += count;
        }
    }
}

/// Where the products of a few rows go.
struct Group<'a, L: Lanes> {
    lanes: L,
    x: &'a Activated<'a>,
    /// `[count, T]`
    y: &'a mut [f32],
    count: usize,
}

impl<L: Lanes> Group<'_, L> {
    #[inline(always)]
    fn rows(&mut self, rows: [Row<'_>; ROWS], buffer: &mut Vec<[f32; UNIT]>) {
        let in_units = |block: usize| block.is_multiple_of(UNIT);
        match rows {
            [Row::F32(_), ..] => self.tokens(rows.map(F32::new)),
            [Row::Bf16(_), ..] => self.decoded(rows.map(Bf16::new), buffer),
            [Row::F16(_), ..] => self.decoded(rows.map(F16::new), buffer),
            [Row::Fp8 { block, .. }, ..] if in_units(block) && rows.iter().all(unbiasable) => {
                self.decoded(rows.map(Fp8::new), buffer);
                self.refuse_nan(&rows);
            }
            [Row::Int8(_), ..] => self.decoded(rows.map(Int8::new), buffer),
            [Row::Int4(_), ..] => self.decoded(rows.map(Int4::new), buffer),
            // Blocks that end within a unit, or scales out of all proportion: no checkpoint that
            // we know of has them.
            _ => {
                let mut values = vec![0f32; ROWS * length(&rows[0])];
                let width = values.len() / ROWS;
                for (to, row) in values.chunks_exact_mut(width.max(1)).zip(&rows) {
                    row.decode(to);
                }
                let rows =
                    std::array::from_fn(|r| F32::new(Row::F32(&values[r * width..][..width])));
                self.tokens(rows);
            }
        }
    }

    /// As they lie for few tokens, from a buffer for many.
    #[inline(always)]
    fn decoded<D: Decode>(&mut self, rows: [D; ROWS], buffer: &mut Vec<[f32; UNIT]>) {
        if self.x.tokens < BUFFERED_FROM {
            return self.tokens(rows);
        }
        let units = self.x.token(0).len();
        buffer.resize(ROWS * units, [0.0; UNIT]);
        for (row, to) in rows.iter().zip(buffer.chunks_exact_mut(units.max(1))) {
            fill(self.lanes, row, to);
        }
        let rows = std::array::from_fn(|r| Buffered(&buffer[r * units..][..units]));
        self.tokens(rows);
    }

    #[inline(always)]
    fn tokens<D: Decode>(&mut self, rows: [D; ROWS]) {
        let mut t = 0;
        while t < self.x.tokens {
            t += match self.x.tokens - t {
                1 => self.tile::<D, 1>(&rows, t),
                2 | 3 => self.tile::<D, 2>(&rows, t),
                _ => self.tile::<D, 4>(&rows, t),
            };
        }
    }

    /// Four rows and `T` tokens; says how many tokens that were.
    #[inline(always)]
    fn tile<D: Decode, const T: usize>(&mut self, rows: &[D; ROWS], first: usize) -> usize {
        let l = self.lanes;
        let x: [&[[f32; UNIT]]; T] = std::array::from_fn(|t| self.x.token(first + t));
        let units = x[0].len();
        let mut sums = [[l.splat(0.0); T]; ROWS];
        let per_scale = rows[0].units_per_scale();
        let mut begin = 0;
        while begin < units {
            let end = begin.saturating_add(per_scale).min(units);
            let scales: [L::F; ROWS] = std::array::from_fn(|r| rows[r].scale(l, begin / per_scale));
            for unit in begin..end {
                let x: [&[[f32; LANES]]; T] =
                    std::array::from_fn(|t| x[t][unit].as_chunks::<LANES>().0);
                for r in 0..ROWS {
                    let [a, b] = rows[r].unit(l, unit, scales[r]);
                    for t in 0..T {
                        sums[r][t] = l.mul_add(a, l.load(&x[t][0]), sums[r][t]);
                        sums[r][t] = l.mul_add(b, l.load(&x[t][1]), sums[r][t]);
                    }
                }
            }
            begin = end;
        }
        for (y, sums) in self.y.chunks_exact_mut(self.x.tokens).zip(&sums) {
            for (t, sum) in sums.iter().enumerate() {
                y[first + t] = l.sum(*sum);
            }
        }
        debug_assert!(self.y.len() == self.count * self.x.tokens);
        T
    }

    /// The kernel reads e4m3's NaN codes as numbers; a row that has one gives NaN.
    #[inline(always)]
    fn refuse_nan(&mut self, rows: &[Row<'_>; ROWS]) {
        for (y, row) in self.y.chunks_exact_mut(self.x.tokens).zip(rows) {
            let Row::Fp8 { codes, .. } = row else {
                continue;
            };
            if has_nan(codes) {
                y.fill(f32::NAN);
            }
        }
    }
}

/// Values of a row.
fn length(row: &Row<'_>) -> usize {
    match row {
        Row::F32(values) => values.len(),
        Row::Bf16(bytes) | Row::F16(bytes) => bytes.len() / 2,
        Row::Fp8 { codes, .. } => codes.len(),
        Row::Int8(coded) => coded.codes.len(),
        Row::Int4(coded) => 2 * coded.codes.len(),
    }
}
