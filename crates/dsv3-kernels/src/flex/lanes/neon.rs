//! NEON, alone and with its dot products of bytes: four registers hold the lanes.

mod rows;
mod turn;

use std::arch::aarch64::{
    float32x4_t, int8x8_t, int8x16_t, int32x4_t, uint8x16_t, uint16x4_t, uint16x8_t, vcvt_f32_f16,
    vreinterpret_f16_u16,
};
use std::arch::is_aarch64_feature_detected;

use bytemuck::cast;

use super::{
    E4M3_BITS, I8_BASE, INT4_BASE, Kernel, LANES, Lanes, NAN_CODE, Sixteen, WORDS, WholeRows,
};

/// NEON as every aarch64 machine has it.
pub(super) const BASE: u8 = 0;
/// SDOT as well, as most have since ARMv8.2: Apple's from M1 on, Neoverse from N1 on.
pub(super) const DOT: u8 = 1;

/// Proof that the machine has NEON up to `LEVEL`.
#[derive(Clone, Copy, Debug)]
pub(in crate::flex) struct Neon<const LEVEL: u8>(pulp::aarch64::Neon);

impl<const LEVEL: u8> PartialEq for Neon<LEVEL> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<const LEVEL: u8> Eq for Neon<LEVEL> {}

/// Four lanes each.
type Quarters = [float32x4_t; 4];

/// Compile `kernel` for dot products as well. NEON itself is part of every aarch64 target.
#[target_feature(enable = "neon,dotprod")]
fn with_dot<K: Kernel>(lanes: Neon<DOT>, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl<const LEVEL: u8> Neon<LEVEL> {
    pub(super) fn detect() -> Option<Self> {
        let has = LEVEL == BASE || is_aarch64_feature_detected!("dotprod");
        pulp::aarch64::Neon::try_new().filter(|_| has).map(Neon)
    }

    /// What both levels have.
    pub(super) fn base(self) -> Neon<BASE> {
        Neon(self.0)
    }

    /// Two times eight words of 16 bits, each as the upper half of a word.
    #[inline(always)]
    fn upper(self, words: [uint16x8_t; 2]) -> Quarters {
        let simd = self.0.neon;
        let zero = cast([0u16; 8]);
        [
            cast(simd.vzip1q_u16(zero, words[0])),
            cast(simd.vzip2q_u16(zero, words[0])),
            cast(simd.vzip1q_u16(zero, words[1])),
            cast(simd.vzip2q_u16(zero, words[1])),
        ]
    }

    /// Codes up to 15, times a scale that `int4_scale` made.
    #[inline(always)]
    fn nibbles(self, codes: uint8x16_t, [scale, base]: [Quarters; 2]) -> Quarters {
        let simd = self.0.neon;
        // 128 in bf16, whose last bit is worth one, and the code as whole ones.
        let ones = cast([0x43u8; 16]);
        let words = [simd.vzip1q_u8(codes, ones), simd.vzip2q_u8(codes, ones)];
        self.mul_add(self.upper(cast(words)), scale, base)
    }

    /// Four of half precision.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn half(self, from: uint16x4_t) -> float32x4_t {
        // SAFETY: FCVTL is part of NEON, and the other one is no instruction.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(from)) }
    }

    /// Lanes eight apart added, then four apart.
    #[inline(always)]
    fn fours(self, value: Quarters) -> float32x4_t {
        let simd = self.0.neon;
        let low = simd.vaddq_f32(value[0], value[2]);
        let high = simd.vaddq_f32(value[1], value[3]);
        simd.vaddq_f32(low, high)
    }

    /// The larger one of each code without its sign and what its place in `so_far` has.
    #[inline(always)]
    fn larger_of(self, so_far: int32x4_t, codes: uint8x16_t) -> int32x4_t {
        let simd = self.0.neon;
        let sizes = simd.vandq_u8(codes, cast([NAN_CODE; LANES]));
        cast(simd.vmaxq_u8(cast(so_far), sizes))
    }
}

