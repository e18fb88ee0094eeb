//! A plain dense product by dot instructions: the machine's measure, not a part of the model.

use std::marker::PhantomData;

use bytemuck::cast;
use half::bf16;

use super::lanes::{InstructionSet, Kernel, LANES, Lanes, WORDS, paired};
use super::team;

/// Registers of rows that are worked on together.
const PANELS: usize = 2;
/// Columns of the right matrix that are worked on together where registers are many.
const TILE: usize = 6;

/// What a [`DenseProduct`] multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// A byte each, without signs on the left and with signs on the right, summed in whole numbers of
    /// 32 bits.
    Bytes,
    /// bf16, summed in f32.
    Bf16,
}

impl Elements {
    /// Whether the kernels multiply them as they are on this machine: bytes on all, bf16 where its
    /// instructions are faster than f32's.
    pub fn are_native(self) -> bool {
        match self {
            Elements::Bytes => true,
            Elements::Bf16 => InstructionSet::best().prefers_pairs(),
        }
    }

    /// Columns in a word of four bytes.
    fn in_a_word(self) -> usize {
        match self {
            Elements::Bytes => 4,
            Elements::Bf16 => 2,
        }
    }

    /// Columns from `first` on as a word.
    fn word(self, first: usize, value: impl Fn(usize) -> i8) -> [u8; 4] {
        match self {
            Elements::Bytes => std::array::from_fn(|i| value(first + i) as u8),
            Elements::Bf16 => {
                let value = |column| bf16::from_f32(f32::from(value(column))).to_f32();
                paired(value(first), value(first + 1)).to_le_bytes()
            }
        }
    }
}

/// `A · B` of two square matrices on all threads.
///
/// What a processor's dot instructions reach where nothing is in their way: both matrices lie in
/// the order in which the kernel reads them and have neither scales nor groups. `dsv3 bench` runs
/// it beside the model.
pub struct DenseProduct {
    elements: Elements,
    /// `A`, `[side / 32, words of a row, PANELS]`, a word of each of sixteen rows
    words: Vec<[[u8; WORDS]; PANELS]>,
    /// `Bᵀ`, `[side, words of a column]`
    x: Vec<[u8; 4]>,
    /// `[side / 32, side, PANELS]`
    y: Vec<[[f32; LANES]; PANELS]>,
    side: usize,
}

/// `A[row, column]`: at most 127, which is the same with and without a sign, and as bf16.
fn a(row: usize, column: usize) -> i8 {
    (row * 31 + column * 7) as i8 & 0x7f
}

/// `B[row, column]`: never -128.
fn b(row: usize, column: usize) -> i8 {
    (row * 5 + column * 13) as u8 as i8 | 1
}

impl DenseProduct {
    /// Two matrices of about `side` rows and columns, the next multiple of 32.
    pub fn new(elements: Elements, side: usize) -> Self {
        let rows = PANELS * LANES;
        let side = side.max(1).next_multiple_of(rows);
        let columns = || (0..side).step_by(elements.in_a_word());
        let word = |first: usize, column: usize| {
            std::array::from_fn(|panel| {
                let row = first + panel * LANES;
                let words: [[u8; 4]; LANES] =
                    std::array::from_fn(|i| elements.word(column, |column| a(row + i, column)));
                cast(words)
            })
        };
        let words = (0..side).step_by(rows);
        let words = words.flat_map(|row| columns().map(move |column| word(row, column)));
        let x = (0..side)
            .flat_map(|column| columns().map(move |row| elements.word(row, |row| b(row, column))));
        DenseProduct {
            elements,
            words: words.collect(),
            x: x.collect(),
            y: vec![[[0.0; LANES]; PANELS]; side / rows * side],
            side,
        }
    }

    /// Rows and columns.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Multiply them.
    pub fn run(&mut self) {
        self.run_with(InstructionSet::best());
    }

    fn run_with(&mut self, set: InstructionSet) {
        let (words, x, elements) = (&self.words, &self.x, self.elements);
        let (side, depth) = (self.side, self.side / elements.in_a_word());
        let none = || ();
        team::for_each_chunk(&mut self.y, side, none, |(), at, y| {
            let words = &words[at * depth..][..depth];
            match elements {
                Elements::Bytes => set.run(Panel::<Bytes>::new(words, x, y)),
                Elements::Bf16 => set.run(Panel::<Pairs>::new(words, x, y)),
            }
        });
    }

    /// An element of the last product, as f32.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        let (panels, lane) = (row / LANES, row % LANES);
        self.y[panels / PANELS * self.side + column][panels % PANELS][lane]
    }
}

/// Words of four bytes, multiplied and added up.
trait Dot {
    /// Whether a word is bytes, and not a pair of bf16.
    const BYTES: bool;
    /// A sum in each lane.
    type Sum<L: Lanes>: Copy;
    /// Nothing summed yet.
    fn none<L: Lanes>(l: L) -> Self::Sum<L>;
    /// `sum + words · x`.
    fn add<L: Lanes>(l: L, sum: Self::Sum<L>, words: &[u8; WORDS], x: [u8; 4]) -> Self::Sum<L>;
    /// As f32.
    fn to_float<L: Lanes>(l: L, sum: Self::Sum<L>) -> L::F;
}

