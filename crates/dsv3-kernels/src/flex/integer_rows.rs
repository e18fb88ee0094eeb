//! Rows of integer codes times few tokens, without turning the codes.
//!
//! Each row's products are summed along it, where instructions add up neighbours quickly. A group's
//! sum is exact, so the bits are those of [`IntegerDots`] by turned rows.

use std::ops::Range;

use super::integer_dots::{IntegerDots, PANELS, Span, ahead, sixteen, turn_scales};
use super::lanes::{LANES, Lanes, WORDS, prefetch};
use crate::packed::{GROUP_UNIT, GroupCodes};

impl IntegerDots<'_, '_> {
    /// The tokens meet the rows of a panel.
    #[inline(always)]
    pub(super) fn by_rows<L: Lanes>(
        &mut self,
        l: L,
        panel: usize,
        rows: &Range<usize>,
        span: &Span,
    ) {
        let (format, tokens) = (self.rows.format, self.which.len());
        let per_group = format.columns / GROUP_UNIT;
        let end = span.columns.end / GROUP_UNIT;
        let scales = &mut self.buffer.turned[panel].scales;
        let sums = &mut self.buffer.sums[panel * tokens..][..tokens];
        for half in 0..PANELS {
            let of = sixteen(self.rows, rows, half);
            turn_scales(l, &of, span, half, scales);
            let mut int8: [&[[u8; 2 * LANES]]; LANES] = [&[]; LANES];
            let mut int4: [&[[u8; LANES]]; LANES] = [&[]; LANES];
            for (lane, of) in of.iter().enumerate() {
                int8[lane] = of.codes.as_chunks().0;
                int4[lane] = of.codes.as_chunks().0;
            }
            for (t, sums) in sums.iter_mut().enumerate() {
                let token = self.x.token(self.which[t]);
                let (x, _) = token.words.as_flattened().as_chunks::<GROUP_UNIT>();
                let mut sum = l.load(&sums[half]);
                for (group, scales) in span.groups.clone().zip(scales.iter()) {
                    let units = group * per_group..((group + 1) * per_group).min(end);
                    let byte = format.code_bytes(units.start * GROUP_UNIT);
                    if t == 0 && byte.is_multiple_of(WORDS) {
                        let ahead = ahead(byte, format.row_bytes);
                        for of in &of {
                            prefetch(of.codes.as_ptr().wrapping_add(ahead));
                        }
                    }
                    let x = &x[units.clone()];
                    let whole = match format.codes {
                        GroupCodes::Int8 => l.int8_rows(&int8, units, x, 0),
                        GroupCodes::Int4 => l.int4_rows(&int4, units, x, token.starts[group]),
                    };
                    let factor = l.mul(l.load(&scales[half]), l.splat(token.scales[group]));
                    sum = l.mul_add(whole, factor, sum);
                }
                sums[half] = l.store(sum);
            }
        }
    }
}