impl<const LEVEL: u8> Lanes for Neon<LEVEL> {
    const KEEPS_ONE_ROW: bool = true;
    type F = Quarters;
    type I = [int32x4_t; 4];

    #[allow(unsafe_code)]
    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        match LEVEL {
            BASE => kernel.run(self),
            // SAFETY: `detect`, which alone makes a value of this type, found the feature.
            _ => unsafe { with_dot(Neon(self.0), kernel) },
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        cast([value; LANES])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        cast(*from)
    }

    #[inline(always)]
    fn store(self, value: Self::F) -> [f32; LANES] {
        cast(value)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        let simd = self.0.neon;
        [
            simd.vmulq_f32(a[0], b[0]),
            simd.vmulq_f32(a[1], b[1]),
            simd.vmulq_f32(a[2], b[2]),
            simd.vmulq_f32(a[3], b[3]),
        ]
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let simd = self.0.neon;
        [
            simd.vfmaq_f32(c[0], a[0], b[0]),
            simd.vfmaq_f32(c[1], a[1], b[1]),
            simd.vfmaq_f32(c[2], a[2], b[2]),
            simd.vfmaq_f32(c[3], a[3], b[3]),
        ]
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F {
        self.upper(cast(*from))
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let words: [uint16x4_t; 4] = cast(*from);
        [
            self.half(words[0]),
            self.half(words[1]),
            self.half(words[2]),
            self.half(words[3]),
        ]
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; LANES]) -> Self::F {
        let simd = self.0.neon;
        let [low, _] = cast::<_, [int8x8_t; 2]>(*from);
        // Exponent and fraction to where bf16 has them, four bits up, with the sign drawn out.
        let low = cast(simd.vshll_n_s8::<4>(low));
        let high = cast(simd.vshll_high_n_s8::<4>(cast(*from)));
        let bits = cast([(E4M3_BITS >> 16) as u16; 8]);
        self.upper([simd.vandq_u16(low, bits), simd.vandq_u16(high, bits)])
    }

