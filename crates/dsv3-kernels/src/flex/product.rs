//! `x · Wᵀ` ready to be computed: a weight's rows, and activations in the form that they take.

use std::ops::Range;

use super::activations;
use super::blocks;
use super::dots::{Activated, Dots};
use super::integer_dots::{self, IntegerDots};
use super::integers::Integers;
use super::lanes::InstructionSet;
use super::rows::{Groups, Rows, View};
use crate::packed::Activations;

/// Activations `[T, in]` and rows `[out, in]`.
pub(super) enum Product<'a> {
    /// Rows of any format, decoded to f32.
    Floats { x: Activated<'a>, rows: &'a Rows },
    /// Integer codes in front of whole numbers.
    Integers { x: Integers, rows: Groups<'a> },
}

/// Room to work in, kept from call to call.
#[derive(Default)]
pub(super) struct Buffer {
    floats: blocks::Buffer,
    integers: integer_dots::Buffer,
}

impl<'a> Product<'a> {
    /// `x [T, in]` in front of `rows`.
    pub(super) fn new(
        x: &'a [f32],
        tokens: usize,
        rows: &'a Rows,
        activations: Activations,
    ) -> Self {
        let x = match (activations, rows.view()) {
            (Activations::EightBits { .. }, View::Group(rows)) => {
                let x = Integers::new(x, tokens, &rows.format);
                return Product::Integers { x, rows };
            }
            (Activations::EightBits { ue8m0 }, View::Fp8(_)) => {
                let mut x = x.to_vec();
                activations::quantize(&mut x, rows.input(), ue8m0);
                Activated::copied(&x, tokens)
            }
            _ => Activated::new(x, tokens),
        };
        Product::Floats { x, rows }
    }

    /// How many tokens.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Product::Floats { x, .. } => x.tokens(),
            Product::Integers { x, .. } => x.tokens(),
        }
    }

    /// The products of some rows, `y [rows of the range, T]`.
    pub(super) fn dots(
        &self,
        set: InstructionSet,
        range: Range<usize>,
        y: &mut [f32],
        buffer: &mut Buffer,
    ) {
        match self {
            Product::Floats { x, rows } => set.run(Dots {
                x,
                rows,
                range,
                y,
                buffer: &mut buffer.floats,
            }),
            Product::Integers { x, rows } => set.run(IntegerDots {
                x,
                rows: *rows,
                range,
                y,
                buffer: &mut buffer.integers,
            }),
        }
    }
}
