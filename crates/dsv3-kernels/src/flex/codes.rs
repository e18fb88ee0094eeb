//! Rows of integer codes in groups with scales of half precision.

use std::ops::Range;

use super::decode::{AHEAD_BYTES, Decode, UNIT, halves, padded, prefetch_behind, with_scales};
use super::lanes::{LANES, Lanes, prefetch};
use super::rows::{Coded, Row};

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
    const WIDE_BUFFERED_FROM: usize = 25;
    /// Decoding takes the place of multiplications.
    const NARROW_BUFFERED_FROM: usize = 9;
    type Factor<L: Lanes> = [L::F; 2];

    with_scales!(Int8);

    #[inline(always)]
    fn scales<L: Lanes>(&self, lanes: L, first: usize) -> [f32; LANES] {
        half_scales(lanes, &self.scales[first..])
    }

    #[inline(always)]
    fn prefetch_scales<L: Lanes>(&self, first: usize, distance: usize) {
        prefetch_halves::<L>(self.scales, first, distance);
    }

    #[inline(always)]
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> [L::F; 2] {
        lanes.i8_scale(scale)
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: [L::F; 2]) -> [L::F; 2] {
        let halves = halves::<UNIT, LANES>(&self.codes[unit]);
        [lanes.i8(halves[0], scale), lanes.i8(halves[1], scale)]
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
    const AHEAD: usize = AHEAD_BYTES / LANES;
    /// As for i8.
    const NARROW_BUFFERED_FROM: usize = 13;
    type Factor<L: Lanes> = [L::F; 2];

    with_scales!(Int4);

    #[inline(always)]
    fn scales<L: Lanes>(&self, lanes: L, first: usize) -> [f32; LANES] {
        half_scales(lanes, &self.scales[first..])
    }

    #[inline(always)]
    fn prefetch_scales<L: Lanes>(&self, first: usize, distance: usize) {
        prefetch_halves::<L>(self.scales, first, distance);
    }

    #[inline(always)]
    fn factor<L: Lanes>(&self, lanes: L, scale: f32) -> [L::F; 2] {
        lanes.int4_scale(scale)
    }

    #[inline(always)]
    fn unit<L: Lanes>(&self, lanes: L, unit: usize, scale: [L::F; 2]) -> [L::F; 2] {
        lanes.int4(&self.codes[unit], scale)
    }
}

/// Ask memory for what lies `distance` bytes behind scale `at`.
#[inline(always)]
pub(super) fn prefetch_halves<L: Lanes>(scales: &[[u8; 2]], at: usize, distance: usize) {
    prefetch::<L>(
        scales
            .as_ptr()
            .wrapping_add(at)
            .cast::<u8>()
            .wrapping_add(distance),
    );
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
