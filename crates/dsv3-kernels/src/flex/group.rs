//! A few rows of weights times a few tokens, in registers from the first byte to the last.

use std::ops::Range;
use std::sync::atomic::{Ordering, compiler_fence};

use super::decode::{Decode, UNIT};
use super::dots::Chosen;
use super::lanes::{LANES, Lanes, NAN_CODE, WORDS};

mod shared;

/// Rows that are read side by side.
pub(super) const ROWS: usize = 4;
/// The same in front of one token where that pays: AMD's cores get more out of memory the more streams
/// they read.
pub(super) const ROWS_OF_ONE: usize = 8;

/// Rows of fewer bytes end before the machine has found out that they are read one beside the other:
/// memory is asked for the next groups in the order in which they lie. Measured on AVX2.
const SHORT: usize = 2048;

/// Tokens whose sums leave registers to look for NaN codes in, where rows are side by side.
const SEARCHED: usize = 3;

/// Where the products of a few rows go.
pub(super) struct Group<'a, 'y, L: Lanes> {
    pub(super) lanes: L,
    pub(super) x: Chosen<'a>,
    pub(super) y: &'a mut [&'y mut [f32]],
    /// Where they stand in each token's `y`.
    pub(super) at: Range<usize>,
    /// Bytes from one row to the next.
    pub(super) row_bytes: usize,
    /// Whether a code may have been NaN.
    pub(super) may_be_nan: bool,
}

impl<L: Lanes> Group<'_, '_, L> {
    /// One token in front of more rows than tiles have.
    #[inline(always)]
    pub(super) fn one_token<D: Decode>(&mut self, rows: &[D; ROWS_OF_ONE]) {
        self.tile::<D, 1, ROWS_OF_ONE>(rows, 0);
    }

    /// As many tokens from `t` on as fit the registers; says how many.
    #[inline(always)]
    pub(super) fn tokens<D: Decode>(&mut self, rows: &[D; ROWS], t: usize) -> usize {
        match self.x.tokens() - t {
            1 => self.tile::<D, 1, ROWS>(rows, t),
            2 => self.tile::<D, 2, ROWS>(rows, t),
            3 => self.tile::<D, 3, ROWS>(rows, t),
            6 if L::KEEPS_ONE_ROW => self.tile::<D, 3, ROWS>(rows, t),
            // Less than a token alone and four.
            5 if L::KEEPS_ONE_ROW || L::IS_WIDE => self.tile::<D, 5, ROWS>(rows, t),
            6 if L::IS_WIDE && D::PREFERS_FIVE => self.tile::<D, 3, ROWS>(rows, t),
            7.. if L::IS_WIDE && D::PREFERS_FIVE => self.tile::<D, 5, ROWS>(rows, t),
            _ => self.tile::<D, 4, ROWS>(rows, t),
        }
    }

    /// `R` rows and `T` tokens; says how many tokens that were.
    #[inline(always)]
    fn tile<D: Decode, const T: usize, const R: usize>(
        &mut self,
        rows: &[D; R],
        first: usize,
    ) -> usize {
        let l = self.lanes;
        let units = rows[0].units();
        // The first tokens that come this way bring the rows.
        let row_bytes = (first == 0).then_some(self.row_bytes);
        let mut tile = Tile {
            lanes: l,
            rows,
            x: std::array::from_fn(|t| self.x.token(first + t)),
            row_bytes,
            in_order: match row_bytes {
                Some(bytes) if L::KEEPS_ONE_ROW && bytes < SHORT / 2 => Some(2 * R * bytes),
                Some(bytes) if L::KEEPS_ONE_ROW && bytes < SHORT => Some(R * bytes),
                _ => None,
            },
            sums: [[l.splat(0.0); T]; R],
            largest: l.whole(0),
        };
        // Said once, so that the loop need not look at every index.
        for row in rows {
            assert!(row.units() >= units);
        }
        for x in &tile.x {
            assert!(x.len() >= units);
        }
        // Nobody asked memory for the first rows before.
        if self.at.start == 0 && first == 0 {
            for unit in 0..D::AHEAD.min(units) {
                for row in rows {
                    row.prefetch::<L>(unit, 1, 0);
                }
            }
        }
        // Of three tokens the compiler keeps all in AVX-512's registers only side by side.
        if D::SHARED {
            tile.all_of_shared_scales();
            self.may_be_nan |= tile.may_be_nan();
        } else if L::KEEPS_ONE_ROW || L::IS_WIDE && T != 3 {
            tile.all_row_by_row();
            self.may_be_nan |= tile.may_be_nan();
        } else {
            tile.all_side_by_side();
            self.may_be_nan |= T > SEARCHED || tile.may_be_nan();
        }
        let totals = reduced(l, &tile.sums);
        for (y, totals) in self.y[first..first + T].iter_mut().zip(&totals) {
            put(&mut y[self.at.clone()], totals);
        }
        T
    }
}

