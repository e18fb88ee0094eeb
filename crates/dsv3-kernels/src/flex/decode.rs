//! A weight's rows to lanes of f32, a unit of columns at a time.

use std::ops::Range;

use super::codes::{Int4, Int8};
use super::formats::{Bf16, F16, F32, Fp8};
use super::lanes::{Kernel, LANES, LINE, Lanes, NAN_CODE, prefetch};
use super::rows::Row;

/// Columns that are decoded in one go.
pub(super) const UNIT: usize = 2 * LANES;

/// The values with zeros behind them.
#[inline(always)]
pub(super) fn padded<T: Copy + Default, const N: usize>(rest: &[T]) -> [T; N] {
    let mut to = [T::default(); N];
    to[..rest.len()].copy_from_slice(rest);
    to
}

/// The values of a row, unit by unit.
#[inline(always)]
pub(super) fn fill<L: Lanes, D: Decode>(l: L, row: &D, to: &mut [[f32; UNIT]]) {
    fill_from(l, row, 0, to, 0);
}

/// The values of a row from unit `first` on. Behind the row's end memory is asked for what lies
/// `onward` bytes further.
#[inline(always)]
pub(super) fn fill_from<L: Lanes, D: Decode>(
    l: L,
    row: &D,
    first: usize,
    to: &mut [[f32; UNIT]],
    onward: usize,
) {
    let (per_scale, all) = (row.units_per_scale(), row.units());
    let mut scales = [0f32; LANES];
    let mut known = None;
    let (mut at, end) = (first, first + to.len());
    while at < end {
        let scale = at / per_scale;
        if known != Some(scale / LANES) {
            known = Some(scale / LANES);
            scales = row.scales(l, scale - scale % LANES);
        }
        let factor = row.factor(l, scales[scale % LANES]);
        let stop = (scale + 1).saturating_mul(per_scale).min(end);
        for (at, unit) in (at..stop).zip(&mut to[at - first..stop - first]) {
            let ahead = at + D::AHEAD;
            row.prefetch::<L>(ahead, 1, if ahead < all { 0 } else { onward });
            let values = row.unit(l, at, factor);
            let (halves, _) = unit.as_chunks_mut::<LANES>();
            halves[0] = l.store(values[0]);
            halves[1] = l.store(values[1]);
        }
        at = stop;
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
        let row = &self.row;
        let whole = row.len().is_multiple_of(UNIT) && row.blocks_fit();
        match self.row {
            Row::Fp8 { codes, .. } if !whole || has_nan(codes) => self.slowly(),
            _ if !whole => self.slowly(),
            Row::F32(_) => fill(l, &F32::new(self.row), self.to),
            Row::Bf16(_) => fill(l, &Bf16::new(self.row), self.to),
            Row::F16(_) => fill(l, &F16::new(self.row), self.to),
            Row::Int8(_) => fill(l, &Int8::new(self.row), self.to),
            Row::Int4(_) => fill(l, &Int4::new(self.row), self.to),
            Row::Fp8 { .. } => fill(l, &Fp8::<UNIT>::new(self.row), self.to),
        }
    }
}

impl Decoded<'_> {
    /// One value after another.
    fn slowly(self) {
        let to = self.to.as_flattened_mut();
        let (values, rest) = to.split_at_mut(self.row.len());
        self.row.decode(values);
        rest.fill(0.0);
    }
}

/// Whether any e4m3 code is NaN.
#[inline(always)]
pub(super) fn has_nan(codes: &[u8]) -> bool {
    let largest = |largest: u8, code: &u8| largest.max(code & NAN_CODE);
    codes.iter().fold(0, largest) == NAN_CODE
}

/// Whether blocks are of whole units, and leave their scales room for
/// [`E4M3_UNBIAS`](super::lanes::E4M3_UNBIAS) beside them.
pub(super) fn blocks_fit(columns: usize, scales: &[f32]) -> bool {
    columns.is_multiple_of(UNIT) && scales.iter().all(|scale| scale.abs() < 128.0)
}

/// A row of whole units.
pub(super) trait Decode: Copy {
    /// Units between what is decoded and what is asked of memory: about 2 KiB of the row.
    const AHEAD: usize;
    /// The same where registers keep the sums of one row.
    const NARROW_AHEAD: usize = Self::AHEAD;
    /// From so many tokens on, rows are decoded to a buffer: fewer meet them in the registers.
    const BUFFERED_FROM: usize = 5;
    /// The same where registers are as many as AVX-512's.
    const WIDE_BUFFERED_FROM: usize = 33;
    /// The same where the sums of one row at a time are all that the registers hold: a tile of decoded
    /// rows is small there, and hardly faster than to decode them again.
    const NARROW_BUFFERED_FROM: usize = 17;
    /// Whether AVX-512's registers meet five tokens at once sooner than four: where decoding is dear.
    const PREFERS_FIVE: bool = false;
    /// Whether values are pairs of bf16.
    const PAIRS: bool = false;

