//! Rows for columns by AVX-512.

use std::arch::x86_64::{__m256i, __m512i};

use bytemuck::cast;

use super::super::{LANES, Sixteen, WORDS};
use super::Avx512;

impl<const LEVEL: u8> Avx512<LEVEL> {
    /// As [`Lanes::turned_halves`](super::super::Lanes::turned_halves): rows eight apart stand side by side.
    #[inline(always)]
    pub(super) fn halves_turned(
        self,
        rows: &Sixteen<'_>,
        from: usize,
        to: &mut [[f32; LANES]; LANES],
    ) {
        let simd = self.0.avx512f;
        let rows: [__m256i; LANES] = cast(match rows.all::<{ 2 * LANES }>(from) {
            Some(rows) => rows,
            None => rows.all_padded(from),
        });
        let mut v: [__m512i; 8] = [cast([0u64; 8]); 8];
        for (i, v) in v.iter_mut().enumerate() {
            let low = simd._mm512_castsi256_si512(rows[i]);
            *v = simd._mm512_inserti64x4::<1>(low, rows[i + 8]);
        }
        let bw = self.0.avx512bw;
        let mut pairs = v;
        for i in 0..4 {
            pairs[2 * i] = bw._mm512_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
            pairs[2 * i + 1] = bw._mm512_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
        }
        // Of rows 4 · i to 4 · i + 3, `fours[4 · i + j]` has columns 2 · j and 2 · j + 1.
        let mut fours = pairs;
        for i in 0..2 {
            let [a, b, c, d] = [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3];
            fours[4 * i] = simd._mm512_unpacklo_epi32(pairs[a], pairs[c]);
            fours[4 * i + 1] = simd._mm512_unpackhi_epi32(pairs[a], pairs[c]);
            fours[4 * i + 2] = simd._mm512_unpacklo_epi32(pairs[b], pairs[d]);
            fours[4 * i + 3] = simd._mm512_unpackhi_epi32(pairs[b], pairs[d]);
        }
        for j in 0..4 {
            let (a, b) = (fours[j], fours[4 + j]);
            for (column, eights) in [
                (2 * j, simd._mm512_unpacklo_epi64(a, b)),
                (2 * j + 1, simd._mm512_unpackhi_epi64(a, b)),
            ] {
                // Quarters: a column's eight rows, those of the eighth behind it, the other rows of both.
                let order = simd._mm512_shuffle_i32x4::<0b11_01_10_00>(eights, eights);
                let low = simd._mm512_castsi512_si256(order);
                let high = simd._mm512_extracti64x4_epi64::<1>(order);
                to[column] = cast(simd._mm512_cvtph_ps(low));
                to[8 + column] = cast(simd._mm512_cvtph_ps(high));
            }
        }
    }

    /// As [`Lanes::turned`](super::super::Lanes::turned): pairs of rows, pairs of pairs, then quarters of
    /// registers, twice.
    #[inline(always)]
    pub(super) fn words_turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        let simd = self.0.avx512f;
        let v: [__m512i; LANES] = cast(*rows);
        let mut pairs = v;
        for i in 0..8 {
            pairs[2 * i] = simd._mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
            pairs[2 * i + 1] = simd._mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
        }
        // Of rows 4 · i to 4 · i + 3, `fours[4 · i + j]` has columns j, 4 + j, 8 + j and 12 + j.
        let mut fours = pairs;
        for i in 0..4 {
            let (a, b) = (pairs[4 * i], pairs[4 * i + 1]);
            let (c, d) = (pairs[4 * i + 2], pairs[4 * i + 3]);
            fours[4 * i] = simd._mm512_unpacklo_epi64(a, c);
            fours[4 * i + 1] = simd._mm512_unpackhi_epi64(a, c);
            fours[4 * i + 2] = simd._mm512_unpacklo_epi64(b, d);
            fours[4 * i + 3] = simd._mm512_unpackhi_epi64(b, d);
        }
        let mut to = fours;
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            let ab = simd._mm512_shuffle_i32x4::<0b10_00_10_00>(a, b); // columns j, 8 + j
            let cd = simd._mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
            to[j] = simd._mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd);
            to[8 + j] = simd._mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd);
            let ab = simd._mm512_shuffle_i32x4::<0b11_01_11_01>(a, b); // columns 4 + j, 12 + j
            let cd = simd._mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
            to[4 + j] = simd._mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd);
            to[12 + j] = simd._mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd);
        }
        cast(to)
    }
}