    /// The scale, and what it makes of [`I8_BASE`], negated. Exact: eleven bits times nine.
    #[inline(always)]
    fn i8_scale(self, scale: f32) -> [Self::F; 2] {
        let scale = self.splat(scale);
        [scale, self.mul(scale, self.splat(-I8_BASE))]
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES], [scale, base]: [Self::F; 2]) -> Self::F {
        let simd = self.0.neon;
        // 2^15, and the code above -128 as whole ones: above `I8_BASE` with its sign.
        let above = simd.veorq_u8(cast(*from), cast([0x80u8; LANES]));
        let zero = cast([0u8; LANES]);
        let low = cast(simd.vzip1q_u8(zero, above));
        let high = cast(simd.vzip2q_u8(zero, above));
        let exponent = cast([0x4700u16; 8]);
        let value = [
            cast(simd.vzip1q_u16(low, exponent)),
            cast(simd.vzip2q_u16(low, exponent)),
            cast(simd.vzip1q_u16(high, exponent)),
            cast(simd.vzip2q_u16(high, exponent)),
        ];
        self.mul_add(value, scale, base)
    }

    /// The scale, and what it makes of [`INT4_BASE`], negated. Exact: eleven bits times five.
    #[inline(always)]
    fn int4_scale(self, scale: f32) -> [Self::F; 2] {
        let scale = self.splat(scale);
        [scale, self.mul(scale, self.splat(-INT4_BASE))]
    }

    #[inline(always)]
    fn int4(self, from: &[u8; LANES], scale: [Self::F; 2]) -> [Self::F; 2] {
        let [lower, upper] = self.halves(cast(*from));
        [self.nibbles(lower, scale), self.nibbles(upper, scale)]
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        cast([value; LANES])
    }

    const INT8_ZERO: u8 = 0;

    #[inline(always)]
    fn dot(self, sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let x: int8x16_t = cast([x; 4]);
        let codes: [int8x16_t; 4] = cast(*codes);
        [
            self.dot_words(sum[0], codes[0], x),
            self.dot_words(sum[1], codes[1], x),
            self.dot_words(sum[2], codes[2], x),
            self.dot_words(sum[3], codes[3], x),
        ]
    }

    #[inline(always)]
    fn to_float(self, value: Self::I) -> Self::F {
        let simd = self.0.neon;
        [
            simd.vcvtq_f32_s32(value[0]),
            simd.vcvtq_f32_s32(value[1]),
            simd.vcvtq_f32_s32(value[2]),
            simd.vcvtq_f32_s32(value[3]),
        ]
    }

    #[inline(always)]
    fn larger(self, so_far: Self::I, codes: &[u8; 2 * LANES]) -> Self::I {
        let codes: [uint8x16_t; 2] = cast(*codes);
        [
            self.larger_of(so_far[0], codes[0]),
            self.larger_of(so_far[1], codes[1]),
            so_far[2],
            so_far[3],
        ]
    }

    #[inline(always)]
    fn larger_all(self, so_far: Self::I, codes: &[u8; WORDS]) -> Self::I {
        let codes: [uint8x16_t; 4] = cast(*codes);
        [
            self.larger_of(so_far[0], codes[0]),
            self.larger_of(so_far[1], codes[1]),
            self.larger_of(so_far[2], codes[2]),
            self.larger_of(so_far[3], codes[3]),
        ]
    }

    const INT8_ROWS: usize = 8;
    const INT4_ROWS: usize = 16;

    #[inline(always)]
    fn int8_rows<const T: usize>(
        self,
        of: &WholeRows<'_, { 2 * LANES }, T>,
        sums: &mut [Self::F; T],
    ) {
        let codes = |row: &[u8; 2 * LANES]| cast(*row);
        let start = |_, _| 0;
        match of.has_groups_of(2) {
            true => self.groups::<_, T, 2>(of, codes, start, sums),
            false => self.groups::<_, T, 0>(of, codes, start, sums),
        }
    }

    #[inline(always)]
    fn int4_rows<const T: usize>(self, of: &WholeRows<'_, LANES, T>, sums: &mut [Self::F; T]) {
        let codes = |row: &[u8; LANES]| {
            let [lower, upper] = self.halves(cast(*row));
            [cast(lower), cast(upper)]
        };
        let start = |t, group| of.start(t, group);
        match of.has_groups_of(1) {
            true => self.groups::<_, T, 1>(of, codes, start, sums),
            false => self.groups::<_, T, 0>(of, codes, start, sums),
        }
    }

    #[inline(always)]
    fn turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        self.words_turned(rows)
    }

    #[inline(always)]
    fn turned_halves(self, rows: &Sixteen<'_>, from: usize, to: &mut [[f32; LANES]; LANES]) {
        self.halves_turned(rows, from, to);
    }

    /// Four trees at once. Each step puts halves of two registers side by side and adds them.
    #[inline(always)]
    fn sums(self, values: [Self::F; LANES]) -> [f32; LANES] {
        let simd = self.0.neon;
        let mut to = values[0];
        for (to, values) in to.iter_mut().zip(values.as_chunks::<4>().0) {
            let mut twos = values[0];
            for (i, twos) in twos.iter_mut().take(2).enumerate() {
                let a = cast(self.fours(values[2 * i]));
                let b = cast(self.fours(values[2 * i + 1]));
                let low = cast(simd.vzip1q_f64(a, b));
                let high = cast(simd.vzip2q_f64(a, b));
                *twos = simd.vaddq_f32(low, high);
            }
            *to = simd.vpaddq_f32(twos[0], twos[1]);
        }
        cast(to)
    }

    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        let simd = self.0.neon;
        let fours = self.fours(value);
        let twos = simd.vadd_f32(simd.vget_low_f32(fours), simd.vget_high_f32(fours));
        simd.vpadds_f32(twos)
    }
}