    /// How many.
    fn units(&self) -> usize;
    /// Units that share a scale: all, where there is none.
    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        usize::MAX
    }
    /// Scales `first..first + 16`, what is behind the last of them filled up.
    #[inline(always)]
    fn scales<L: Lanes>(&self, _: L, _: usize) -> [f32; LANES] {
        [1.0; LANES]
    }
    /// Scale `at`.
    #[inline(always)]
    fn scale<L: Lanes>(&self, lanes: L, at: usize) -> f32 {
        self.scales(lanes, at)[0]
    }
    /// A scale in whatever form `unit` takes it.
    type Factor<L: Lanes>: Copy;
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> Self::Factor<L>;
    /// Whether rows that are worked on together share their scales.
    const SHARED: bool = false;
    /// Ask memory for what lies `distance` bytes behind so many units.
    fn prefetch<L: Lanes>(&self, unit: usize, count: usize, distance: usize);
    /// The same for what lies so far behind scales `first..first + 16`, where they lie in the rows.
    #[inline(always)]
    fn prefetch_scales<L: Lanes>(&self, _first: usize, _distance: usize) {}
    /// Some of its units. Their scales are not looked for.
    fn part(&self, units: Range<usize>) -> Self;
    /// The values of a unit, or pairs of them.
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, factor: Self::Factor<L>) -> [L::F; 2];
    /// Whether a unit of each of some rows, which share their scales, is one for
    /// [`normal_unit`](Self::normal_unit).
    #[inline(always)]
    fn are_normal<L: Lanes, const R: usize>(_: L, _rows: &[Self; R], _unit: usize) -> bool {
        false
    }
    /// A scale in whatever form `normal_unit` takes it.
    #[inline(always)]
    fn normal_factor<L: Lanes>(lanes: L, scale: f32) -> L::F {
        lanes.splat(scale)
    }
    /// As `unit`, sooner, of codes that are all normal numbers.
    #[inline(always)]
    fn normal_unit<L: Lanes>(&self, lanes: L, unit: usize, factor: L::F) -> [L::F; 2] {
        let scale = lanes.store(factor)[0];
        self.unit(lanes, unit, self.factor(lanes, scale))
    }
    /// The largest codes without their signs, so far and of a unit, where [`NAN_CODE`] is one.
    #[inline(always)]
    fn largest<L: Lanes>(&self, _: L, _: usize, so_far: L::I) -> L::I {
        so_far
    }
    /// `sum + values · x`, where `x` is of the same form.
    #[inline(always)]
    fn multiply<L: Lanes>(lanes: L, values: L::F, x: L::F, sum: L::F) -> L::F {
        lanes.mul_add(values, x, sum)
    }
}

/// How far ahead of a row's decoding memory is asked. Four rows side by side have 8 KiB under way:
/// what a core reads in the time that memory takes to answer, a few times over.
pub(super) const AHEAD_BYTES: usize = 2048;
/// The same where little is done with a byte, on AVX2: what has been asked for and is not there yet
/// is more than a core keeps account of.
pub(super) const NARROW_AHEAD_BYTES: usize = 256;

/// Ask for what lies behind `count` units from `at` on, once for each line.
#[inline(always)]
pub(super) fn prefetch_behind<L: Lanes, const N: usize>(
    units: *const [u8; N],
    at: usize,
    count: usize,
    distance: usize,
) {
    if count * N >= LINE || (at * N).is_multiple_of(LINE) {
        let at = units.cast::<u8>().wrapping_add(at * N + distance);
        for line in 0..(count * N).div_ceil(LINE) {
            prefetch::<L>(at.wrapping_add(line * LINE));
        }
    }
}

/// What of [`Decode`] is the same in all formats without scales.
macro_rules! without_scales {
    ($of:path) => {
        type Factor<L: Lanes> = ();

        #[inline(always)]
        fn factor<L: Lanes>(&self, _: L, _: f32) {}

        #[inline(always)]
        fn units(&self) -> usize {
            self.0.len()
        }

        #[inline(always)]
        fn part(&self, units: Range<usize>) -> Self {
            $of(&self.0[units])
        }
    };
}
pub(super) use without_scales;

/// What of [`Decode`] is the same in all formats of codes with scales.
macro_rules! with_scales {
    ($of:ident) => {
        #[inline(always)]
        fn units(&self) -> usize {
            self.codes.len()
        }

        #[inline(always)]
        fn units_per_scale(&self) -> usize {
            self.units_per_scale
        }

        #[inline(always)]
        fn prefetch<L: Lanes>(&self, unit: usize, count: usize, distance: usize) {
            prefetch_behind::<L, _>(self.codes.as_ptr(), unit, count, distance);
        }

        #[inline(always)]
        fn part(&self, units: Range<usize>) -> Self {
            $of {
                codes: &self.codes[units],
                ..*self
            }
        }
    };
}
pub(super) use with_scales;

/// Two halves of a unit of `N` bytes, `H = N / 2`.
#[inline(always)]
pub(super) fn halves<const N: usize, const H: usize>(unit: &[u8; N]) -> [&[u8; H]; 2] {
    let (halves, _) = unit.as_chunks::<H>();
    [&halves[0], &halves[1]]
}
