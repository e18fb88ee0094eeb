//! Rows that share their scales: codes that are all normal numbers are decoded sooner.

use super::Tile;
use crate::flex::decode::Decode;
use crate::flex::lanes::{Kernel, Lanes, apart};

impl<L: Lanes, D: Decode, const T: usize, const R: usize> Tile<'_, L, D, T, R> {
    /// Unit by unit, one of each row.
    #[inline(always)]
    pub(super) fn all_of_shared_scales(&mut self) {
        let (l, units) = (self.lanes, self.rows[0].units());
        let mut unit = self.normal_units(0);
        while unit < units {
            let next = apart(l, Seldom { tile: self, unit });
            unit = self.normal_units(next);
        }
    }

    /// From unit `from` on as long as all codes are normal numbers, with all sums in registers; says
    /// where they end.
    #[inline(always)]
    fn normal_units(&mut self, from: usize) -> usize {
        let (l, all) = (self.lanes, self.rows[0].units());
        let per_scale = self.rows[0].units_per_scale();
        // Slices of one length, known to be so.
        let x = self.x_of(0..all);
        let mut rows = *self.rows;
        for row in &mut rows {
            *row = row.part(0..all);
        }
        let mut sums = self.sums;
        let mut at = from / per_scale;
        let mut end = from;
        let mut factor = l.splat(0.0);
        let mut unit = from;
        while unit < all {
            if unit >= end {
                factor = D::normal_factor(l, rows[0].scale(l, at));
                at += 1;
                end = at.saturating_mul(per_scale);
            }
            self.prefetch_all(&rows, unit);
            if !D::are_normal(l, &rows, unit) {
                break;
            }
            for (row, sums) in rows.iter().zip(&mut sums) {
                let values = row.normal_unit(l, unit, factor);
                self.multiply(&x, unit, values, sums);
            }
            unit += 1;
        }
        self.sums = sums;
        unit
    }

    /// Ask for what goes with a unit of all rows.
    #[inline(always)]
    fn prefetch_all(&self, rows: &[D; R], unit: usize) {
        if let Some(row_bytes) = self.row_bytes {
            let ahead = unit + D::AHEAD;
            let onward = match ahead < rows[0].units() {
                true => 0,
                false => (R - 1) * row_bytes,
            };
            for row in rows {
                row.prefetch::<L>(ahead, 1, onward);
            }
        }
    }
}

/// Units of each row, of any codes, up to one where all are normal numbers. In one function with what
/// is done often, that would not keep its sums in registers.
struct Seldom<'t, 'a, L: Lanes, D, const T: usize, const R: usize> {
    tile: &'t mut Tile<'a, L, D, T, R>,
    unit: usize,
}

impl<S: Lanes, D: Decode, const T: usize, const R: usize> Kernel for Seldom<'_, '_, S, D, T, R> {
    /// Which unit that is.
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> usize {
        let (tile, mut unit) = (self.tile, self.unit);
        let (l, rows, x) = (tile.lanes, tile.rows, tile.x);
        let (all, per_scale) = (rows[0].units(), rows[0].units_per_scale());
        let (mut sums, mut largest) = (tile.sums, tile.largest);
        loop {
            let factor = rows[0].factor(l, rows[0].scale(l, unit / per_scale));
            for (row, sums) in rows.iter().zip(&mut sums) {
                let values = row.unit(l, unit, factor);
                largest = row.largest(l, unit, largest);
                tile.multiply(&x, unit, values, sums);
            }
            unit += 1;
            if unit == all || D::are_normal(l, rows, unit) {
                break;
            }
            tile.prefetch_all(rows, unit);
        }
        (tile.sums, tile.largest) = (sums, largest);
        unit
    }
}
