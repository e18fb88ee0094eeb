//! A plain dense product of whole numbers: the machine's measure, not a part of the model.

use super::lanes::{InstructionSet, Kernel, LANES, Lanes, WORDS};
use super::team;

/// Registers of rows that are worked on together.
const PANELS: usize = 2;
/// Columns of the right matrix that are worked on together where registers are many.
const TILE: usize = 6;

/// `A · B` of two square matrices of one byte an element, `A` without signs and `B` with, summed in
/// whole numbers of 32 bits on all threads.
///
/// What a processor's dot instructions reach where nothing is in their way: both matrices lie in
/// the order in which the kernel reads them and have neither scales nor groups. `dsv3 bench` runs
/// it beside the model.
pub struct IntegerProduct {
    /// `A`, `[side / 32, side / 4, PANELS]`, words of four columns of sixteen rows
    words: Vec<[[u8; WORDS]; PANELS]>,
    /// `Bᵀ`, `[side, side / 4]`
    x: Vec<[i8; 4]>,
    /// `[side / 32, side, PANELS]`
    y: Vec<[[f32; LANES]; PANELS]>,
    side: usize,
}

/// `A[row, column]`: at most 127, which is the same with and without a sign.
fn a(row: usize, column: usize) -> u8 {
    (row * 31 + column * 7) as u8 & 0x7f
}

/// `B[row, column]`: never -128.
fn b(row: usize, column: usize) -> i8 {
    (row * 5 + column * 13) as u8 as i8 | 1
}

impl IntegerProduct {
    /// Two matrices of about `side` rows and columns, the next multiple of 32.
    pub fn new(side: usize) -> Self {
        let rows = PANELS * LANES;
        let side = side.max(1).next_multiple_of(rows);
        let word = |first: usize, column: usize| {
            std::array::from_fn(|panel| {
                std::array::from_fn(|i| a(first + panel * LANES + i / 4, column + i % 4))
            })
        };
        let words = (0..side).step_by(rows);
        let words = words.flat_map(|row| (0..side).step_by(4).map(move |column| word(row, column)));
        let x = (0..side).flat_map(|column| {
            let rows = (0..side).step_by(4);
            rows.map(move |row| std::array::from_fn(|i| b(row + i, column)))
        });
        IntegerProduct {
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
        let (words, x) = (&self.words, &self.x);
        let (side, depth) = (self.side, self.side / 4);
        let none = || ();
        team::for_each_chunk(&mut self.y, side, none, |(), at, y| {
            let words = &words[at * depth..][..depth];
            set.run(Panel { words, x, y });
        });
    }

    /// An element of the last product, as f32.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        let (panels, lane) = (row / LANES, row % LANES);
        self.y[panels / PANELS * self.side + column][panels % PANELS][lane]
    }
}

/// 32 rows of `A` times all of `B`.
struct Panel<'a> {
    /// `[side / 4, PANELS]`
    words: &'a [[[u8; WORDS]; PANELS]],
    /// `[side, side / 4]`
    x: &'a [[i8; 4]],
    /// `[side, PANELS]`
    y: &'a mut [[[f32; LANES]; PANELS]],
}

impl Kernel for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        match L::IS_WIDE {
            true => self.tiles::<L, TILE>(l),
            false => self.tiles::<L, 2>(l),
        }
    }
}

impl Panel<'_> {
    /// With `T` columns of the right matrix at a time.
    #[inline(always)]
    fn tiles<L: Lanes, const T: usize>(self, l: L) {
        let depth = self.words.len();
        let (tiles, rest) = self.y.as_chunks_mut::<T>();
        let (x, x_rest) = self.x.split_at(tiles.len() * T * depth);
        for (y, x) in tiles.iter_mut().zip(x.chunks_exact(T * depth)) {
            tile(l, self.words, x, y);
        }
        for (y, x) in rest.iter_mut().zip(x_rest.chunks_exact(depth)) {
            tile(l, self.words, x, std::array::from_mut(y));
        }
    }
}

/// `T` columns of `B`.
#[inline(always)]
fn tile<L: Lanes, const T: usize>(
    l: L,
    words: &[[[u8; WORDS]; PANELS]],
    x: &[[i8; 4]],
    y: &mut [[[f32; LANES]; PANELS]; T],
) {
    let x: [&[[i8; 4]]; T] = std::array::from_fn(|t| &x[t * words.len()..][..words.len()]);
    // Said once, so that the loop need not look at every index.
    for x in &x {
        assert!(x.len() >= words.len());
    }
    let mut sums = [[l.whole(0); PANELS]; T];
    for (at, word) in words.iter().enumerate() {
        for (sums, x) in sums.iter_mut().zip(&x) {
            for (sum, word) in sums.iter_mut().zip(word) {
                *sum = l.dot(*sum, word, x[at]);
            }
        }
    }
    for (y, sums) in y.iter_mut().zip(sums) {
        for (y, sum) in y.iter_mut().zip(sums) {
            *y = l.store(l.to_float(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a panel, a tile or a lane in another's place, or what is left over behind the
    /// last whole tile not multiplied: a measure that does less than it is counted for.
    #[test]
    fn every_element_is_the_sum_of_its_products() {
        for set in InstructionSet::available() {
            let mut product = IntegerProduct::new(60);
            let side = product.side();
            assert_eq!(side, 64);
            product.run_with(set);
            for row in 0..side {
                for column in 0..side {
                    let terms = (0..side).map(|k| i32::from(a(row, k)) * i32::from(b(k, column)));
                    let want = terms.sum::<i32>() as f32;
                    assert_eq!(product.at(row, column), want, "{set:?} {row} {column}");
                }
            }
        }
    }
}
