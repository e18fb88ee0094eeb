//! AVX2 with FMA: two registers hold the lanes.

mod rows;
mod turn;

use std::arch::x86_64::{__m128i, __m256, __m256i, _mm256_cvtph_ps};

use bytemuck::cast;
use pulp::x86::V3;

use super::{
    E4M3_BITS, I8_BASE, INT4_BASE, Kernel, LANES, Lanes, NAN_CODE, Sixteen, WORDS, WholeRows,
};

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(in crate::flex) struct Avx2(V3);

impl PartialEq for Avx2 {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Avx2 {}

/// Lanes 0 to 7, and 8 to 15. What is done to each is written twice or in a function: a closure is
/// compiled for the plain target, and where it is not inlined its instructions are calls.
type Halves = [__m256; 2];

/// No byte of a word.
const NOWHERE: usize = 4;

/// Where a shuffle of sixteen bytes finds them: byte `i` of the first eight as byte `first` of word
/// `i`, byte `8 + i` as byte `second`, and zeros elsewhere.
const fn order(first: usize, second: usize) -> [u8; 32] {
    let mut to = [0x80; 32];
    let mut i = 0;
    while i < 8 {
        if first != NOWHERE {
            to[4 * i + first] = i as u8;
        }
        if second != NOWHERE {
            to[4 * i + second] = 8 + i as u8;
        }
        i += 1;
    }
    to
}

/// Compile `kernel` for all of it: `V3` leaves F16C out, and each conversion would be a call.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
fn with_f16c<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has_f16c = is_x86_feature_detected!("f16c");
        V3::try_new().filter(|_| has_f16c).map(Avx2)
    }

    /// Sixteen bytes, shuffled by each half of `order` to a register of its own.
    #[inline(always)]
    fn spread(self, from: &[u8; LANES], order: [u8; 32]) -> __m256i {
        let simd = self.0.avx2;
        let both = simd._mm256_broadcastsi128_si256(cast(*from));
        simd._mm256_shuffle_epi8(both, cast(order))
    }

    /// The lower and the upper half of each word of 32 bits as the upper one of a word.
    #[inline(always)]
    fn parted(self, words: __m256i) -> [__m256i; 2] {
        let simd = self.0.avx2;
        [
            simd._mm256_slli_epi32::<16>(words),
            simd._mm256_and_si256(words, cast([0xffff_0000u32; 8])),
        ]
    }

    /// Two times sixteen bytes in a register.
    #[inline(always)]
    fn side_by_side(self, low: &[u8; LANES], high: &[u8; LANES]) -> __m256i {
        let low = self.0.avx._mm256_castsi128_si256(cast(*low));
        self.0.avx2._mm256_inserti128_si256::<1>(low, cast(*high))
    }

    /// Eight of half precision.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn half(self, from: __m128i) -> __m256 {
        // SAFETY: `detect`, which alone makes a value of this type, found F16C.
        unsafe { _mm256_cvtph_ps(from) }
    }
}

impl Lanes for Avx2 {
    const KEEPS_ONE_ROW: bool = true;
    type F = Halves;
    type I = [__m256i; 2];

