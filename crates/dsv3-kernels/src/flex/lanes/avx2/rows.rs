//! Rows of integer codes times whole numbers by AVX2.

use std::arch::x86_64::__m256i;

use bytemuck::cast;

use super::super::{LANES, Lanes, WholeRows};
use super::{Avx2, Halves};

impl Avx2 {
    /// For each register the sum of its eight words, in two registers of eight.
    #[inline(always)]
    fn added(self, fours: [__m256i; 4]) -> Halves {
        let simd = self.0.avx2;
        let mut to = [fours[0]; 2];
        for (i, to) in to.iter_mut().enumerate() {
            let (a, b) = (fours[2 * i], fours[2 * i + 1]);
            let low = simd._mm256_permute2x128_si256::<0x20>(a, b);
            let high = simd._mm256_permute2x128_si256::<0x31>(a, b);
            *to = simd._mm256_add_epi32(low, high);
        }
        self.to_float(to)
    }

    /// Neighbours of four registers added twice: a word of each in the lower half, and in the upper.
    #[inline(always)]
    fn four(self, sums: [__m256i; 4]) -> __m256i {
        let simd = self.0.avx2;
        simd._mm256_hadd_epi32(
            simd._mm256_hadd_epi32(sums[0], sums[1]),
            simd._mm256_hadd_epi32(sums[2], sums[3]),
        )
    }

    /// Products as those of `dot`, of groups as [`WholeRows::first`] has them.
    #[inline(always)]
    pub(super) fn int8_groups<const T: usize, const UNITS: usize>(
        self,
        of: &WholeRows<'_, { 2 * LANES }, T>,
        sums: &mut [Halves; T],
    ) {
        let simd = self.0.avx2;
        for group in 0..of.groups() {
            let (first, units) = of.first::<UNITS>(group);
            for unit in 0..units {
                of.ask::<Self>(first + unit);
            }
            let mut fours: [[__m256i; 4]; T] = [cast([0u64; 16]); T];
            for i in 0..4 {
                let mut words: [[__m256i; 4]; T] = [cast([0u64; 16]); T];
                for unit in 0..units {
                    let unit = first + unit;
                    for r in 0..4 {
                        let codes: __m256i = cast(*of.row(4 * i + r, unit));
                        let sizes = simd._mm256_abs_epi8(codes);
                        for (t, words) in words.iter_mut().enumerate() {
                            let x = simd._mm256_sign_epi8(cast(*of.x(t, unit)), codes);
                            let pairs = simd._mm256_maddubs_epi16(sizes, x);
                            let twice = simd._mm256_madd_epi16(pairs, cast([1i16; 16]));
                            words[r] = simd._mm256_add_epi32(words[r], twice);
                        }
                    }
                }
                for (fours, words) in fours.iter_mut().zip(words) {
                    fours[i] = self.four(words);
                }
            }
            for (t, (sum, fours)) in sums.iter_mut().zip(fours).enumerate() {
                *sum = self.mul_add(self.added(fours), of.factor(self, t, group), *sum);
            }
        }
    }

    /// Products of four-bit codes and what stands in front of them, in neighbouring fours. Sums of four
    /// products, of eight and of sixteen stay within 16 bits, so that neighbours are added by what
    /// multiplies: 16 · 15 · 127.
    #[inline(always)]
    fn int4_fours<const T: usize>(self, codes: __m256i, x: &[[__m256i; 2]; T]) -> [__m256i; T] {
        let simd = self.0.avx2;
        let mask: __m256i = cast([15u8; 32]);
        let lower = simd._mm256_and_si256(codes, mask);
        let upper = simd._mm256_and_si256(simd._mm256_srli_epi16::<4>(codes), mask);
        let mut to = [mask; T];
        for (to, x) in to.iter_mut().zip(x) {
            let lower = simd._mm256_maddubs_epi16(lower, x[0]);
            let upper = simd._mm256_maddubs_epi16(upper, x[1]);
            let pairs = simd._mm256_add_epi16(lower, upper);
            *to = simd._mm256_madd_epi16(pairs, cast([1i16; 16]));
        }
        to
    }

    /// The sums of a half of each of four registers as words, in the lower half and in the upper.
    #[inline(always)]
    fn int4_sums(self, fours: [__m256i; 4]) -> __m256i {
        let simd = self.0.avx2;
        let ones: __m256i = cast([1i16; 16]);
        let a = simd._mm256_madd_epi16(simd._mm256_packs_epi32(fours[0], fours[1]), ones);
        let b = simd._mm256_madd_epi16(simd._mm256_packs_epi32(fours[2], fours[3]), ones);
        simd._mm256_madd_epi16(simd._mm256_packs_epi32(a, b), ones)
    }

