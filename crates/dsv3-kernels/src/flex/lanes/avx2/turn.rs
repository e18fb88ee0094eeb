//! Rows for columns by AVX2.

use std::arch::x86_64::__m256i;

use bytemuck::cast;

use super::super::{LANES, Sixteen, WORDS};
use super::Avx2;

impl Avx2 {
    /// As [`Lanes::turned_halves`](super::super::Lanes::turned_halves): rows eight apart stand side by side.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn halves_turned(
        self,
        rows: &Sixteen<'_>,
        from: usize,
        to: &mut [[f32; LANES]; LANES],
    ) {
        let simd = self.0.avx2;
        let have_all = rows.have(from + 2 * LANES);
        for (i, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let from = from + i * LANES;
            let mut eight: [__m256i; 8] = [cast([0u64; 4]); 8];
            for (lane, eight) in eight.iter_mut().enumerate() {
                *eight = match have_all {
                    // SAFETY: they have as much as two times that.
                    true => unsafe {
                        self.side_by_side(rows.part(lane, from), rows.part(lane + 8, from))
                    },
                    false => {
                        self.side_by_side(&rows.padded(lane, from), &rows.padded(lane + 8, from))
                    }
                };
            }
            for (to, eight) in to.iter_mut().zip(self.turned_halves_of_eight(eight)) {
                let low = self.half(self.0.avx._mm256_castsi256_si128(eight));
                let high = self.half(simd._mm256_extracti128_si256::<1>(eight));
                *to = cast([low, high]);
            }
        }
    }

    /// As [`Lanes::turned`](super::super::Lanes::turned).
    #[inline(always)]
    pub(super) fn words_turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        let rows: [[__m256i; 2]; LANES] = cast(*rows);
        let mut to = rows;
        for i in 0..2 {
            for j in 0..2 {
                let mut eight = [rows[0][0]; 8];
                for (eight, row) in eight.iter_mut().zip(&rows[8 * i..]) {
                    *eight = row[j];
                }
                let eight = self.turned_eight(eight);
                for (to, eight) in to[8 * j..].iter_mut().zip(eight) {
                    to[i] = eight;
                }
            }
        }
        cast(to)
    }

    /// Eight rows of eight halves in each half of the registers, rows for columns.
    #[inline(always)]
    fn turned_halves_of_eight(self, rows: [__m256i; 8]) -> [__m256i; 8] {
        let simd = self.0.avx2;
        let (mut twos, mut fours, mut to) = (rows, rows, rows);
        for i in 0..4 {
            let (a, b) = (rows[2 * i], rows[2 * i + 1]);
            twos[2 * i] = simd._mm256_unpacklo_epi16(a, b); // columns 0 to 3
            twos[2 * i + 1] = simd._mm256_unpackhi_epi16(a, b); // columns 4 to 7
        }
        for i in 0..2 {
            for half in 0..2 {
                let (a, b) = (twos[4 * i + half], twos[4 * i + 2 + half]);
                fours[4 * i + 2 * half] = simd._mm256_unpacklo_epi32(a, b);
                fours[4 * i + 2 * half + 1] = simd._mm256_unpackhi_epi32(a, b);
            }
        }
        for i in 0..4 {
            to[2 * i] = simd._mm256_unpacklo_epi64(fours[i], fours[4 + i]);
            to[2 * i + 1] = simd._mm256_unpackhi_epi64(fours[i], fours[4 + i]);
        }
        to
    }

    /// Eight rows of eight words, rows for columns.
    #[inline(always)]
    fn turned_eight(self, rows: [__m256i; 8]) -> [__m256i; 8] {
        let simd = self.0.avx2;
        let mut fours = rows;
        for i in 0..2 {
            let rows = &rows[4 * i..];
            let a = simd._mm256_unpacklo_epi32(rows[0], rows[1]); // columns 0 and 1, 4 and 5
            let b = simd._mm256_unpackhi_epi32(rows[0], rows[1]); // columns 2 and 3, 6 and 7
            let c = simd._mm256_unpacklo_epi32(rows[2], rows[3]);
            let d = simd._mm256_unpackhi_epi32(rows[2], rows[3]);
            fours[4 * i] = simd._mm256_unpacklo_epi64(a, c);
            fours[4 * i + 1] = simd._mm256_unpackhi_epi64(a, c);
            fours[4 * i + 2] = simd._mm256_unpacklo_epi64(b, d);
            fours[4 * i + 3] = simd._mm256_unpackhi_epi64(b, d);
        }
        let mut to = rows;
        for i in 0..4 {
            to[i] = simd._mm256_permute2x128_si256::<0x20>(fours[i], fours[4 + i]);
            to[4 + i] = simd._mm256_permute2x128_si256::<0x31>(fours[i], fours[4 + i]);
        }
        to
    }
}