    #[allow(unsafe_code)]
    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `detect`, which alone makes a value of this type, found all of the features.
        unsafe { with_f16c(self, kernel) }
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
        let simd = self.0.avx;
        [
            simd._mm256_mul_ps(a[0], b[0]),
            simd._mm256_mul_ps(a[1], b[1]),
        ]
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let simd = self.0.fma;
        [
            simd._mm256_fmadd_ps(a[0], b[0], c[0]),
            simd._mm256_fmadd_ps(a[1], b[1], c[1]),
        ]
    }

    /// Eight trees at once. Each step puts halves, quarters and so on of two registers side by side
    /// and adds them.
    #[inline(always)]
    fn sums(self, v: [Self::F; LANES]) -> [f32; LANES] {
        let simd = self.0.avx;
        let mut eights = [v[0][0]; LANES];
        for (eight, v) in eights.iter_mut().zip(v) {
            *eight = simd._mm256_add_ps(v[0], v[1]);
        }
        let mut to = v[0];
        for (to, v) in to.iter_mut().zip(eights.as_chunks::<8>().0) {
            // In the lower and the upper half of each: four apart.
            let mut fours = [v[0]; 4];
            for (i, four) in fours.iter_mut().enumerate() {
                let low = simd._mm256_permute2f128_ps::<0x20>(v[i], v[i + 4]);
                let high = simd._mm256_permute2f128_ps::<0x31>(v[i], v[i + 4]);
                *four = simd._mm256_add_ps(low, high);
            }
            let mut twos = [v[0]; 2];
            for (i, two) in twos.iter_mut().enumerate() {
                let (a, b) = (cast(fours[2 * i]), cast(fours[2 * i + 1]));
                let low = cast(simd._mm256_unpacklo_pd(a, b));
                let high = cast(simd._mm256_unpackhi_pd(a, b));
                *two = simd._mm256_add_ps(low, high);
            }
            let even = simd._mm256_shuffle_ps::<0b10_00_10_00>(twos[0], twos[1]);
            let odd = simd._mm256_shuffle_ps::<0b11_01_11_01>(twos[0], twos[1]);
            *to = simd._mm256_add_ps(even, odd);
        }
        cast(to)
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let [low, high] = cast::<_, [__m128i; 2]>(*from);
        let simd = self.0.avx2;
        [
            cast(simd._mm256_slli_epi32::<16>(simd._mm256_cvtepu16_epi32(low))),
            cast(simd._mm256_slli_epi32::<16>(simd._mm256_cvtepu16_epi32(high))),
        ]
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let [low, high] = cast::<_, [__m128i; 2]>(*from);
        [self.half(low), self.half(high)]
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; LANES]) -> Self::F {
        let simd = self.0.avx2;
        // In the upper byte of 16 bits, then the sign drawn out to where the exponent begins.
        let words = self.spread(from, order(1, 3));
        let words = simd._mm256_srai_epi16::<4>(words);
        let bits: __m256i = cast([E4M3_BITS; 8]);
        let low = simd._mm256_slli_epi32::<16>(words);
        [
            cast(simd._mm256_and_si256(low, bits)),
            cast(simd._mm256_and_si256(words, bits)),
        ]
    }

    /// The scale, and what it makes of [`I8_BASE`], negated. Exact: eleven bits times nine.
    #[inline(always)]
    fn i8_scale(self, scale: f32) -> [Self::F; 2] {
        let scale = self.splat(scale);
        [scale, self.mul(scale, self.splat(-I8_BASE))]
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES], [scale, base]: [Self::F; 2]) -> Self::F {
        let simd = self.0.avx2;
        // 2^15, and the code above -128 as whole ones: above `I8_BASE` with its sign.
        let ones: __m256i = cast([0x4700_8000u32; 8]);
        let low = simd._mm256_xor_si256(self.spread(from, order(1, NOWHERE)), ones);
        let high = simd._mm256_xor_si256(self.spread(from, order(NOWHERE, 1)), ones);
        self.mul_add([cast(low), cast(high)], scale, base)
    }

    /// The scale, and what it makes of [`INT4_BASE`], negated. Exact: eleven bits times five.
    #[inline(always)]
    fn int4_scale(self, scale: f32) -> [Self::F; 2] {
        let scale = self.splat(scale);
        [scale, self.mul(scale, self.splat(-INT4_BASE))]
    }

    #[inline(always)]
    fn int4(self, from: &[u8; LANES], [scale, base]: [Self::F; 2]) -> [Self::F; 2] {
        let simd = self.0.avx2;
        // 128 in bf16, whose last bit is worth one, and the code as whole ones.
        let ones: __m256i = cast([0x4300_4300u32; 8]);
        let bytes = self.spread(from, order(0, 2));
        let low = simd._mm256_and_si256(bytes, cast([0x000f_000fu32; 8]));
        let low = self.parted(simd._mm256_or_si256(low, ones));
        let high = simd._mm256_srli_epi16::<4>(bytes);
        let high = self.parted(simd._mm256_or_si256(high, ones));
        [
            self.mul_add(cast(low), scale, base),
            self.mul_add(cast(high), scale, base),
        ]
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        cast([value; LANES])
    }

    const INT8_ZERO: u8 = 0;

    /// Products of codes without their signs and activations with them, in pairs, which stay within
    /// 16 bits: 2 · 128 · 127.
    #[inline(always)]
    fn dot(self, mut sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let simd = self.0.avx2;
        let x: __m256i = cast([i32::from_le_bytes(cast(x)); 8]);
        let codes: [__m256i; 2] = cast(*codes);
        for half in 0..2 {
            let x = simd._mm256_sign_epi8(x, codes[half]);
            let pairs = simd._mm256_maddubs_epi16(simd._mm256_abs_epi8(codes[half]), x);
            let fours = simd._mm256_madd_epi16(pairs, cast([1i16; 16]));
            sum[half] = simd._mm256_add_epi32(sum[half], fours);
        }
        sum
    }

    const SUMS_EIGHT: bool = true;

    /// Sums of eight pairs of products stay within 16 bits as well: 8 · 2 · 15 · 127.
    #[inline(always)]
    fn dot_eight<const T: usize>(
        self,
        sums: &mut [[Self::I; 2]; T],
        codes: &[[[u8; WORDS]; 2]; 8],
        x: &[&[[i8; 4]; 8]; T],
    ) {
        let simd = self.0.avx2;
        let mut pairs: [[__m256i; 4]; T] = [cast([0u64; 16]); T];
        for (word, codes) in codes.iter().enumerate() {
            let codes: [__m256i; 4] = cast(*codes);
            for (pairs, x) in pairs.iter_mut().zip(x) {
                let x: __m256i = cast([i32::from_le_bytes(cast(x[word])); 8]);
                for (pairs, codes) in pairs.iter_mut().zip(codes) {
                    *pairs = simd._mm256_add_epi16(*pairs, simd._mm256_maddubs_epi16(codes, x));
                }
            }
        }
        for (sums, pairs) in sums.iter_mut().zip(pairs) {
            for (sum, pairs) in sums.as_flattened_mut().iter_mut().zip(pairs) {
                let fours = simd._mm256_madd_epi16(pairs, cast([1i16; 16]));
                *sum = simd._mm256_add_epi32(*sum, fours);
            }
        }
    }

    #[inline(always)]
    fn larger(self, so_far: Self::I, codes: &[u8; 2 * LANES]) -> Self::I {
        let simd = self.0.avx2;
        let codes = simd._mm256_and_si256(cast(*codes), cast([NAN_CODE; 32]));
        [simd._mm256_max_epu8(so_far[0], codes), so_far[1]]
    }

    const INT8_ROWS: usize = 8;
    const INT4_ROWS: usize = 16;

    #[inline(always)]
    fn int8_rows<const T: usize>(
        self,
        of: &WholeRows<'_, { 2 * LANES }, T>,
        sums: &mut [Self::F; T],
    ) {
        match of.has_groups_of(2) {
            true => self.int8_groups::<T, 2>(of, sums),
            false => self.int8_groups::<T, 0>(of, sums),
        }
    }

    #[inline(always)]
    fn int4_rows<const T: usize>(self, of: &WholeRows<'_, LANES, T>, sums: &mut [Self::F; T]) {
        match of.has_groups_of(1) {
            true => {
                let begin = self.int4_pairs(of, sums);
                self.int4_groups::<T, 1>(of, begin, sums);
            }
            false => self.int4_groups::<T, 0>(of, 0, sums),
        }
    }

    #[inline(always)]
    fn turned_halves(self, rows: &Sixteen<'_>, from: usize, to: &mut [[f32; LANES]; LANES]) {
        self.halves_turned(rows, from, to);
    }

    #[inline(always)]
    fn turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        self.words_turned(rows)
    }

    #[inline(always)]
    fn to_float(self, value: Self::I) -> Self::F {
        let simd = self.0.avx;
        [
            simd._mm256_cvtepi32_ps(value[0]),
            simd._mm256_cvtepi32_ps(value[1]),
        ]
    }
}
