//! Rows of integer codes times whole numbers, and their sums in plain Rust: the oracle of the
//! instructions for them.

use std::ops::Range;

use super::{LANES, LINE, Lanes, Onward, Sixteen};

/// Some columns of sixteen rows of codes, `N` bytes a unit, and the whole numbers that `T` tokens
/// have for them.
#[derive(Clone, Copy)]
pub(in crate::flex) struct WholeRows<'a, const N: usize, const T: usize> {
    rows: &'a Sixteen<'a>,
    /// Where the columns begin in each row, in bytes.
    from: usize,
    /// Of the rows, `[groups, LANES]`
    scales: &'a [[f32; LANES]],
    tokens: [WholeToken<'a>; T],
    /// Units of the columns, and groups.
    count: usize,
    groups: usize,
    /// Units of a group; the last one may have fewer.
    per_group: usize,
    onward: Onward<'a>,
}

/// What a token has for these columns.
#[derive(Clone, Copy, Default)]
pub(in crate::flex) struct WholeToken<'a> {
    /// `[units]`. None is -128.
    pub(in crate::flex) x: &'a [[i8; 2 * LANES]],
    /// What sums over a group begin with, where codes are multiplied without signs: four-bit ones
    /// are, those of eight bits where [`Lanes::INT8_ZERO`] is not 0. `[groups]`
    pub(in crate::flex) starts: &'a [i32],
    /// `[groups]`
    pub(in crate::flex) scales: &'a [f32],
}

impl<'a, const N: usize, const T: usize> WholeRows<'a, N, T> {
    /// Columns from byte `from` of the rows on, in groups of `per_group` units.
    ///
    /// # Panics
    ///
    /// Where rows, scales or tokens have less than the first token's columns.
    #[inline(always)]
    pub(in crate::flex) fn new(
        rows: &'a Sixteen<'a>,
        from: usize,
        scales: &'a [[f32; LANES]],
        tokens: [WholeToken<'a>; T],
        per_group: usize,
        onward: Onward<'a>,
    ) -> Self {
        // Said once, so that the loops need not look at every index.
        let count = tokens[0].x.len();
        assert!(
            rows.have(from.saturating_add(count * N)),
            "rows are too short"
        );
        let groups = tokens[0].scales.len();
        assert!(groups * per_group >= count && scales.len() >= groups);
        for token in &tokens {
            assert!(token.x.len() >= count);
            assert!(token.starts.len() >= groups && token.scales.len() >= groups);
        }
        WholeRows {
            rows,
            from,
            scales,
            tokens,
            count,
            groups,
            per_group,
            onward,
        }
    }

    /// Whether each group has `units`, the last one too.
    #[inline(always)]
    pub(super) fn has_groups_of(&self, units: usize) -> bool {
        self.per_group == units && self.count == self.groups * units
    }

    /// How many.
    #[inline(always)]
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// A group's.
    #[inline(always)]
    pub(super) fn units(&self, group: usize) -> Range<usize> {
        let first = group * self.per_group;
        first..(first + self.per_group).min(self.count)
    }

    /// A group's first unit and how many follow: `UNITS` where all groups have so many, which a
    /// compiler leaves no loop of; else that is 0.
    #[inline(always)]
    pub(super) fn first<const UNITS: usize>(&self, group: usize) -> (usize, usize) {
        match UNITS {
            0 => {
                let units = self.units(group);
                (units.start, units.len())
            }
            _ => (group * UNITS, UNITS),
        }
    }

    /// A unit of a row.
    ///
    /// # Panics
    ///
    /// Behind the last one.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn row(&self, row: usize, unit: usize) -> &'a [u8; N] {
        assert!(unit < self.count);
        // SAFETY: `new`, which alone makes a value of this type, found `count` of them in the rows.
        unsafe { self.rows.part(row, self.from + unit * N) }
    }

    /// `M` units of a row, the first of which is `unit`.
    ///
    /// # Panics
    ///
    /// Where one of them lies behind the last one.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn some<const M: usize>(&self, row: usize, unit: usize) -> &'a [[u8; N]; M] {
        assert!(M <= self.count && unit <= self.count - M);
        // SAFETY: as above.
        unsafe { self.rows.parts(row, self.from + unit * N) }
    }

    /// A unit of a token.
    #[inline(always)]
    pub(super) fn x(&self, token: usize, unit: usize) -> &'a [i8; 2 * LANES] {
        &self.tokens[token].x[unit]
    }

    /// What a token's sums over a group begin with.
    #[inline(always)]
    pub(super) fn start(&self, token: usize, group: usize) -> i32 {
        self.tokens[token].starts[group]
    }

    /// What a token's sums over a group are multiplied by.
    #[inline(always)]
    pub(super) fn factor<L: Lanes>(&self, l: L, token: usize, group: usize) -> L::F {
        let x_scale = l.splat(self.tokens[token].scales[group]);
        l.mul(l.load(&self.scales[group]), x_scale)
    }

    /// Ask memory for what lies further on than this unit, once for each line.
    #[inline(always)]
    pub(super) fn ask<L: Lanes>(&self, unit: usize) {
        if (unit * N).is_multiple_of(LINE) {
            self.onward.ask::<L>(self.rows, self.from + unit * N);
        }
    }
}

/// As [`Lanes::int8_rows`].
#[inline(always)]
pub(super) fn int8_rows<L: Lanes, const T: usize>(
    l: L,
    of: &WholeRows<'_, { 2 * LANES }, T>,
    sums: &mut [L::F; T],
) {
    for group in 0..of.groups() {
        for (t, sum) in sums.iter_mut().enumerate() {
            let mut whole = [0; LANES];
            for unit in of.units(group) {
                for (lane, whole) in whole.iter_mut().enumerate() {
                    for (code, x) in of.row(lane, unit).iter().zip(of.x(t, unit)) {
                        *whole += i32::from(*code as i8) * i32::from(*x);
                    }
                }
            }
            let whole = l.load(&whole.map(|whole| whole as f32));
            *sum = l.mul_add(whole, of.factor(l, t, group), *sum);
        }
    }
}

/// As [`Lanes::int4_rows`].
#[inline(always)]
pub(super) fn int4_rows<L: Lanes, const T: usize>(
    l: L,
    of: &WholeRows<'_, LANES, T>,
    sums: &mut [L::F; T],
) {
    for group in 0..of.groups() {
        for (t, sum) in sums.iter_mut().enumerate() {
            let mut whole = [of.start(t, group); LANES];
            for unit in of.units(group) {
                let (low, high) = of.x(t, unit).split_at(LANES);
                for (lane, whole) in whole.iter_mut().enumerate() {
                    for (code, (low, high)) in of.row(lane, unit).iter().zip(low.iter().zip(high)) {
                        *whole += i32::from(code & 15) * i32::from(*low);
                        *whole += i32::from(code >> 4) * i32::from(*high);
                    }
                }
            }
            let whole = l.load(&whole.map(|whole| whole as f32));
            *sum = l.mul_add(whole, of.factor(l, t, group), *sum);
        }
    }
}
