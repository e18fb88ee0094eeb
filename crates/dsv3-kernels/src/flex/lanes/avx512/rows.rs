//! Rows of integer codes times whole numbers by AVX-512.

use std::arch::x86_64::{__m512i, _mm512_dpbusd_epi32};

use bytemuck::cast;

use super::super::{LANES, Lanes, WholeRows};
use super::{Avx512, VNNI};

/// Which 128 bits of two registers stand side by side: the lower two of each, the upper two, the first
/// and the third, the second and the fourth.
const LOWER: i32 = 0b01_00_01_00;
const UPPER: i32 = 0b11_10_11_10;
const EVEN: i32 = 0b10_00_10_00;
const ODD: i32 = 0b11_01_11_01;

impl<const LEVEL: u8> Avx512<LEVEL> {
    /// `sum + Σ_j codes[4 · lane + j] · x[4 · lane + j]` over four: codes without signs, `x` with them.
    /// Without VNNI as in `dot`.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn dot_bytes(self, sum: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        if LEVEL >= VNNI {
            // SAFETY: `detect`, which alone makes a value of this type, found AVX-512 F and VNNI.
            return unsafe { _mm512_dpbusd_epi32(sum, codes, x) };
        }
        let bw = self.0.avx512bw;
        let even = bw._mm512_srai_epi16::<8>(bw._mm512_slli_epi16::<8>(x));
        self.dot_words(sum, codes, even, bw._mm512_srai_epi16::<8>(x))
    }

    /// The sums of four neighbours in each of four registers, side by side.
    #[inline(always)]
    fn four(self, of: [__m512i; 4]) -> __m512i {
        let simd = self.0.avx512f;
        let mut pairs = [of[0]; 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            let (a, b) = (of[2 * i], of[2 * i + 1]);
            let low = simd._mm512_unpacklo_epi32(a, b);
            *pair = simd._mm512_add_epi32(low, simd._mm512_unpackhi_epi32(a, b));
        }
        let low = simd._mm512_unpacklo_epi64(pairs[0], pairs[1]);
        simd._mm512_add_epi32(low, simd._mm512_unpackhi_epi64(pairs[0], pairs[1]))
    }

    /// The same where each sum stays within 16 bits, that of two registers' neighbours too: those are
    /// added by what multiplies.
    #[inline(always)]
    fn four_small(self, of: [__m512i; 4]) -> __m512i {
        let simd = self.0.avx512bw;
        let ones = cast([1i16; 32]);
        let low = simd._mm512_madd_epi16(simd._mm512_packs_epi32(of[0], of[1]), ones);
        let high = simd._mm512_madd_epi16(simd._mm512_packs_epi32(of[2], of[3]), ones);
        simd._mm512_madd_epi16(simd._mm512_packs_epi32(low, high), ones)
    }

    /// Of each register the sum of its four quarters, side by side.
    #[inline(always)]
    fn quarters_added(self, of: [__m512i; 4]) -> __m512i {
        let simd = self.0.avx512f;
        let mut pairs = [of[0]; 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            let (a, b) = (of[2 * i], of[2 * i + 1]);
            let low = simd._mm512_shuffle_i32x4::<LOWER>(a, b);
            *pair = simd._mm512_add_epi32(low, simd._mm512_shuffle_i32x4::<UPPER>(a, b));
        }
        let even = simd._mm512_shuffle_i32x4::<EVEN>(pairs[0], pairs[1]);
        simd._mm512_add_epi32(even, simd._mm512_shuffle_i32x4::<ODD>(pairs[0], pairs[1]))
    }

    /// Quarters of four registers, registers for quarters.
    #[inline(always)]
    fn quarters_turned(self, of: [__m512i; 4]) -> [__m512i; 4] {
        let simd = self.0.avx512f;
        let low = simd._mm512_shuffle_i32x4::<LOWER>(of[0], of[1]);
        let lower = simd._mm512_shuffle_i32x4::<LOWER>(of[2], of[3]);
        let high = simd._mm512_shuffle_i32x4::<UPPER>(of[0], of[1]);
        let higher = simd._mm512_shuffle_i32x4::<UPPER>(of[2], of[3]);
        [
            simd._mm512_shuffle_i32x4::<EVEN>(low, lower),
            simd._mm512_shuffle_i32x4::<ODD>(low, lower),
            simd._mm512_shuffle_i32x4::<EVEN>(high, higher),
            simd._mm512_shuffle_i32x4::<ODD>(high, higher),
        ]
    }

    /// Products as those of `dot`, of groups as [`WholeRows::first`] has them: two units in a register.
    #[inline(always)]
    pub(super) fn int8_groups<const T: usize, const UNITS: usize>(
        self,
        of: &WholeRows<'_, { 2 * LANES }, T>,
        sums: &mut [<Self as Lanes>::F; T],
    ) {
        let simd = self.0.avx512f;
        let signs = cast([0x80u8; 64]);
        for group in 0..of.groups() {
            let (first, units) = of.first::<UNITS>(group);
            let mut fours = [[self.whole(0); 4]; T];
            for unit in first..first + units {
                of.ask::<Self>(unit);
            }
            for i in 0..4 {
                let mut words = [[self.whole(0); 4]; T];
                for pair in 0..units.div_ceil(2) {
                    let unit = first + 2 * pair;
                    let is_two = 2 * pair + 1 < units;
                    for r in 0..4 {
                        let row = 4 * i + r;
                        let codes: __m512i = match is_two {
                            true => cast(*of.some::<2>(row, unit)),
                            // What is not there meets nothing.
                            false => cast([*of.row(row, unit), [0; 2 * LANES]]),
                        };
                        let codes = simd._mm512_xor_si512(codes, signs);
                        for (t, words) in words.iter_mut().enumerate() {
                            let x = match is_two {
                                true => cast([*of.x(t, unit), *of.x(t, unit + 1)]),
                                false => cast([*of.x(t, unit), [0; 2 * LANES]]),
                            };
                            words[r] = self.dot_bytes(words[r], codes, x);
                        }
                    }
                }
                for (fours, words) in fours.iter_mut().zip(words) {
                    fours[i] = self.four(words);
                }
            }
            for (t, (sum, fours)) in sums.iter_mut().zip(fours).enumerate() {
                let start = self.whole(of.start(t, group));
                let whole = simd._mm512_add_epi32(start, self.quarters_added(fours));
                *sum = self.mul_add(self.to_float(whole), of.factor(self, t, group), *sum);
            }
        }
    }

    /// Sums of the products of four-bit codes and `x`, in fours of eight: within 8 · 15 · 127.
    #[inline(always)]
    fn int4_fours<const T: usize>(self, codes: __m512i, x: &[[__m512i; 2]; T]) -> [__m512i; T] {
        let (simd, bw) = (self.0.avx512f, self.0.avx512bw);
        let mask = cast([15u8; 64]);
        let lower = simd._mm512_and_si512(codes, mask);
        let upper = simd._mm512_and_si512(bw._mm512_srli_epi16::<4>(codes), mask);
        let mut to = [self.whole(0); T];
        for (to, x) in to.iter_mut().zip(x) {
            *to = self.dot_bytes(self.dot_bytes(*to, lower, x[0]), upper, x[1]);
        }
        to
    }

    /// Four groups of a unit in a register, as they lie; says how many groups that were.
    #[inline(always)]
    pub(super) fn int4_quarters<const T: usize>(
        self,
        of: &WholeRows<'_, LANES, T>,
        sums: &mut [<Self as Lanes>::F; T],
    ) -> usize {
        let simd = self.0.avx512f;
        let end = of.groups() / 4 * 4;
        for unit in (0..end).step_by(4) {
            of.ask::<Self>(unit);
            let mut x = [[self.whole(0); 2]; T];
            for (t, x) in x.iter_mut().enumerate() {
                let low: __m512i = cast([*of.x(t, unit), *of.x(t, unit + 1)]);
                let high: __m512i = cast([*of.x(t, unit + 2), *of.x(t, unit + 3)]);
                x[0] = simd._mm512_shuffle_i32x4::<EVEN>(low, high);
                x[1] = simd._mm512_shuffle_i32x4::<ODD>(low, high);
            }
            let mut sixteen = [[self.whole(0); 4]; T];
            for i in 0..4 {
                let mut rows = [[self.whole(0); 4]; T];
                for r in 0..4 {
                    let codes = cast(*of.some::<4>(4 * i + r, unit));
                    for (rows, fours) in rows.iter_mut().zip(self.int4_fours(codes, &x)) {
                        rows[r] = fours;
                    }
                }
                for (sixteen, rows) in sixteen.iter_mut().zip(rows) {
                    sixteen[i] = self.four_small(rows);
                }
            }
            for (t, (sum, sixteen)) in sums.iter_mut().zip(sixteen).enumerate() {
                for (i, whole) in self.quarters_turned(sixteen).into_iter().enumerate() {
                    let group = unit + i;
                    let whole = simd._mm512_add_epi32(whole, self.whole(of.start(t, group)));
                    *sum = self.mul_add(self.to_float(whole), of.factor(self, t, group), *sum);
                }
            }
        }
        end
    }

    /// Four rows in a register, of groups from `begin` on.
    #[inline(always)]
    pub(super) fn int4_groups<const T: usize>(
        self,
        of: &WholeRows<'_, LANES, T>,
        begin: usize,
        sums: &mut [<Self as Lanes>::F; T],
    ) {
        let simd = self.0.avx512f;
        for group in begin..of.groups() {
            let mut whole = [self.whole(0); T];
            for (t, whole) in whole.iter_mut().enumerate() {
                *whole = self.whole(of.start(t, group));
            }
            for unit in of.units(group) {
                of.ask::<Self>(unit);
                let mut x = [[whole[0]; 2]; T];
                for (t, x) in x.iter_mut().enumerate() {
                    let (halves, _) = of.x(t, unit).as_chunks::<LANES>();
                    x[0] = simd._mm512_broadcast_i32x4(cast(halves[0]));
                    x[1] = simd._mm512_broadcast_i32x4(cast(halves[1]));
                }
                let mut rows = [[whole[0]; 4]; T];
                for r in 0..4 {
                    // In the register's quarters as the lanes are.
                    let mut codes = self.whole(0);
                    codes = simd._mm512_inserti32x4::<0>(codes, cast(*of.row(r, unit)));
                    codes = simd._mm512_inserti32x4::<1>(codes, cast(*of.row(4 + r, unit)));
                    codes = simd._mm512_inserti32x4::<2>(codes, cast(*of.row(8 + r, unit)));
                    codes = simd._mm512_inserti32x4::<3>(codes, cast(*of.row(12 + r, unit)));
                    for (rows, fours) in rows.iter_mut().zip(self.int4_fours(codes, &x)) {
                        rows[r] = fours;
                    }
                }
                for (whole, rows) in whole.iter_mut().zip(rows) {
                    *whole = simd._mm512_add_epi32(*whole, self.four_small(rows));
                }
            }
            for (t, (sum, whole)) in sums.iter_mut().zip(whole).enumerate() {
                *sum = self.mul_add(self.to_float(whole), of.factor(self, t, group), *sum);
            }
        }
    }
}
