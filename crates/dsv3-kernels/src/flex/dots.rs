//! Rows of weights times rows of activations: the inner kernel of every linear layer.
//!
//! A weight is decoded in registers, once for up to four tokens and beside three other rows, and
//! never written anywhere; with many tokens a few rows are decoded to a buffer in the cache first.
//! Each product of a row and a token is summed in sixteen lanes of its own, over the columns in
//! their order, so its bits depend neither on the other rows and tokens of the call nor on the
//! machine.

use std::ops::Range;

use half::f16;

use super::lanes::{E4M3_UNBIAS, Kernel, LANES, Lanes};
use super::rows::{Row, Rows};

/// Columns that are decoded in one go.
pub(super) const UNIT: usize = 2 * LANES;
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

/// The values with zeros behind them.
#[inline(always)]
pub(super) fn padded<T: Copy + Default, const N: usize>(rest: &[T]) -> [T; N] {
    let mut to = [T::default(); N];
    to[..rest.len()].copy_from_slice(rest);
    to
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
            [Row::Int8 { .. }, ..] => self.decoded(rows.map(Int8::new), buffer),
            [Row::Int4 { .. }, ..] => self.decoded(rows.map(Int4::new), buffer),
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
        Row::Fp8 { codes, .. } | Row::Int8 { codes, .. } => codes.len(),
        Row::Int4 { codes, .. } => 2 * codes.len(),
    }
}

/// The values of a row, unit by unit.
#[inline(always)]
fn fill<L: Lanes, D: Decode>(l: L, row: &D, to: &mut [[f32; UNIT]]) {
    for (at, units) in to.chunks_mut(row.units_per_scale()).enumerate() {
        let scale = row.scale(l, at);
        for (i, unit) in units.iter_mut().enumerate() {
            let values = row.unit(l, at.wrapping_mul(row.units_per_scale()) + i, scale);
            let (halves, _) = unit.as_chunks_mut::<LANES>();
            halves[0] = l.store(values[0]);
            halves[1] = l.store(values[1]);
        }
    }
}

/// One row as f32, in whole units filled up with zeros.
pub(super) struct Decoded<'a> {
    pub(super) row: Row<'a>,
    pub(super) to: &'a mut [[f32; UNIT]],
}

impl Kernel for Decoded<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        match self.row {
            Row::F32(_) => fill(l, &F32::new(self.row), self.to),
            Row::Bf16(_) => fill(l, &Bf16::new(self.row), self.to),
            Row::F16(_) => fill(l, &F16::new(self.row), self.to),
            Row::Int8 { .. } => fill(l, &Int8::new(self.row), self.to),
            Row::Int4 { .. } => fill(l, &Int4::new(self.row), self.to),
            Row::Fp8 { codes, block, .. } => {
                if block.is_multiple_of(UNIT) && unbiasable(&self.row) && !has_nan(codes) {
                    return fill(l, &Fp8::new(self.row), self.to);
                }
                let mut values = vec![0f32; self.to.len() * UNIT];
                self.row.decode(&mut values[..codes.len()]);
                self.to.copy_from_slice(values.as_chunks::<UNIT>().0);
            }
        }
    }
}

/// Whether any e4m3 code is NaN.
#[inline(always)]
fn has_nan(codes: &[u8]) -> bool {
    let is_nan = |code: &u8| u8::from(code & 0x7f == 0x7f);
    codes.iter().fold(0, |any, code| any | is_nan(code)) != 0
}

/// Whether a row's scales leave room for [`E4M3_UNBIAS`] beside them.
#[inline(always)]
fn unbiasable(row: &Row<'_>) -> bool {
    match row {
        Row::Fp8 { scales, .. } => scales.iter().all(|scale| *scale < 128.0),
        _ => true,
    }
}

/// A row of whole units.
trait Decode {
    /// Units that share a scale.
    fn units_per_scale(&self) -> usize;
    /// What the units of scale `at` are multiplied by, in whatever form `unit` takes it.
    fn scale<L: Lanes>(&self, lanes: L, at: usize) -> L::F;
    /// The values of a unit.
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2];
}

/// Units of `N` bytes, the last one padded.
#[derive(Clone, Copy)]
struct Units<'a, const N: usize> {
    full: &'a [[u8; N]],
    last: [u8; N],
}

impl<'a, const N: usize> Units<'a, N> {
    #[inline(always)]
    fn new(bytes: &'a [u8]) -> Self {
        let (full, rest) = bytes.as_chunks::<N>();
        Units {
            full,
            last: padded(rest),
        }
    }

    /// Two halves of unit `at`, `H = N / 2`.
    #[inline(always)]
    fn halves<const H: usize>(&self, at: usize) -> [&[u8; H]; 2] {
        let (halves, _) = self.full.get(at).unwrap_or(&self.last).as_chunks::<H>();
        [&halves[0], &halves[1]]
    }
}

/// A format without scales.
macro_rules! unscaled {
    ($name:ident, $bytes:literal, $doc:literal, $row:pat => $data:expr, $decode:ident) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        struct $name<'a>(Units<'a, { 2 * $bytes }>);

        impl<'a> $name<'a> {
            #[inline(always)]
            fn new(row: Row<'a>) -> Self {
                let bytes: &[u8] = match row {
                    $row => $data,
                    _ => &[],
                };
                $name(Units::new(bytes))
            }
        }

        impl Decode for $name<'_> {
            #[inline(always)]
            fn units_per_scale(&self) -> usize {
                usize::MAX
            }

            #[inline(always)]
            fn scale<L: Lanes>(&self, lanes: L, _: usize) -> L::F {
                lanes.splat(1.0)
            }

            #[inline(always)]
            fn unit<L: Lanes>(&self, lanes: L, unit: usize, _: L::F) -> [L::F; 2] {
                self.0
                    .halves::<$bytes>(unit)
                    .map(|half| lanes.$decode(half))
            }
        }
    };
}

