//! A weight's rows to lanes of f32, a unit of columns at a time.

use super::lanes::{E4M3_UNBIAS, Kernel, LANES, Lanes, prefetch};
use super::rows::{Coded, Row};

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
            row.prefetch(ahead, if ahead < all { 0 } else { onward });
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
    let largest = |largest: u8, code: &u8| largest.max(code & 0x7f);
    codes.iter().fold(0, largest) == 0x7f
}

/// Whether blocks are of whole units, and leave their scales room for [`E4M3_UNBIAS`] beside them.
pub(super) fn blocks_fit(columns: usize, scales: &[f32]) -> bool {
    columns.is_multiple_of(UNIT) && scales.iter().all(|scale| *scale < 128.0)
}

/// A row of whole units.
pub(super) trait Decode {
    /// Units between what is decoded and what is asked of memory: about 2 KiB of the row.
    const AHEAD: usize;
    /// From so many tokens on, rows are decoded to a buffer: fewer meet them in the registers.
    const BUFFERED_FROM: usize = 5;

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
    /// A scale in whatever form `unit` takes it.
    type Factor<L: Lanes>: Copy;
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> Self::Factor<L>;
    /// Whether rows that are worked on together share their scales.
    const SHARED: bool = false;
    /// Ask memory for what lies `distance` bytes behind a unit.
    fn prefetch(&self, unit: usize, distance: usize);
    /// The values of a unit, or pairs of them.
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, factor: Self::Factor<L>) -> [L::F; 2];
    /// `sum + values · x`, where `x` is of the same form.
    #[inline(always)]
    fn multiply<L: Lanes>(lanes: L, values: L::F, x: L::F, sum: L::F) -> L::F {
        lanes.mul_add(values, x, sum)
    }
}

/// How far ahead of a row's decoding memory is asked. Four rows side by side have 8 KiB under way:
/// what a core reads in the time that memory takes to answer, a few times over.
pub(super) const AHEAD_BYTES: usize = 2048;

/// Bytes that memory gives at once.
const LINE: usize = 64;

/// Ask for what lies behind unit `at`, once for each line.
#[inline(always)]
pub(super) fn prefetch_behind<const N: usize>(units: *const [u8; N], at: usize, distance: usize) {
    if N >= LINE || (at * N).is_multiple_of(LINE) {
        let at = units.cast::<u8>().wrapping_add(at * N + distance);
        prefetch(at);
        if N > LINE {
            prefetch(at.wrapping_add(LINE));
        }
    }
}

/// Two halves of a unit of `N` bytes, `H = N / 2`.
#[inline(always)]
fn halves<const N: usize, const H: usize>(unit: &[u8; N]) -> [&[u8; H]; 2] {
    let (halves, _) = unit.as_chunks::<H>();
    [&halves[0], &halves[1]]
}

/// A format without scales.
macro_rules! unscaled {
    ($name:ident, $bytes:literal, $doc:literal, $row:pat => $data:expr, $decode:ident) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        pub(super) struct $name<'a>(&'a [[u8; 2 * $bytes]]);

        impl<'a> $name<'a> {
            #[inline(always)]
            pub(super) fn new(row: Row<'a>) -> Self {
                let bytes: &[u8] = match row {
                    $row => $data,
                    _ => &[],
                };
                $name(bytes.as_chunks().0)
            }
        }

        impl Decode for $name<'_> {
            const AHEAD: usize = AHEAD_BYTES / (2 * $bytes);
            type Factor<L: Lanes> = ();

            #[inline(always)]
            fn factor<L: Lanes>(&self, _: L, _: f32) {}

            #[inline(always)]
            fn units(&self) -> usize {
                self.0.len()
            }

            #[inline(always)]
            fn prefetch(&self, unit: usize, distance: usize) {
                prefetch_behind(self.0.as_ptr(), unit, distance);
            }

            #[inline(always)]
            fn unit<L: Lanes>(&self, lanes: L, unit: usize, (): ()) -> [L::F; 2] {
                let halves = halves::<{ 2 * $bytes }, $bytes>(&self.0[unit]);
                [lanes.$decode(halves[0]), lanes.$decode(halves[1])]
            }
        }
    };
}