/// [`Elements::Bytes`]
struct Bytes;

impl Dot for Bytes {
    const BYTES: bool = true;
    type Sum<L: Lanes> = L::I;

    #[inline(always)]
    fn none<L: Lanes>(l: L) -> L::I {
        l.whole(0)
    }

    #[inline(always)]
    fn add<L: Lanes>(l: L, sum: L::I, words: &[u8; WORDS], x: [u8; 4]) -> L::I {
        l.dot(sum, words, cast(x))
    }

    #[inline(always)]
    fn to_float<L: Lanes>(l: L, sum: L::I) -> L::F {
        l.to_float(sum)
    }
}

/// [`Elements::Bf16`]
struct Pairs;

impl Dot for Pairs {
    const BYTES: bool = false;
    type Sum<L: Lanes> = L::F;

    #[inline(always)]
    fn none<L: Lanes>(l: L) -> L::F {
        l.splat(0.0)
    }

    #[inline(always)]
    fn add<L: Lanes>(l: L, sum: L::F, words: &[u8; WORDS], x: [u8; 4]) -> L::F {
        l.dot_pairs(l.load(&cast(*words)), l.splat(f32::from_le_bytes(x)), sum)
    }

    #[inline(always)]
    fn to_float<L: Lanes>(_: L, sum: L::F) -> L::F {
        sum
    }
}

/// 32 rows of `A` times all of `B`.
struct Panel<'a, D> {
    /// `[words of a row, PANELS]`
    words: &'a [[[u8; WORDS]; PANELS]],
    /// `[side, words of a column]`
    x: &'a [[u8; 4]],
    /// `[side, PANELS]`
    y: &'a mut [[[f32; LANES]; PANELS]],
    of: PhantomData<D>,
}

impl<D: Dot> Kernel for Panel<'_, D> {
    const BYTES: bool = D::BYTES;
    const PAIRS: bool = !D::BYTES;
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        match L::IS_WIDE {
            true => self.tiles::<L, TILE>(l),
            false => self.tiles::<L, 2>(l),
        }
    }
}

impl<'a, D: Dot> Panel<'a, D> {
    fn new(
        words: &'a [[[u8; WORDS]; PANELS]],
        x: &'a [[u8; 4]],
        y: &'a mut [[[f32; LANES]; PANELS]],
    ) -> Self {
        let of = PhantomData;
        Panel { words, x, y, of }
    }

    /// With `T` columns of the right matrix at a time.
    #[inline(always)]
    fn tiles<L: Lanes, const T: usize>(self, l: L) {
        let depth = self.words.len();
        let (tiles, rest) = self.y.as_chunks_mut::<T>();
        let (x, x_rest) = self.x.split_at(tiles.len() * T * depth);
        for (y, x) in tiles.iter_mut().zip(x.chunks_exact(T * depth)) {
            tile::<L, D, T>(l, self.words, x, y);
        }
        for (y, x) in rest.iter_mut().zip(x_rest.chunks_exact(depth)) {
            tile::<L, D, 1>(l, self.words, x, std::array::from_mut(y));
        }
    }
}

/// `T` columns of `B`.
#[inline(always)]
fn tile<L: Lanes, D: Dot, const T: usize>(
    l: L,
    words: &[[[u8; WORDS]; PANELS]],
    x: &[[u8; 4]],
    y: &mut [[[f32; LANES]; PANELS]; T],
) {
    let x: [&[[u8; 4]]; T] = std::array::from_fn(|t| &x[t * words.len()..][..words.len()]);
    // Said once, so that the loop need not look at every index.
    for x in &x {
        assert!(x.len() >= words.len());
    }
    let mut sums = [[D::none(l); PANELS]; T];
    for (at, word) in words.iter().enumerate() {
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sum, word) in sums.iter_mut().zip(word) {
                *sum = D::add(l, *sum, word, x[at]);
            }
        }
    }
    for (y, sums) in y.iter_mut().zip(sums) {
        for (y, sum) in y.iter_mut().zip(sums) {
            *y = l.store(D::to_float(l, sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a panel, a tile or a lane in another's place, a pair's columns exchanged on one
    /// side, or what is left over behind the last whole tile not multiplied: a measure that does less
    /// than it is counted for.
    #[test]
    fn every_element_is_the_sum_of_its_products() {
        for (set, elements) in InstructionSet::available()
            .into_iter()
            .flat_map(|set| [(set, Elements::Bytes), (set, Elements::Bf16)])
        {
            let mut product = DenseProduct::new(elements, 60);
            let side = product.side();
            assert_eq!(side, 64);
            product.run_with(set);
            for row in 0..side {
                for column in 0..side {
                    let terms = (0..side).map(|k| i32::from(a(row, k)) * i32::from(b(k, column)));
                    let want = terms.sum::<i32>() as f32;
                    let got = product.at(row, column);
                    assert_eq!(got, want, "{set:?} {elements:?} {row} {column}");
                }
            }
        }
    }
}