unscaled!(Bf16, 32, "Two bytes a value.", Row::Bf16(bytes) => bytes, bf16);
unscaled!(F16, 32, "Two bytes a value.", Row::F16(bytes) => bytes, f16);

/// f32 where it lies.
#[derive(Clone, Copy)]
struct F32<'a> {
    full: &'a [[f32; UNIT]],
    last: [f32; UNIT],
}

impl<'a> F32<'a> {
    #[inline(always)]
    fn new(row: Row<'a>) -> Self {
        let values: &[f32] = match row {
            Row::F32(values) => values,
            _ => &[],
        };
        let (full, rest) = values.as_chunks::<UNIT>();
        F32 {
            full,
            last: padded(rest),
        }
    }
}

impl Decode for F32<'_> {
    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn scale<L: Lanes>(&self, lanes: L, _: usize) -> L::F {
        lanes.splat(1.0)
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, _: L::F) -> [L::F; 2] {
        let (halves, _) = self.full.get(unit).unwrap_or(&self.last).as_chunks();
        [lanes.load(&halves[0]), lanes.load(&halves[1])]
    }
}

/// A row that was decoded before.
#[derive(Clone, Copy)]
struct Buffered<'a>(&'a [[f32; UNIT]]);

impl Decode for Buffered<'_> {
    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn scale<L: Lanes>(&self, lanes: L, _: usize) -> L::F {
        lanes.splat(1.0)
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, _: L::F) -> [L::F; 2] {
        let (halves, _) = self.0[unit].as_chunks();
        [lanes.load(&halves[0]), lanes.load(&halves[1])]
    }
}

/// e4m3 with a scale for a number of whole units.
#[derive(Clone, Copy)]
struct Fp8<'a> {
    codes: Units<'a, UNIT>,
    scales: &'a [f32],
    units_per_scale: usize,
}

impl<'a> Fp8<'a> {
    #[inline(always)]
    fn new(row: Row<'a>) -> Self {
        let (codes, scales, block): (&[u8], &[f32], usize) = match row {
            Row::Fp8 {
                codes,
                scales,
                block,
            } => (codes, scales, block),
            _ => (&[], &[], UNIT),
        };
        Fp8 {
            codes: Units::new(codes),
            scales,
            units_per_scale: block / UNIT,
        }
    }
}

impl Decode for Fp8<'_> {
    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        self.units_per_scale
    }

    /// The scale and what the codes' bits are short of: one exact factor.
    #[inline(always)]
    fn scale<L: Lanes>(&self, lanes: L, at: usize) -> L::F {
        lanes.splat(self.scales[at] * E4M3_UNBIAS)
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2] {
        let halves = self.codes.halves::<LANES>(unit);
        halves.map(|half| lanes.mul(lanes.e4m3(half), scale))
    }
}

/// i8 codes with an f16 scale for a number of whole units.
#[derive(Clone, Copy)]
struct Int8<'a> {
    codes: Units<'a, UNIT>,
    scales: &'a [[u8; 2]],
    units_per_scale: usize,
}

impl<'a> Int8<'a> {
    #[inline(always)]
    fn new(row: Row<'a>) -> Self {
        let (codes, scales, columns): (&[u8], &[[u8; 2]], usize) = match row {
            Row::Int8 {
                codes,
                scales,
                columns,
            } => (codes, scales, columns),
            _ => (&[], &[], UNIT),
        };
        Int8 {
            codes: Units::new(codes),
            scales,
            units_per_scale: columns / UNIT,
        }
    }
}

impl Decode for Int8<'_> {
    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        self.units_per_scale
    }

    #[inline(always)]
    fn scale<L: Lanes>(&self, lanes: L, at: usize) -> L::F {
        lanes.splat(f16::from_le_bytes(self.scales[at]).to_f32())
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2] {
        let halves = self.codes.halves::<LANES>(unit);
        halves.map(|half| lanes.mul(lanes.i8(half), scale))
    }
}

/// Four-bit codes with an f16 scale for a number of whole units.
#[derive(Clone, Copy)]
struct Int4<'a> {
    codes: &'a [[u8; LANES]],
    scales: &'a [[u8; 2]],
    units_per_scale: usize,
}

impl<'a> Int4<'a> {
    #[inline(always)]
    fn new(row: Row<'a>) -> Self {
        let (codes, scales, columns): (&[u8], &[[u8; 2]], usize) = match row {
            Row::Int4 {
                codes,
                scales,
                columns,
            } => (codes, scales, columns),
            _ => (&[], &[], UNIT),
        };
        Int4 {
            codes: codes.as_chunks().0,
            scales,
            units_per_scale: columns / UNIT,
        }
    }
}

impl Decode for Int4<'_> {
    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        self.units_per_scale
    }

    /// The values of all sixteen codes.
    #[inline(always)]
    fn scale<L: Lanes>(&self, lanes: L, at: usize) -> L::F {
        let codes: [f32; LANES] = std::array::from_fn(|code| code as f32 - 8.0);
        let scale = f16::from_le_bytes(self.scales[at]).to_f32();
        lanes.mul(lanes.load(&codes), lanes.splat(scale))
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, values: L::F) -> [L::F; 2] {
        lanes.nibbles(&self.codes[unit], values)
    }
}