unscaled!(Bf16, 32, "Two bytes a value.", Row::Bf16(bytes) => bytes, bf16);
unscaled!(F16, 32, "Two bytes a value.", Row::F16(bytes) => bytes, f16);

/// f32 where it lies.
#[derive(Clone, Copy)]
pub(super) struct F32<'a>(&'a [[f32; UNIT]]);

impl<'a> F32<'a> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
        let values: &[f32] = match row {
            Row::F32(values) => values,
            _ => &[],
        };
        F32(values.as_chunks().0)
    }
}

impl Decode for F32<'_> {
    const AHEAD: usize = AHEAD_BYTES / (4 * UNIT);
    type Factor<L: Lanes> = ();

    #[inline(always)]
    fn factor<L: Lanes>(&self, _: L, _: f32) {}

    #[inline(always)]
    fn units(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn prefetch(&self, unit: usize, distance: usize) {
        prefetch_behind::<{ 4 * UNIT }>(self.0.as_ptr().cast(), unit, distance);
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, (): ()) -> [L::F; 2] {
        let (halves, _) = self.0[unit].as_chunks();
        [lanes.load(&halves[0]), lanes.load(&halves[1])]
    }
}

/// A row that was decoded before.
#[derive(Clone, Copy)]
pub(super) struct Buffered<'a>(pub(super) &'a [[f32; UNIT]]);

impl Decode for Buffered<'_> {
    const AHEAD: usize = 0;
    type Factor<L: Lanes> = ();

    #[inline(always)]
    fn factor<L: Lanes>(&self, _: L, _: f32) {}

    #[inline(always)]
    fn units(&self) -> usize {
        self.0.len()
    }

    /// It lies in the cache.
    #[inline(always)]
    fn prefetch(&self, _: usize, _: usize) {}

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, (): ()) -> [L::F; 2] {
        let (halves, _) = self.0[unit].as_chunks();
        [lanes.load(&halves[0]), lanes.load(&halves[1])]
    }
}

/// e4m3 with a scale for a number of whole units of `N` columns.
#[derive(Clone, Copy)]
pub(super) struct Fp8<'a, const N: usize = UNIT> {
    pub(super) codes: &'a [[u8; N]],
    pub(super) scales: &'a [f32],
    pub(super) units_per_scale: usize,
}

impl<'a, const N: usize> Fp8<'a, N> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
        let (codes, scales, block): (&[u8], &[f32], usize) = match row {
            Row::Fp8 {
                codes,
                scales,
                block,
            } => (codes, scales, block),
            _ => (&[], &[], N),
        };
        Fp8 {
            codes: codes.as_chunks().0,
            scales,
            units_per_scale: block / N,
        }
    }
}

impl Decode for Fp8<'_> {
    const AHEAD: usize = AHEAD_BYTES / UNIT;
    type Factor<L: Lanes> = L::F;

    #[inline(always)]
    fn units(&self) -> usize {
        self.codes.len()
    }

    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        self.units_per_scale
    }

    #[inline(always)]
    fn scales<L: Lanes>(&self, _: L, first: usize) -> [f32; LANES] {
        first_scales(&self.scales[first..])
    }

    /// The scale and what the codes' bits are short of: one exact factor.
    #[inline(always)]
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> L::F {
        lanes.splat(scale * E4M3_UNBIAS)
    }

    #[inline(always)]
    fn prefetch(&self, unit: usize, distance: usize) {
        prefetch_behind(self.codes.as_ptr(), unit, distance);
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2] {
        let halves = halves::<UNIT, LANES>(&self.codes[unit]);
        // Written out: a closure is not compiled for the instruction set.
        [
            lanes.mul(lanes.e4m3(halves[0]), scale),
            lanes.mul(lanes.e4m3(halves[1]), scale),
        ]
    }
}

