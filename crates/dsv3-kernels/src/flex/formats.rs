//! Rows without scales of their own, and e4m3.

use std::ops::Range;

use super::decode::{
    AHEAD_BYTES, Decode, NARROW_AHEAD_BYTES, UNIT, halves, padded, prefetch_behind, with_scales,
    without_scales,
};
use super::lanes::{E4M3_UNBIAS, LANES, Lanes};
use super::rows::Row;

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
            const NARROW_AHEAD: usize = NARROW_AHEAD_BYTES / (2 * $bytes);
            /// Decoding is one instruction or two, which a buffer would cost as well.
            const WIDE_BUFFERED_FROM: usize = 65;

            without_scales!($name);

            #[inline(always)]
            fn prefetch<L: Lanes>(&self, unit: usize, count: usize, distance: usize) {
                prefetch_behind::<L, _>(self.0.as_ptr(), unit, count, distance);
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

    without_scales!(F32);

    #[inline(always)]
    fn prefetch<L: Lanes>(&self, unit: usize, count: usize, distance: usize) {
        prefetch_behind::<L, { 4 * UNIT }>(self.0.as_ptr().cast(), unit, count, distance);
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

    without_scales!(Buffered);

    /// It lies in the cache.
    #[inline(always)]
    fn prefetch<L: Lanes>(&self, _: usize, _: usize, _: usize) {}

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
    const WIDE_BUFFERED_FROM: usize = 21;
    const PREFERS_FIVE: bool = true;
    type Factor<L: Lanes> = L::F;

    with_scales!(Fp8);

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
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: L::F) -> [L::F; 2] {
        let values = lanes.e4m3_two(&self.codes[unit]);
        // Written out: a closure is not compiled for the instruction set.
        [lanes.mul(values[0], scale), lanes.mul(values[1], scale)]
    }
}

/// e4m3 whose scales are beside the activations.
#[derive(Clone, Copy)]
pub(super) struct E4m3<'a>(&'a [[u8; UNIT]]);

impl<'a> E4m3<'a> {
    #[inline(always)]
    pub(super) fn new(codes: &'a [u8]) -> Self {
        E4m3(codes.as_chunks().0)
    }
}

impl Decode for E4m3<'_> {
    const AHEAD: usize = AHEAD_BYTES / UNIT;
    const WIDE_BUFFERED_FROM: usize = 21;
    const PREFERS_FIVE: bool = true;

    without_scales!(E4m3);

    #[inline(always)]
    fn prefetch<L: Lanes>(&self, unit: usize, count: usize, distance: usize) {
        prefetch_behind::<L, _>(self.0.as_ptr(), unit, count, distance);
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, (): ()) -> [L::F; 2] {
        lanes.e4m3_two(&self.0[unit])
    }

    #[inline(always)]
    fn largest<L: Lanes>(&self, lanes: L, unit: usize, so_far: L::I) -> L::I {
        lanes.larger(so_far, &self.0[unit])
    }
}

/// The first sixteen of some scales, filled up with zeros.
#[inline(always)]
pub(super) fn first_scales(scales: &[f32]) -> [f32; LANES] {
    let first = scales.first_chunk().copied();
    first.unwrap_or_else(|| padded(scales))
}
