//! Rows of weights times rows of activations: the inner kernel of every linear layer.
//!
//! A weight is decoded in registers, once for up to five tokens and beside three other rows, and
//! never written anywhere; with many tokens a few rows are decoded to a buffer in the cache first.
//! Each product of a row and a token is summed in sixteen lanes of its own, over the columns in
//! their order, so its bits depend neither on the other rows and tokens of the call nor on the
//! machine.

use std::ops::Range;

use super::blocks::Buffer;
use super::codes::{Int4, Int8};
use super::decode::{UNIT, padded};
use super::formats::{Bf16, F16, F32};
use super::lanes::InstructionSet;
use super::pairs::{Bf16Pairs, pairs_of};
use super::rows::{Row, Rows, View};
use super::sweep::{Each, InBlocks, PairsInBlocks, Slowly};
use crate::packed::{GroupCodes, HalfFormat};

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

    /// Of units as they are, `[T, units]`.
    #[inline(always)]
    pub(super) fn of_units(units: &'a [[f32; UNIT]], tokens: usize) -> Self {
        Activated {
            units: units.into(),
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

impl Dots<'_, '_> {
    /// Compute them with these instructions.
    pub(super) fn run(self, set: InstructionSet) {
        if self.x.tokens() == 0 {
            return;
        }
        let rows = self.rows;
        let dots = self;
        let is_pairs = dots.x.x.are_pairs;
        match rows.view() {
            View::Fp8(blocks) if is_pairs => set.run(PairsInBlocks { dots, blocks }),
            View::Half(bytes, HalfFormat::Bf16, n) if is_pairs => {
                let row = |i| Bf16Pairs::new(Row::Bf16(&bytes[2 * i * n..][..2 * n]));
                set.run(Each { dots, row });
            }
            // Rows and blocks that end within a unit, and scales out of all proportion: no
            // checkpoint that we know of has them.
            _ if !rows.input().is_multiple_of(UNIT) => set.run(Slowly { dots }),
            View::Fp8(blocks) if !blocks.fit(&dots.range) => set.run(Slowly { dots }),
            View::F32(values, n) => {
                let row = |i| F32::new(Row::F32(&values[i * n..][..n]));
                set.run(Each { dots, row });
            }
            View::Half(bytes, HalfFormat::Bf16, n) => {
                let row = |i| Bf16::new(Row::Bf16(&bytes[2 * i * n..][..2 * n]));
                set.run(Each { dots, row });
            }
            View::Half(bytes, HalfFormat::F16, n) => {
                let row = |i| F16::new(Row::F16(&bytes[2 * i * n..][..2 * n]));
                set.run(Each { dots, row });
            }
            View::Fp8(blocks) => set.run(InBlocks { dots, blocks }),
            View::Group(groups) => match groups.format.codes {
                GroupCodes::Int8 => {
                    let row = |i| Int8::new(Row::Int8(groups.row(i)));
                    set.run(Each { dots, row });
                }
                GroupCodes::Int4 => {
                    let row = |i| Int4::new(Row::Int4(groups.row(i)));
                    set.run(Each { dots, row });
                }
            },
        }
    }
}
