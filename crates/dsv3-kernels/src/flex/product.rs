//! `x · Wᵀ` ready to be computed: a weight's rows, and activations in the form that they take.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use super::activations;
use super::blocks;
use super::dots::{Activated, Dots};
use super::integer_dots::{self, IntegerDots};
use super::integers::Integers;
use super::lanes::InstructionSet;
use super::rows::{Groups, Rows, View};
use crate::packed::{Activations, GroupFormat};

/// Some tokens and rows `[out, in]`.
pub(super) enum Product<'a> {
    /// Rows of any format, decoded to f32 or to pairs of bf16.
    Floats {
        x: Arc<Activated<'a>>,
        which: &'a [usize],
        rows: &'a Rows,
    },
    /// Integer codes in front of whole numbers.
    Integers {
        x: Arc<Integers>,
        which: &'a [usize],
        rows: Groups<'a>,
    },
}

/// Room to work in, kept from call to call.
#[derive(Default)]
pub(super) struct Buffer {
    floats: blocks::Buffer,
    integers: integer_dots::Buffer,
}

/// Activations `[T, in]`, rounded once for each kind of weight that they meet: the recipe of a packed
/// checkpoint may tell apart what takes the same input.
pub(super) struct Inputs<'a> {
    set: InstructionSet,
    x: &'a [f32],
    activations: Activations,
    /// `0..T`
    all: Vec<usize>,
    plain: Floats<'a>,
    fp8: Floats<'a>,
    integers: RefCell<Vec<(GroupFormat, Arc<Integers>)>>,
}

/// Activations in f32, and as pairs of bf16 where they are bf16 numbers.
#[derive(Default)]
struct Floats<'a> {
    values: OnceCell<Arc<Activated<'a>>>,
    pairs: OnceCell<Option<Arc<Activated<'static>>>>,
}

impl<'a> Floats<'a> {
    /// `new`, which is called once, in the form that suits these rows.
    fn get(&self, pairs: bool, new: impl FnOnce() -> Activated<'a>) -> Arc<Activated<'a>> {
        let values = self.values.get_or_init(|| Arc::new(new()));
        let new = || values.pairs().map(Arc::new);
        let pairs = pairs.then(|| self.pairs.get_or_init(new).clone()).flatten();
        pairs.unwrap_or_else(|| Arc::clone(values))
    }
}

impl<'a> Inputs<'a> {
    /// `x [T, in]`, to be worked on by `set`.
    pub(super) fn new(
        set: InstructionSet,
        x: &'a [f32],
        tokens: usize,
        activations: Activations,
    ) -> Self {
        Inputs {
            set,
            x,
            activations,
            all: (0..tokens).collect(),
            plain: Floats::default(),
            fp8: Floats::default(),
            integers: RefCell::default(),
        }
    }

    /// All tokens in front of `rows`.
    pub(super) fn product<'p>(&'p self, rows: &'p Rows) -> Product<'p> {
        self.product_of(&self.all, rows)
    }

    /// These tokens in front of `rows`.
    pub(super) fn product_of<'p>(&'p self, which: &'p [usize], rows: &'p Rows) -> Product<'p> {
        let pairs = self.set.prefers_pairs() && rows.are_pairs();
        let x = match (self.activations, rows.view()) {
            (Activations::EightBits { .. }, View::Group(rows)) => {
                let x = self.integers(&rows.format);
                return Product::Integers { x, which, rows };
            }
            (Activations::EightBits { ue8m0 }, View::Fp8(_)) => self.fp8.get(pairs, || {
                let mut x = Activated::new(self.x, self.all.len());
                let (values, width) = x.values_mut();
                activations::quantize(values, width, ue8m0);
                x
            }),
            _ => {
                let new = || Activated::new(self.x, self.all.len());
                self.plain.get(pairs, new)
            }
        };
        Product::Floats { x, which, rows }
    }

    fn integers(&self, format: &GroupFormat) -> Arc<Integers> {
        let mut rounded = self.integers.borrow_mut();
        let before = rounded.iter().find(|(other, _)| other.rounds_as(format));
        if let Some((_, x)) = before {
            return Arc::clone(x);
        }
        let x = Arc::new(Integers::new(self.x, self.all.len(), format));
        rounded.push((*format, Arc::clone(&x)));
        x
    }
}

impl Product<'_> {
    /// How many tokens.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Product::Floats { which, .. } | Product::Integers { which, .. } => which.len(),
        }
    }

    /// The products of some rows: for each token, `y [rows of the range]`.
    pub(super) fn dots(
        &self,
        set: InstructionSet,
        range: Range<usize>,
        y: &mut [&mut [f32]],
        buffer: &mut Buffer,
    ) {
        match self {
            Product::Floats { x, which, rows } => Dots {
                x: x.chosen(which),
                rows,
                range,
                y,
                buffer: &mut buffer.floats,
            }
            .run(set),
            Product::Integers { x, which, rows } => set.run(IntegerDots {
                x,
                which,
                rows: *rows,
                range,
                y,
                buffer: &mut buffer.integers,
            }),
        }
    }
}