/// `R` rows and `T` tokens.
struct Tile<'a, L: Lanes, D, const T: usize, const R: usize = ROWS> {
    lanes: L,
    rows: &'a [D; R],
    x: [&'a [[f32; UNIT]]; T],
    /// From one row to the next, where memory is asked for more: behind the ends of these rows lies
    /// the next group.
    row_bytes: Option<usize>,
    /// How far on the rows lie that memory is asked for in their order.
    in_order: Option<usize>,
    sums: [[L::F; T]; R],
    /// Of the codes.
    largest: L::I,
}

impl<'a, L: Lanes, D: Decode, const T: usize, const R: usize> Tile<'a, L, D, T, R> {
    /// Whether one of the codes that were looked at is.
    #[inline(always)]
    fn may_be_nan(&self) -> bool {
        let largest: [u8; WORDS] = bytemuck::cast(self.largest);
        largest.contains(&NAN_CODE)
    }

    /// Unit by unit, one of each row: all sums stay in registers.
    #[inline(always)]
    fn all_side_by_side(&mut self) {
        let (l, rows) = (self.lanes, self.rows);
        let (units, per_scale) = (rows[0].units(), rows[0].units_per_scale());
        let mut scales = [[0f32; LANES]; R];
        let (mut begin, mut at) = (0, 0);
        while begin < units {
            let end = begin.saturating_add(per_scale).min(units);
            if at % LANES == 0 {
                scales[0] = rows[0].scales(l, at);
                self.prefetch_scales(&rows[0], at);
            }
            let mut factors = [rows[0].factor(l, scales[0][at % LANES]); R];
            for r in 1..R {
                if at % LANES == 0 {
                    scales[r] = rows[r].scales(l, at);
                    self.prefetch_scales(&rows[r], at);
                }
                factors[r] = rows[r].factor(l, scales[r][at % LANES]);
            }
            for unit in begin..end {
                for r in 0..R {
                    self.prefetch(r, unit, 1);
                    let values = rows[r].unit(l, unit, factors[r]);
                    self.add(r, unit, values);
                    if T <= SEARCHED {
                        self.largest = rows[r].largest(l, unit, self.largest);
                    }
                }
            }
            (begin, at) = (end, at + 1);
        }
    }

    /// A few units of one row, then of the next: one row's sums stay in registers.
    #[inline(always)]
    fn all_row_by_row(&mut self) {
        let (l, rows) = (self.lanes, self.rows);
        let (units, per_scale) = (rows[0].units(), rows[0].units_per_scale());
        let mut scales = [[0f32; LANES]; R];
        let (mut begin, mut at) = (0, 0);
        while begin < units {
            if at % LANES == 0 {
                for (scales, row) in scales.iter_mut().zip(rows) {
                    *scales = row.scales(l, at);
                    self.prefetch_scales(row, at);
                }
            }
            let here = at % LANES;
            match (per_scale, units - begin) {
                (1, 4..) if here <= LANES - 4 => {
                    begin += self.row_by_row::<1, 4>(begin, &scales, here);
                    at += 4;
                }
                (2, 4..) if here <= LANES - 2 => {
                    begin += self.row_by_row::<2, 2>(begin, &scales, here);
                    at += 2;
                }
                _ => {
                    let end = begin.saturating_add(per_scale).min(units);
                    while begin < end {
                        begin += match end - begin {
                            1 => self.row_by_row::<1, 1>(begin, &scales, here),
                            2 | 3 => self.row_by_row::<2, 1>(begin, &scales, here),
                            _ if R > ROWS => self.row_by_row::<2, 1>(begin, &scales, here),
                            _ => self.row_by_row::<4, 1>(begin, &scales, here),
                        };
                    }
                    at += 1;
                }
            }
        }
    }

    /// `S` times `U` units of each row, with scales from `at` on; says how many units.
    #[inline(always)]
    fn row_by_row<const U: usize, const S: usize>(
        &mut self,
        from: usize,
        scales: &[[f32; LANES]; R],
        at: usize,
    ) -> usize {
        if T == 1 || L::IS_WIDE {
            // Sums of all rows fit, and don't wait for each other.
            return self.unit_by_unit::<U, S>(from, scales, at);
        }
        let (rows, x) = (self.rows, self.x_of(from..from + U * S));
        for (r, (row, scales)) in rows.iter().zip(scales).enumerate() {
            self.prefetch(r, from, U * S);
            let part = row.part(from..from + U * S);
            let mut sums = self.sums[r];
            for s in 0..S {
                let factor = row.factor(self.lanes, scales[at + s]);
                for unit in s * U..(s + 1) * U {
                    let values = part.unit(self.lanes, unit, factor);
                    self.multiply(&x, unit, values, &mut sums);
                    self.largest = part.largest(self.lanes, unit, self.largest);
                }
            }
            self.sums[r] = sums;
        }
        U * S
    }