    /// Two rows in a register, of groups from `begin` on.
    #[inline(always)]
    pub(super) fn int4_groups<const T: usize, const UNITS: usize>(
        self,
        of: &WholeRows<'_, LANES, T>,
        begin: usize,
        sums: &mut [Halves; T],
    ) {
        let simd = self.0.avx2;
        for group in begin..of.groups() {
            let (first, units) = of.first::<UNITS>(group);
            let mut whole = [self.whole(0); T];
            for (t, whole) in whole.iter_mut().enumerate() {
                *whole = self.whole(of.start(t, group));
            }
            for unit in first..first + units {
                of.ask::<Self>(unit);
                let mut x = [[whole[0][0]; 2]; T];
                for (t, x) in x.iter_mut().enumerate() {
                    let (halves, _) = of.x(t, unit).as_chunks::<LANES>();
                    x[0] = simd._mm256_broadcastsi128_si256(cast(halves[0]));
                    x[1] = simd._mm256_broadcastsi128_si256(cast(halves[1]));
                }
                for half in 0..2 {
                    let mut rows = [[x[0][0]; 4]; T];
                    for r in 0..4 {
                        // In the register's halves as the lanes are.
                        let (low, high) = (8 * half + r, 8 * half + 4 + r);
                        let codes = self.side_by_side(of.row(low, unit), of.row(high, unit));
                        for (rows, fours) in rows.iter_mut().zip(self.int4_fours(codes, &x)) {
                            rows[r] = fours;
                        }
                    }
                    for (whole, rows) in whole.iter_mut().zip(rows) {
                        whole[half] = simd._mm256_add_epi32(whole[half], self.int4_sums(rows));
                    }
                }
            }
            for (t, (sum, whole)) in sums.iter_mut().zip(whole).enumerate() {
                *sum = self.mul_add(self.to_float(whole), of.factor(self, t, group), *sum);
            }
        }
    }

    /// Two groups of a unit in a register, as they lie; says with how many groups there was one beside
    /// each.
    #[inline(always)]
    pub(super) fn int4_pairs<const T: usize>(
        self,
        of: &WholeRows<'_, LANES, T>,
        sums: &mut [Halves; T],
    ) -> usize {
        let simd = self.0.avx2;
        let end = of.groups() / 2 * 2;
        for unit in (0..end).step_by(2) {
            of.ask::<Self>(unit);
            let mut x = [[cast([0u64; 4]); 2]; T];
            for (t, x) in x.iter_mut().enumerate() {
                let (a, b) = (cast(*of.x(t, unit)), cast(*of.x(t, unit + 1)));
                x[0] = simd._mm256_permute2x128_si256::<0x20>(a, b);
                x[1] = simd._mm256_permute2x128_si256::<0x31>(a, b);
            }
            let mut sixteen = [[x[0][0]; 4]; T];
            for i in 0..4 {
                let mut rows = [[x[0][0]; 4]; T];
                for r in 0..4 {
                    let codes = cast(*of.some::<2>(4 * i + r, unit));
                    for (rows, fours) in rows.iter_mut().zip(self.int4_fours(codes, &x)) {
                        rows[r] = fours;
                    }
                }
                for (sixteen, rows) in sixteen.iter_mut().zip(rows) {
                    sixteen[i] = self.int4_sums(rows);
                }
            }
            for (t, (sum, of_rows)) in sums.iter_mut().zip(sixteen).enumerate() {
                let low = self.add_halves::<0x20>(of_rows, self.whole(of.start(t, unit)));
                *sum = self.mul_add(self.to_float(low), of.factor(self, t, unit), *sum);
                let high = self.add_halves::<0x31>(of_rows, self.whole(of.start(t, unit + 1)));
                *sum = self.mul_add(self.to_float(high), of.factor(self, t, unit + 1), *sum);
            }
        }
        end
    }

    /// Halves of four registers, added to `to`: the lower ones where `HALVES` is 0x20, the upper ones
    /// where it is 0x31.
    #[inline(always)]
    fn add_halves<const HALVES: i32>(self, of: [__m256i; 4], to: [__m256i; 2]) -> [__m256i; 2] {
        let simd = self.0.avx2;
        let low = simd._mm256_permute2x128_si256::<HALVES>(of[0], of[1]);
        let high = simd._mm256_permute2x128_si256::<HALVES>(of[2], of[3]);
        [
            simd._mm256_add_epi32(to[0], low),
            simd._mm256_add_epi32(to[1], high),
        ]
    }
}
