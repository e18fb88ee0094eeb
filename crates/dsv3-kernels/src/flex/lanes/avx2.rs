//! AVX2 with FMA: two registers hold the lanes.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use bytemuck::cast;
use pulp::x86::V3;

use super::{E4M3_BITS, Kernel, LANES, Lanes, WORDS};

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

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        V3::try_new().map(Avx2)
    }

    /// The bytes, each with its sign, as words.
    #[inline(always)]
    fn words(self, from: &[u8; LANES]) -> [__m256i; 2] {
        let [low, high] = cast::<[u8; LANES], [u64; 2]>(*from);
        let simd = self.0.avx2;
        [
            simd._mm256_cvtepi8_epi32(cast::<_, __m128i>([low, 0])),
            simd._mm256_cvtepi8_epi32(cast::<_, __m128i>([high, 0])),
        ]
    }

    /// Eight of half precision, which has no safe intrinsic here. Exponent and fraction moved into
    /// place are 2^-112 of the value; infinity and NaN need their exponent filled up.
    #[inline(always)]
    fn half(self, from: __m128i) -> __m256 {
        let simd = self.0.avx2;
        let words = simd._mm256_cvtepu16_epi32(from);
        let sign = simd._mm256_and_si256(words, cast([0x8000u32; 8]));
        let sign = simd._mm256_slli_epi32::<16>(sign);
        let magnitude = simd._mm256_and_si256(words, cast([0x7fffu32; 8]));
        let special = simd._mm256_cmpgt_epi32(magnitude, cast([0x7bffu32; 8]));
        let special = simd._mm256_and_si256(special, cast([0x7f80_0000u32; 8]));
        let bits = cast(simd._mm256_slli_epi32::<13>(magnitude));
        let unbias = cast([f32::from_bits((112 + 127) << 23); 8]);
        let value = cast(self.0.avx._mm256_mul_ps(bits, unbias));
        let value = simd._mm256_or_si256(value, special);
        cast(simd._mm256_or_si256(value, sign))
    }

    /// Entries of `table` by the lowest four bits. The permutation looks at three; the fourth
    /// chooses the half, as a sign.
    #[inline(always)]
    fn entries(self, words: __m256i, table: Halves) -> __m256 {
        let simd = self.0.avx2;
        let low = simd._mm256_permutevar8x32_ps(table[0], words);
        let high = simd._mm256_permutevar8x32_ps(table[1], words);
        let choice = simd._mm256_slli_epi32::<28>(words);
        self.0.avx._mm256_blendv_ps(low, high, cast(choice))
    }
}

impl Lanes for Avx2 {
    type F = Halves;
    type I = [__m256i; 2];

    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        struct Call<K>(Avx2, K);
        impl<K: Kernel> pulp::NullaryFnOnce for Call<K> {
            type Output = K::Output;
            #[inline(always)]
            fn call(self) -> K::Output {
                self.1.run(self.0)
            }
        }
        self.0.vectorize(Call(self, kernel))
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
        let [low, high] = self.words(from);
        let bits: __m256i = cast([E4M3_BITS; 8]);
        [
            cast(simd._mm256_and_si256(simd._mm256_slli_epi32::<20>(low), bits)),
            cast(simd._mm256_and_si256(simd._mm256_slli_epi32::<20>(high), bits)),
        ]
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES]) -> Self::F {
        let [low, high] = self.words(from);
        let simd = self.0.avx;
        [simd._mm256_cvtepi32_ps(low), simd._mm256_cvtepi32_ps(high)]
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8; LANES], table: Self::F) -> [Self::F; 2] {
        let simd = self.0.avx2;
        let [low, high] = self.words(from);
        [
            [self.entries(low, table), self.entries(high, table)],
            [
                self.entries(simd._mm256_srli_epi32::<4>(low), table),
                self.entries(simd._mm256_srli_epi32::<4>(high), table),
            ],
        ]
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        cast([value; LANES])
    }

    /// The even and the odd bytes in pairs of 16 bits, which no sum of two products leaves.
    #[inline(always)]
    fn dot(self, mut sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let simd = self.0.avx2;
        let low: __m256i = cast([0x00ff_00ffu32; 8]);
        let x: __m256i = cast([i32::from_le_bytes(cast(x)); 8]);
        let x02 = simd._mm256_srai_epi16::<8>(simd._mm256_slli_epi16::<8>(x));
        let x13 = simd._mm256_srai_epi16::<8>(x);
        let codes: [__m256i; 2] = cast(*codes);
        for half in 0..2 {
            let even = simd._mm256_and_si256(codes[half], low);
            let odd = simd._mm256_srli_epi16::<8>(codes[half]);
            let even = simd._mm256_madd_epi16(even, x02);
            let odd = simd._mm256_madd_epi16(odd, x13);
            let both = simd._mm256_add_epi32(even, odd);
            sum[half] = simd._mm256_add_epi32(sum[half], both);
        }
        sum
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
