//! Cached tokens: written in the format of the cache, read as f32.

use std::borrow::Cow;
use std::ops::Range;

use burn::backend::Flex;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use bytemuck::cast_slice;
use dsv3_weights::fp8::quantize_row_group_into;
use half::{bf16, f16};

use super::attend::{Source, Table};
use super::decode::{Decoded, UNIT};
use super::lanes::{Kernel, Lanes};
use super::rows::Row;
use super::{dim, floats};
use crate::latent::{Fp8Latents, LATENT_GROUP, Latents};

/// Write `rows [T, latent + rope]` to their slots, in place where nobody else holds the cache.
pub(super) fn append(mut cache: FlexTensor, rows: &[f32], slots: &[u32]) -> FlexTensor {
    let places = rows.chunks_exact(dim(&cache, 2).max(1)).zip(slots);
    match cache.dtype() {
        DType::BF16 => write(cache.storage_mut::<bf16>(), places, bf16::from_f32),
        DType::F16 => write(cache.storage_mut::<f16>(), places, f16::from_f32),
        _ => write(cache.storage_mut::<f32>(), places, |v| v),
    }
    cache
}

/// As [`append`]. A group that holds an infinity or NaN is read back as NaN.
pub(super) fn append_fp8(
    mut cache: Fp8Latents<Flex>,
    rows: &[f32],
    slots: &[u32],
) -> Fp8Latents<Flex> {
    let widths = [&cache.codes, &cache.scales, &cache.keys].map(|tensor| dim(tensor, 2));
    let [latent, groups, rope] = widths;
    let rows = || rows.chunks_exact((latent + rope).max(1)).zip(slots);
    let codes = cache.codes.storage_mut::<u8>();
    let scales = cache.scales.storage_mut::<f32>();
    for (row, slot) in rows() {
        let slot = *slot as usize;
        let codes = codes[slot * latent..][..latent].chunks_mut(LATENT_GROUP);
        let scales = &mut scales[slot * groups..][..groups];
        let values = row[..latent].chunks(LATENT_GROUP);
        for ((codes, values), scale) in codes.zip(values).zip(scales) {
            *scale = quantize_row_group_into(values, false, codes);
        }
    }
    let rotated = rows().map(|(row, slot)| (&row[latent..], slot));
    write(cache.keys.storage_mut::<bf16>(), rotated, bf16::from_f32);
    cache
}

fn write<'a, T>(
    to: &mut [T],
    places: impl Iterator<Item = (&'a [f32], &'a u32)>,
    encode: impl Fn(f32) -> T,
) {
    for (row, slot) in places {
        let to = &mut to[*slot as usize * row.len()..][..row.len()];
        to.iter_mut().zip(row).for_each(|(to, v)| *to = encode(*v));
    }
}

/// A cache's tokens where they lie.
pub(super) struct Stored<'a> {
    values: Values<'a>,
    latent: usize,
    width: usize,
}

