//! Rows for columns by NEON.

use std::arch::aarch64::{uint16x4_t, uint16x8_t, uint32x4_t};

use bytemuck::cast;

use super::super::{LANES, Sixteen, WORDS};
use super::Neon;

impl<const LEVEL: u8> Neon<LEVEL> {
    /// As [`Lanes::turned`](super::super::Lanes::turned), four by four.
    #[inline(always)]
    pub(super) fn words_turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        let rows: [[uint32x4_t; 4]; LANES] = cast(*rows);
        let mut to = rows;
        for i in 0..4 {
            for j in 0..4 {
                let mut four = [rows[0][0]; 4];
                for (four, row) in four.iter_mut().zip(&rows[4 * i..]) {
                    *four = row[j];
                }
                for (to, four) in to[4 * j..].iter_mut().zip(self.turned_four(four)) {
                    to[i] = four;
                }
            }
        }
        cast(to)
    }

    /// As [`Lanes::turned_halves`](super::super::Lanes::turned_halves), eight by eight.
    #[inline(always)]
    pub(super) fn halves_turned(
        self,
        rows: &Sixteen<'_>,
        from: usize,
        to: &mut [[f32; LANES]; LANES],
    ) {
        let rows = match rows.all::<{ 2 * LANES }>(from) {
            Some(rows) => rows,
            None => rows.all_padded(from),
        };
        let rows: [[uint16x8_t; 2]; LANES] = cast(rows);
        for i in 0..2 {
            for j in 0..2 {
                let mut eight = [rows[0][0]; 8];
                for (eight, row) in eight.iter_mut().zip(&rows[8 * i..]) {
                    *eight = row[j];
                }
                for (to, eight) in to[8 * j..].iter_mut().zip(self.turned_eight(eight)) {
                    let [low, high] = cast::<_, [uint16x4_t; 2]>(eight);
                    let (to, _) = to.as_chunks_mut::<4>();
                    to[2 * i] = cast(self.half(low));
                    to[2 * i + 1] = cast(self.half(high));
                }
            }
        }
    }

    /// Four rows of four words, rows for columns.
    #[inline(always)]
    fn turned_four(self, rows: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
        let simd = self.0.neon;
        // Columns 0 and 2, columns 1 and 3, of two rows each.
        let a = cast(simd.vtrn1q_u32(rows[0], rows[1]));
        let b = cast(simd.vtrn2q_u32(rows[0], rows[1]));
        let c = cast(simd.vtrn1q_u32(rows[2], rows[3]));
        let d = cast(simd.vtrn2q_u32(rows[2], rows[3]));
        [
            cast(simd.vtrn1q_u64(a, c)),
            cast(simd.vtrn1q_u64(b, d)),
            cast(simd.vtrn2q_u64(a, c)),
            cast(simd.vtrn2q_u64(b, d)),
        ]
    }

    /// Eight rows of eight halves, rows for columns.
    #[inline(always)]
    fn turned_eight(self, rows: [uint16x8_t; 8]) -> [uint16x8_t; 8] {
        let simd = self.0.neon;
        // Of two rows side by side: even columns, odd ones.
        let mut even: [uint32x4_t; 4] = [cast(rows[0]); 4];
        let mut odd = even;
        for i in 0..4 {
            even[i] = cast(simd.vtrn1q_u16(rows[2 * i], rows[2 * i + 1]));
            odd[i] = cast(simd.vtrn2q_u16(rows[2 * i], rows[2 * i + 1]));
        }
        let even = self.turned_four(even);
        let odd = self.turned_four(odd);
        let mut to = rows;
        for i in 0..4 {
            to[2 * i] = cast(even[i]);
            to[2 * i + 1] = cast(odd[i]);
        }
        to
    }
}
