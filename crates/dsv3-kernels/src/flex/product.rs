//! `x · Wᵀ` ready to be computed: a weight's rows, and activations in the form that they take.

use std::ops::Range;
use std::sync::Arc;

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
    Floats {
        x: Arc<Activated<'a>>,
        rows: &'a Rows,
    },
    /// Integer codes in front of whole numbers.
    Integers { x: Arc<Integers>, rows: Groups<'a> },
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
                let x = Arc::new(Integers::new(x, tokens, &rows.format));
                return Product::Integers { x, rows };
            }
            (Activations::EightBits { ue8m0 }, View::Fp8(_)) => {
                let mut x = Activated::new(x, tokens);
                let (values, width) = x.values_mut();
                activations::quantize(values, width, ue8m0);
                x
            }
            _ => Activated::new(x, tokens),
        };
        let x = Arc::new(x);
        Product::Floats { x, rows }
    }

    /// `x [T, in]` in front of two weights, rounded once where both take it alike: the recipe of a
    /// packed checkpoint may tell them apart.
    pub(super) fn pair(
        x: &'a [f32],
        tokens: usize,
        [first, second]: [&'a Rows; 2],
        activations: Activations,
    ) -> [Self; 2] {
        let of_first = Product::new(x, tokens, first, activations);
        let of_second = match (&of_first, second.view()) {
            (Product::Integers { x, rows }, View::Group(other))
                if rows.format.rounds_as(&other.format) =>
            {
                let x = Arc::clone(x);
                Product::Integers { x, rows: other }
            }
            (Product::Floats { x, .. }, _) if first.is_fp8() && second.is_fp8() => {
                let (x, rows) = (Arc::clone(x), second);
                Product::Floats { x, rows }
            }
            _ => Product::new(x, tokens, second, activations),
        };
        [of_first, of_second]
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
