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

/// Lanes 0 to 7, and 8 to 15.
type Halves = [__m256; 2];

#[inline(always)]
fn each(of: impl Fn(usize) -> __m256) -> Halves {
    [of(0), of(1)]
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        V3::try_new().map(Avx2)
    }

    /// Eight of the bytes, each with its sign, as words.
    #[inline(always)]
    fn words(self, from: &[u8; LANES], half: usize) -> __m256i {
        let [low, high] = cast::<[u8; LANES], [u64; 2]>(*from);
        let bytes = if half == 0 { low } else { high };
        self.0
            .avx2
            ._mm256_cvtepi8_epi32(cast::<_, __m128i>([bytes, 0]))
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
        each(|i| self.0.avx._mm256_mul_ps(a[i], b[i]))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each(|i| self.0.fma._mm256_fmadd_ps(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let halves = cast::<_, [__m128i; 2]>(*from);
        each(|i| {
            let words = self.0.avx2._mm256_cvtepu16_epi32(halves[i]);
            cast(self.0.avx2._mm256_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F {
        // Half precision has no safe intrinsic here. Exponent and fraction moved into place are
        // 2^-112 of the value; infinity and NaN need their exponent filled up.
        let halves = cast::<_, [__m128i; 2]>(*from);
        let simd = self.0.avx2;
        let all = |word: u32| cast::<_, __m256i>([word; 8]);
        each(|i| {
            let words = simd._mm256_cvtepu16_epi32(halves[i]);
            let sign = simd._mm256_and_si256(words, all(0x8000));
            let sign = simd._mm256_slli_epi32::<16>(sign);
            let magnitude = simd._mm256_and_si256(words, all(0x7fff));
            let special = simd._mm256_cmpgt_epi32(magnitude, all(0x7bff));
            let special = simd._mm256_and_si256(special, all(0x7f80_0000));
            let bits = cast(simd._mm256_slli_epi32::<13>(magnitude));
            let unbias = cast([f32::from_bits((112 + 127) << 23); 8]);
            let value = cast(self.0.avx._mm256_mul_ps(bits, unbias));
            let value = simd._mm256_or_si256(value, special);
            cast(simd._mm256_or_si256(value, sign))
        })
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; LANES]) -> Self::F {
        let simd = self.0.avx2;
        each(|i| {
            let words = simd._mm256_slli_epi32::<20>(self.words(from, i));
            cast(simd._mm256_and_si256(words, cast([E4M3_BITS; 8])))
        })
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES]) -> Self::F {
        each(|i| self.0.avx._mm256_cvtepi32_ps(self.words(from, i)))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8; LANES], table: Self::F) -> [Self::F; 2] {
        let simd = self.0.avx2;
        // The permutation looks at three bits of an index; the fourth chooses the half, as a sign.
        let entries = |words: __m256i| {
            let [low, high] = table.map(|half| simd._mm256_permutevar8x32_ps(half, words));
            let choice = simd._mm256_slli_epi32::<28>(words);
            self.0.avx._mm256_blendv_ps(low, high, cast(choice))
        };
        let words = [self.words(from, 0), self.words(from, 1)];
        [
            each(|i| entries(words[i])),
            each(|i| entries(simd._mm256_srli_epi32::<4>(words[i]))),
        ]
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        cast([value; LANES])
    }

    /// The even and the odd bytes in pairs of 16 bits, which no sum of two products leaves.
    #[inline(always)]
    fn dot(self, sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let simd = self.0.avx2;
        let pair = |a: i8, b: i8| -> __m256i { cast([[i16::from(a), i16::from(b)]; 8]) };
        let low: __m256i = cast([0x00ff_00ffu32; 8]);
        let (x02, x13) = (pair(x[0], x[2]), pair(x[1], x[3]));
        let codes: [__m256i; 2] = cast(*codes);
        [0, 1].map(|half| {
            let even = simd._mm256_and_si256(codes[half], low);
            let odd = simd._mm256_and_si256(simd._mm256_srli_epi32::<8>(codes[half]), low);
            let even = simd._mm256_madd_epi16(even, x02);
            let odd = simd._mm256_madd_epi16(odd, x13);
            simd._mm256_add_epi32(sum[half], simd._mm256_add_epi32(even, odd))
        })
    }

    #[inline(always)]
    fn to_float(self, value: Self::I) -> Self::F {
        each(|half| self.0.avx._mm256_cvtepi32_ps(value[half]))
    }
}
