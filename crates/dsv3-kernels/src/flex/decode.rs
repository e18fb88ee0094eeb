//! A weight's rows to lanes of f32, a unit of columns at a time.

use half::f16;

use super::lanes::{E4M3_UNBIAS, Kernel, LANES, Lanes};
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
            Row::Int8(_) => fill(l, &Int8::new(self.row), self.to),
            Row::Int4(_) => fill(l, &Int4::new(self.row), self.to),
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
pub(super) fn has_nan(codes: &[u8]) -> bool {
    let is_nan = |code: &u8| u8::from(code & 0x7f == 0x7f);
    codes.iter().fold(0, |any, code| any | is_nan(code)) != 0
}

/// Whether a row's scales leave room for [`E4M3_UNBIAS`] beside them.
#[inline(always)]
pub(super) fn unbiasable(row: &Row<'_>) -> bool {
    match row {
        Row::Fp8 { scales, .. } => scales.iter().all(|scale| *scale < 128.0),
        _ => true,
    }
}

/// A row of whole units.
pub(super) trait Decode {
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
        pub(super) struct $name<'a>(Units<'a, { 2 * $bytes }>);

        impl<'a> $name<'a> {
            #[inline(always)]
            pub(super) fn new(row: Row<'a>) -> Self {
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
                let halves = self.0.halves::<$bytes>(unit);
                [lanes.$decode(halves[0]), lanes.$decode(halves[1])]
            }
        }
    };
}

unscaled!(Bf16, 32, "Two bytes a value.", Row::Bf16(bytes) => bytes, bf16);
unscaled!(F16, 32, "Two bytes a value.", Row::F16(bytes) => bytes, f16);

/// f32 where it lies.
#[derive(Clone, Copy)]
pub(super) struct F32<'a> {
    full: &'a [[f32; UNIT]],
    last: [f32; UNIT],
}

impl<'a> F32<'a> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
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
pub(super) struct Buffered<'a>(pub(super) &'a [[f32; UNIT]]);

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
pub(super) struct Fp8<'a> {
    codes: Units<'a, UNIT>,
    scales: &'a [f32],
    units_per_scale: usize,
}

impl<'a> Fp8<'a> {
    #[inline(always)]
    pub(super) fn new(row: Row<'a>) -> Self {
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
    codes: Units<'a, UNIT>,
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
        [
            lanes.mul(lanes.i8(halves[0]), scale),
            lanes.mul(lanes.i8(halves[1]), scale),
        ]
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
