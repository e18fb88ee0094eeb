//! Rows of integer codes times few tokens, without turning the codes.
//!
//! Each row's products are summed along it, where instructions add up neighbours quickly. A group's
//! sum is exact, so the bits are those of [`IntegerDots`] by turned rows.

use std::ops::Range;

use super::integer_dots::{IntegerDots, PANELS, Span, sixteen, turn_scales};
use super::lanes::{Cache, LANES, LINE, Lanes, Next, Onward, Sixteen, WholeRows, WholeToken};
use super::rows::Groups;
use crate::packed::{GROUP_UNIT, GroupCodes};

/// Tokens that meet the rows at once: as many as fit the registers.
pub(super) const TILE: usize = 2;
/// Bytes of a row between what is read and what is asked of memory.
const NEAR: usize = 128;
/// Rows of fewer bytes end before the machine has found out that they are read one after the other:
/// memory is asked for the next sixteen while these are read, in the order in which they lie. Where
/// they are brought to a core's second cache, which has room for them, so it is for all rows.
const SHORT: usize = 2048;

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

/// Which rows and tokens.
#[derive(Clone, Copy)]
struct Place {
    panel: usize,
    /// Of the panel.
    half: usize,
    /// The first token.
    first: usize,
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
        let format = self.rows.format;
        let code_bytes = self.rows.code_bytes();
        for half in 0..PANELS {
            let of = self.rows.sixteen(sixteen(rows, half));
            let from = code_bytes + 2 * span.groups.start;
            let ahead = span.to_next_scales(LANES * format.row_bytes);
            let next = (rows.start + (half + 1) * LANES).min(self.range.end);
            let next = next..(next + LANES).min(self.range.end);
            let onward = onward::<L>(&self.rows, next, span);
            let scales = &mut self.buffer.turned[panel].scales[half];
            turn_scales(l, &of, from, span.groups.len(), ahead, &onward, scales);
            let mut first = tokens.start;
            while first < tokens.end {
                // The first tokens bring the rows.
                let onward = if first == 0 { onward } else { Onward::Nothing };
                let at = Place { panel, half, first };
                first += match (format.codes, tokens.end - first) {
                    (GroupCodes::Int8, 1) => self.few::<L, Int8, _, 1>(l, &of, at, span, onward),
                    (GroupCodes::Int8, _) => self.few::<L, Int8, _, TILE>(l, &of, at, span, onward),
                    (GroupCodes::Int4, 1) => self.few::<L, Int4, _, 1>(l, &of, at, span, onward),
                    (GroupCodes::Int4, _) => self.few::<L, Int4, _, TILE>(l, &of, at, span, onward),
                };
            }
        }
    }

    /// `T` tokens meet sixteen rows; says how many that were.
    #[inline(always)]
    fn few<L: Lanes, C: Form<N>, const N: usize, const T: usize>(
        &mut self,
        l: L,
        rows: &Sixteen<'_>,
        at: Place,
        span: &Span,
        onward: Onward<'_>,
    ) -> usize {
        let Place { panel, half, first } = at;
        let units = span.units();
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
        let per_group = self.rows.format.columns / GROUP_UNIT;
        let of = WholeRows::new(rows, units.start * N, scales, tokens, per_group, onward);
        C::add(l, &of, &mut sums);
        for (kept, sum) in kept.iter_mut().zip(sums) {
            kept[half] = l.store(sum);
        }
        T
    }
}

/// What memory is asked for while rows are read that `next` lie behind.
#[inline(always)]
fn onward<'a, L: Lanes>(rows: &Groups<'a>, next: Range<usize>, span: &Span) -> Onward<'a> {
    let row_bytes = rows.format.row_bytes;
    let is_near = L::CACHE == Cache::First && row_bytes >= SHORT;
    if is_near || !span.is_first || !span.is_last {
        return Onward::Near(NEAR);
    }
    let before = span.groups.len().div_ceil(LANES);
    let steps = before + rows.code_bytes().div_ceil(LINE);
    Onward::Next(Next {
        bytes: rows.bytes(next),
        lines: (LANES * row_bytes / LINE).div_ceil(steps),
        before,
    })
}
