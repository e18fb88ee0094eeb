//! Integer codes times whole numbers by NEON.

use std::arch::aarch64::{int8x8_t, int8x16_t, int32x4_t, uint8x16_t};
use std::arch::asm;

use bytemuck::cast;

use super::super::{LANES, Lanes, WholeRows};
use super::{DOT, Neon, Quarters};

/// To each word of `sum` four products of signed bytes.
///
/// # Safety
///
/// The machine has dot products of bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
#[allow(unsafe_code)]
unsafe fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: an instruction that reads and writes these registers alone. Rust has no stable function
    // for it.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

impl<const LEVEL: u8> Neon<LEVEL> {
    /// To each word of `sum` the products of four codes. No `x` is -128, so two products stay within 16
    /// bits: 2 · 128 · 127.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn dot_words(self, sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
        if LEVEL == DOT {
            // SAFETY: `detect`, which alone makes a value of this type, found the feature.
            return unsafe { sdot(sum, codes, x) };
        }
        let simd = self.0.neon;
        let [low, _] = cast::<_, [int8x8_t; 2]>(codes);
        let [low_x, _] = cast::<_, [int8x8_t; 2]>(x);
        let low = simd.vmull_s8(low, low_x);
        let high = simd.vmull_high_s8(codes, x);
        simd.vpadalq_s16(sum, simd.vpaddq_s16(low, high))
    }

    /// The same products, any four of them to any word.
    #[inline(always)]
    fn dot_any(self, sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
        if LEVEL == DOT {
            return self.dot_words(sum, codes, x);
        }
        let simd = self.0.neon;
        let [low, _] = cast::<_, [int8x8_t; 2]>(codes);
        let [low_x, _] = cast::<_, [int8x8_t; 2]>(x);
        let pairs = simd.vmlal_high_s8(simd.vmull_s8(low, low_x), codes, x);
        simd.vpadalq_s16(sum, pairs)
    }

    /// The lower and the upper half of each byte.
    #[inline(always)]
    pub(super) fn halves(self, codes: uint8x16_t) -> [uint8x16_t; 2] {
        let simd = self.0.neon;
        let lower = simd.vandq_u8(codes, cast([15u8; LANES]));
        [lower, simd.vshrq_n_u8::<4>(codes)]
    }

    /// For each register the sum of its words.
    #[inline(always)]
    fn added(self, words: [int32x4_t; 4]) -> int32x4_t {
        let simd = self.0.neon;
        let low = simd.vpaddq_s32(words[0], words[1]);
        let high = simd.vpaddq_s32(words[2], words[3]);
        simd.vpaddq_s32(low, high)
    }

    /// Groups as [`WholeRows::first`] has them, four rows at a time: two registers of `codes` a unit, to
    /// what a token's sums over a group `start` with.
    #[inline(always)]
    pub(super) fn groups<const N: usize, const T: usize, const UNITS: usize>(
        self,
        of: &WholeRows<'_, N, T>,
        codes: impl Fn(&[u8; N]) -> [int8x16_t; 2],
        start: impl Fn(usize, usize) -> i32,
        sums: &mut [Quarters; T],
    ) {
        let simd = self.0.neon;
        for group in 0..of.groups() {
            let (first, units) = of.first::<UNITS>(group);
            for unit in first..first + units {
                of.ask::<Self>(unit);
            }
            let mut whole = [self.whole(0); T];
            for (t, whole) in whole.iter_mut().enumerate() {
                *whole = self.whole(start(t, group));
            }
            for i in 0..4 {
                let mut words = [self.whole(0); T];
                for unit in first..first + units {
                    for r in 0..4 {
                        let codes = codes(of.row(4 * i + r, unit));
                        for (t, words) in words.iter_mut().enumerate() {
                            let x: [int8x16_t; 2] = cast(*of.x(t, unit));
                            words[r] = self.dot_any(words[r], codes[0], x[0]);
                            words[r] = self.dot_any(words[r], codes[1], x[1]);
                        }
                    }
                }
                for (whole, words) in whole.iter_mut().zip(words) {
                    whole[i] = simd.vaddq_s32(whole[i], self.added(words));
                }
            }
            for (t, (sum, whole)) in sums.iter_mut().zip(whole).enumerate() {
                *sum = self.mul_add(self.to_float(whole), of.factor(self, t, group), *sum);
            }
        }
    }
}