    /// The same, one unit of each row after the other.
    #[inline(always)]
    fn unit_by_unit<const U: usize, const S: usize>(
        &mut self,
        from: usize,
        scales: &[[f32; LANES]; R],
        at: usize,
    ) -> usize {
        let (l, rows) = (self.lanes, self.rows);
        let units = from..from + U * S;
        let x = self.x_of(units.clone());
        let mut parts = *rows;
        for part in &mut parts {
            *part = part.part(units.clone());
        }
        for r in 0..R {
            self.prefetch(r, from, U * S);
        }
        for unit in 0..U * S {
            for (r, part) in parts.iter().enumerate() {
                let factor = part.factor(l, scales[r][at + unit / U]);
                let values = part.unit(l, unit, factor);
                let mut sums = self.sums[r];
                self.multiply(&x, unit, values, &mut sums);
                self.sums[r] = sums;
                self.largest = part.largest(l, unit, self.largest);
                if L::KEEPS_ONE_ROW {
                    // Rows stay one after the other: mixed by the compiler, they want more registers
                    // than there are.
                    compiler_fence(Ordering::SeqCst);
                }
            }
        }
        U * S
    }

    /// Ask for what goes with `count` units of row `r`.
    #[inline(always)]
    fn prefetch(&self, r: usize, unit: usize, count: usize) {
        if let Some(distance) = self.in_order {
            self.rows[0].prefetch::<L>(unit * R + r * count, count, distance);
            return;
        }
        if let Some(row_bytes) = self.row_bytes {
            let row = &self.rows[r];
            let ahead = match L::KEEPS_ONE_ROW {
                true => unit + D::NARROW_AHEAD,
                false => unit + D::AHEAD,
            };
            let onward = (R - 1) * row_bytes;
            row.prefetch::<L>(ahead, count, if ahead < row.units() { 0 } else { onward });
        }
    }

    /// Those that the next group has in the place of sixteen from `at` on.
    #[inline(always)]
    fn prefetch_scales(&self, row: &D, at: usize) {
        if let Some(row_bytes) = self.row_bytes {
            row.prefetch_scales::<L>(at, R * row_bytes);
        }
    }

    /// Some units of each token.
    #[inline(always)]
    fn x_of(&self, units: Range<usize>) -> [&'a [[f32; UNIT]]; T] {
        let mut x = self.x;
        for x in &mut x {
            *x = &x[units.clone()];
        }
        x
    }

    /// What a unit of row `r` adds to its sums.
    #[inline(always)]
    fn add(&mut self, r: usize, unit: usize, values: [L::F; 2]) {
        let mut sums = self.sums[r];
        self.multiply(&self.x, unit, values, &mut sums);
        self.sums[r] = sums;
    }

    #[inline(always)]
    fn multiply(
        &self,
        x: &[&[[f32; UNIT]]; T],
        unit: usize,
        values: [L::F; 2],
        sums: &mut [L::F; T],
    ) {
        let l = self.lanes;
        for (sum, x) in sums.iter_mut().zip(x) {
            let (x, _) = x[unit].as_chunks::<LANES>();
            *sum = D::multiply(l, values[0], l.load(&x[0]), *sum);
            *sum = D::multiply(l, values[1], l.load(&x[1]), *sum);
        }
    }
}

/// The lanes of each sum added up, for each token.
#[inline(always)]
pub(super) fn reduced<L: Lanes, const T: usize, const R: usize>(
    l: L,
    sums: &[[L::F; T]; R],
) -> [[f32; R]; T] {
    let mut to = [[0f32; R]; T];
    // As many tokens at a time as make sixteen sums.
    let at_once = LANES / R;
    let mut first = 0;
    while first < T {
        let mut sixteen = [l.splat(0.0); LANES];
        for (r, sums) in sums.iter().enumerate() {
            for t in first..(first + at_once).min(T) {
                sixteen[R * (t - first) + r] = sums[t];
            }
        }
        let totals = l.sums(sixteen);
        let totals = totals.as_chunks::<R>().0.iter();
        for (to, totals) in to[first..].iter_mut().zip(totals) {
            *to = *totals;
        }
        first += at_once;
    }
    to
}

/// A token's totals to where they go: fewer than `R` behind the last row.
#[inline(always)]
pub(super) fn put<const R: usize>(y: &mut [f32], totals: &[f32; R]) {
    match y.first_chunk_mut() {
        Some(y) => *y = *totals,
        None => {
            for (y, total) in y.iter_mut().zip(totals) {
                *y = *total;
            }
        }
    }
}
