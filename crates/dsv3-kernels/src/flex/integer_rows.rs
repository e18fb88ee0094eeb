//! Rows of integer codes times few tokens, without turning the codes.
//!
//! Each row's products are summed along it, where instructions add up neighbours quickly. A group's
//! sum is exact, so the bits are those of [`IntegerDots`] by turned rows.

use std::ops::Range;

use super::integer_dots::{AHEAD, IntegerDots, PANEL_ROWS, PANELS, Span, sixteen, turn_scales};
use super::lanes::{LANES, Lanes, Onward, WholeRows, WholeToken};
use super::rows::Coded;
use crate::packed::{GROUP_UNIT, GroupCodes};

/// A form of codes, `N` bytes a unit.
trait Form<const N: usize> {
    /// What the tokens make of the rows, added to their sums.
    fn add<L: Lanes, const T: usize>(l: L, of: &WholeRows<'_, N, T>, sums: &mut [L::F; T]);
}

struct Int8;

impl Form<{ 2 * LANES }> for Int8 {
    #[inline(always)]
    fn add<L: Lanes, const T: usize>(
        l: L,
        of: &WholeRows<'_, { 2 * LANES }, T>,
        sums: &mut [L::F; T],
    ) {
        l.int8_rows(of, sums);
    }
}

struct Int4;

impl Form<LANES> for Int4 {
    #[inline(always)]
    fn add<L: Lanes, const T: usize>(l: L, of: &WholeRows<'_, LANES, T>, sums: &mut [L::F; T]) {
        l.int4_rows(of, sums);
    }
}

impl IntegerDots<'_, '_> {
    /// Tokens meet the rows of a panel.
    #[inline(always)]
    pub(super) fn by_rows<L: Lanes>(
        &mut self,
        l: L,
        panel: usize,
        rows: &Range<usize>,
        tokens: &Range<usize>,
        span: &Span,
    ) {
        for half in 0..PANELS {
            let of = sixteen(self.rows, rows, half);
            let scales = &mut self.buffer.turned[panel].scales;
            turn_scales(l, &of, span, half, self.rows.format.row_bytes, scales);
            match self.rows.format.codes {
                GroupCodes::Int8 => {
                    self.sixteen_rows::<L, Int8, _>(l, &of, panel, half, tokens, span)
                }
                GroupCodes::Int4 => {
                    self.sixteen_rows::<L, Int4, _>(l, &of, panel, half, tokens, span)
                }
            }
        }
    }

    /// Tokens meet half of a panel, whose scales are turned.
    #[inline(always)]
    fn sixteen_rows<L: Lanes, C: Form<N>, const N: usize>(
        &mut self,
        l: L,
        of: &[Coded<'_>; LANES],
        panel: usize,
        half: usize,
        tokens: &Range<usize>,
        span: &Span,
    ) {
        let units = span.units();
        let mut rows: [&[[u8; N]]; LANES] = [&[]; LANES];
        for (row, of) in rows.iter_mut().zip(of) {
            *row = &of.codes.as_chunks().0[units.clone()];
        }
        let mut first = tokens.start;
        while first < tokens.end {
            first += match tokens.end - first {
                1 => self.few::<L, C, N, 1>(l, rows, first, panel, half, span),
                _ => self.few::<L, C, N, 2>(l, rows, first, panel, half, span),
            };
        }
    }

    /// `T` tokens meet these rows; says how many that were.
    #[inline(always)]
    fn few<L: Lanes, C: Form<N>, const N: usize, const T: usize>(
        &mut self,
        l: L,
        rows: [&[[u8; N]]; LANES],
        first: usize,
        panel: usize,
        half: usize,
        span: &Span,
    ) -> usize {
        let format = &self.rows.format;
        let units = span.units();
        // The first tokens bring the rows: behind their end the next panel's.
        let onward = (first == 0).then_some(Onward {
            near: AHEAD,
            until: format.row_bytes.saturating_sub(AHEAD + units.start * N),
            far: AHEAD + (PANEL_ROWS - 1) * format.row_bytes,
        });
        let kept = &mut self.buffer.sums[panel * self.which.len() + first..][..T];
        let mut tokens = [WholeToken::default(); T];
        let mut sums = [l.splat(0.0); T];
        for t in 0..T {
            let token = self.x.token(self.which[first + t]);
            tokens[t] = WholeToken {
                x: &token.words.as_flattened().as_chunks().0[units.clone()],
                starts: &token.starts[span.groups.clone()],
                scales: &token.scales[span.groups.clone()],
            };
            sums[t] = l.load(&kept[t][half]);
        }
        let scales = &self.buffer.turned[panel].scales[half];
        let of = WholeRows::new(rows, scales, tokens, format.columns / GROUP_UNIT, onward);
        C::add(l, &of, &mut sums);
        for (kept, sum) in kept.iter_mut().zip(sums) {
            kept[half] = l.store(sum);
        }
        T
    }
}