enum Values<'a> {
    /// `[slots, width]`
    F32(Cow<'a, [f32]>),
    /// `[slots, width]`
    Bf16(&'a [bf16]),
    Fp8 {
        /// `[slots, latent]`
        codes: &'a [u8],
        /// `[slots, ⌈latent / 128⌉]`
        scales: &'a [f32],
        /// `[slots, rope]`
        keys: &'a [bf16],
    },
}

impl<'a> Stored<'a> {
    /// The contiguous blocks `cache` of `latent + rope` values a token.
    pub(super) fn new(cache: &'a Latents<Flex>, latent: usize, rope: usize) -> Self {
        let values = match cache {
            Latents::Floats { rows } => match rows.dtype() {
                DType::BF16 => Values::Bf16(rows.storage()),
                _ => Values::F32(floats(rows)),
            },
            Latents::Fp8 { blocks } => Values::Fp8 {
                codes: blocks.codes.storage(),
                scales: blocks.scales.storage(),
                keys: blocks.keys.storage(),
            },
        };
        Stored {
            values,
            latent,
            width: latent + rope,
        }
    }

    /// Units of a row.
    pub(super) fn units(&self) -> usize {
        self.width.div_ceil(UNIT)
    }

    /// All values as they lie, if they are f32 in whole units.
    pub(super) fn in_place(&self) -> Option<(&[[f32; UNIT]], &[f32])> {
        match &self.values {
            Values::F32(values) if self.width.is_multiple_of(UNIT) => {
                Some((values.as_chunks().0, values))
            }
            _ => None,
        }
    }

    /// The token in `slot`: latent, rotated key, zeros up to whole units.
    #[inline(always)]
    fn read<L: Lanes>(&self, lanes: L, slot: usize, to: &mut [[f32; UNIT]]) {
        let (latent, width) = (self.latent, self.width);
        let row = match &self.values {
            Values::F32(values) => Row::F32(&values[slot * width..][..width]),
            Values::Bf16(values) => Row::Bf16(cast_slice(&values[slot * width..][..width])),
            Values::Fp8 {
                codes,
                scales,
                keys,
            } => {
                let (groups, rope) = (latent.div_ceil(LATENT_GROUP), width - latent);
                let row = Row::Fp8 {
                    codes: &codes[slot * latent..][..latent],
                    scales: &scales[slot * groups..][..groups],
                    block: LATENT_GROUP,
                };
                let key = Row::Bf16(cast_slice(&keys[slot * rope..][..rope]));
                if latent.is_multiple_of(UNIT) {
                    let (to, rest) = to.split_at_mut(latent / UNIT);
                    Decoded { row, to }.run(lanes);
                    Decoded { row: key, to: rest }.run(lanes);
                } else {
                    let to = to.as_flattened_mut();
                    row.decode(&mut to[..latent]);
                    key.decode(&mut to[latent..width]);
                    to[width..].fill(0.0);
                }
                return;
            }
        };
        Decoded { row, to }.run(lanes);
    }
}

/// Latents and rotated keys of a sequence, apart: what the naive form expands.
pub(super) struct Apart {
    /// `[S, latent]`
    pub(super) latents: Vec<f32>,
    /// `[S, rope]`
    pub(super) keys: Vec<f32>,
}

/// Reads all of a sequence's tokens.
pub(super) struct TakeApart<'a> {
    pub(super) stored: &'a Stored<'a>,
    pub(super) slots: &'a [usize],
}

impl Kernel for TakeApart<'_> {
    type Output = Apart;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Apart {
        let Stored { latent, width, .. } = *self.stored;
        let mut row = vec![[0f32; UNIT]; self.stored.units()];
        let mut apart = Apart {
            latents: Vec::with_capacity(self.slots.len() * latent),
            keys: Vec::with_capacity(self.slots.len() * (width - latent)),
        };
        for slot in self.slots {
            self.stored.read(lanes, *slot, &mut row);
            let (values, key) = row.as_flattened()[..width].split_at(latent);
            apart.latents.extend_from_slice(values);
            apart.keys.extend_from_slice(key);
        }
        apart
    }
}

/// A sequence's tokens, decoded tile by tile into a buffer that stays near.
pub(super) struct Tiles<'a> {
    stored: &'a Stored<'a>,
    slots: &'a [usize],
    /// `[tile, units]`
    buffer: Vec<[f32; UNIT]>,
    /// Of the buffer.
    in_order: Vec<usize>,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(stored: &'a Stored<'a>, slots: &'a [usize]) -> Self {
        Tiles {
            stored,
            slots,
            buffer: Vec::new(),
            in_order: Vec::new(),
        }
    }
}

impl Source for Tiles<'_> {
    #[inline(always)]
    fn tile<L: Lanes>(
        &mut self,
        lanes: L,
        tile: Range<usize>,
    ) -> (Table<'_, [f32; UNIT]>, Table<'_, f32>) {
        let units = self.stored.units();
        if self.in_order.len() < tile.len() {
            self.buffer.resize(tile.len() * units, [0.0; UNIT]);
            self.in_order = (0..tile.len()).collect();
        }
        let slots = &self.slots[tile];
        for (slot, to) in slots.iter().zip(self.buffer.chunks_exact_mut(units.max(1))) {
            self.stored.read(lanes, *slot, to);
        }
        let keys = Table {
            data: &self.buffer,
            slots: &self.in_order,
            stride: units,
            width: units,
        };
        let values = Table {
            data: self.buffer.as_flattened(),
            slots: &self.in_order,
            stride: units * UNIT,
            width: self.stored.latent,
        };
        (keys, values)
    }
}

/// The cache with every tensor contiguous.
pub(super) fn contiguous(cache: Latents<Flex>) -> Latents<Flex> {
    match cache {
        Latents::Floats { rows } => Latents::Floats {
            rows: rows.to_contiguous(),
        },
        Latents::Fp8 { blocks } => Latents::Fp8 {
            blocks: Fp8Latents {
                codes: blocks.codes.to_contiguous(),
                scales: blocks.scales.to_contiguous(),
                keys: blocks.keys.to_contiguous(),
            },
        },
    }
}