/// i8 codes with an f16 scale for a number of whole units.
#[derive(Clone, Copy)]
pub(super) struct Int8<'a> {
    codes: &'a [[u8; UNIT]],
    scales: &'a [[u8; 2]],
    units_per_scale: usize,
}

impl<'a> Int8<'a> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
        let Coded {
            codes,
            scales,
            columns,
        } = match row {
            Row::Int8(coded) => coded,
            _ => Coded::default(),
        };
        Int8 {
            codes: codes.as_chunks().0,
            scales,
            units_per_scale: columns / UNIT,
        }
    }
}

impl Decode for Int8<'_> {
    const AHEAD: usize = AHEAD_BYTES / UNIT;
    type Factor<L: Lanes> = L::F;

    #[inline(always)]
    fn units(&self) -> usize {
        self.codes.len()
    }

    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        self.units_per_scale
    }

    #[inline(always)]
    fn scales<L: Lanes>(&self, lanes: L, first: usize) -> [f32; LANES] {
        half_scales(lanes, &self.scales[first..])
    }

    #[inline(always)]
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> L::F {
        lanes.splat(scale)
    }

    #[inline(always)]
    fn prefetch(&self, unit: usize, distance: usize) {
        prefetch_behind(self.codes.as_ptr(), unit, distance);
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2] {
        let halves = halves::<UNIT, LANES>(&self.codes[unit]);
        [
            lanes.mul(lanes.i8(halves[0]), scale),
            lanes.mul(lanes.i8(halves[1]), scale),
        ]
    }
}

/// The first sixteen of some scales, filled up with zeros.
#[inline(always)]
pub(super) fn first_scales(scales: &[f32]) -> [f32; LANES] {
    let first = scales.first_chunk().copied();
    first.unwrap_or_else(|| padded(scales))
}

/// The first sixteen of some f16 scales, all at once.
#[inline(always)]
pub(super) fn half_scales<L: Lanes>(l: L, scales: &[[u8; 2]]) -> [f32; LANES] {
    let bytes = scales.as_flattened();
    // Written out: a closure is not compiled for the instruction set.
    match bytes.first_chunk() {
        Some(bytes) => l.store(l.f16(bytes)),
        None => l.store(l.f16(&padded(bytes))),
    }
}

/// Four-bit codes with an f16 scale for a number of whole units.
#[derive(Clone, Copy)]
pub(super) struct Int4<'a> {
    codes: &'a [[u8; LANES]],
    scales: &'a [[u8; 2]],
    units_per_scale: usize,
}

impl<'a> Int4<'a> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
        let Coded {
            codes,
            scales,
            columns,
        } = match row {
            Row::Int4(coded) => coded,
            _ => Coded::default(),
        };
        Int4 {
            codes: codes.as_chunks().0,
            scales,
            units_per_scale: columns / UNIT,
        }
    }
}

/// What the sixteen codes stand for, before the scale.
const INT4_VALUES: [f32; LANES] = [
    -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
];

impl Decode for Int4<'_> {
    const AHEAD: usize = AHEAD_BYTES / LANES;
    type Factor<L: Lanes> = L::F;

    #[inline(always)]
    fn units(&self) -> usize {
        self.codes.len()
    }

    #[inline(always)]
    fn units_per_scale(&self) -> usize {
        self.units_per_scale
    }

    #[inline(always)]
    fn scales<L: Lanes>(&self, lanes: L, first: usize) -> [f32; LANES] {
        half_scales(lanes, &self.scales[first..])
    }

    /// The values of all sixteen codes.
    #[inline(always)]
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> L::F {
        lanes.mul(lanes.load(&INT4_VALUES), lanes.splat(scale))
    }

    #[inline(always)]
    fn prefetch(&self, unit: usize, distance: usize) {
        prefetch_behind(self.codes.as_ptr(), unit, distance);
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, values: L::F) -> [L::F; 2] {
        lanes.nibbles(&self.codes[unit], values)
    }
}
