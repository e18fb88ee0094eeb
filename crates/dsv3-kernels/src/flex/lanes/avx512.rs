//! AVX-512: a register holds all lanes.

use std::arch::x86_64::{__m128i, __m256i, __m512, __m512i};

use bytemuck::cast;
use pulp::x86::V4;

use super::{E4M3_BITS, Kernel, LANES, Lanes};

/// Proof that the machine has AVX-512 F, BW, CD, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub(in crate::flex) struct Avx512(V4);

impl PartialEq for Avx512 {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Avx512 {}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        V4::try_new().map(Avx512)
    }

    #[inline(always)]
    fn words(self, word: u32) -> __m512i {
        cast([word; LANES])
    }
}

impl Lanes for Avx512 {
    type F = __m512;

    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        struct Call<K>(Avx512, K);
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
        self.0.avx512f._mm512_mul_ps(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        self.0.avx512f._mm512_fmadd_ps(a, b, c)
    }

    /// All sixteen trees at once. Each step puts the halves, the quarters and so on of two registers
    /// side by side and adds them.
    #[inline(always)]
    fn sums(self, v: [Self::F; LANES]) -> [f32; LANES] {
        let simd = self.0.avx512f;
        let mut halves = [v[0]; 8];
        for (i, half) in halves.iter_mut().enumerate() {
            let (a, b) = (v[2 * i], v[2 * i + 1]);
            let low = simd._mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
            *half = simd._mm512_add_ps(low, simd._mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
        }
        let mut quarters = [v[0]; 4];
        for (i, quarter) in quarters.iter_mut().enumerate() {
            let (a, b) = (halves[2 * i], halves[2 * i + 1]);
            let low = simd._mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
            *quarter = simd._mm512_add_ps(low, simd._mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
        }
        let mut pairs = [v[0]; 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            let (a, b) = (quarters[2 * i], quarters[2 * i + 1]);
            let low = simd._mm512_shuffle_ps::<0b01_00_01_00>(a, b);
            *pair = simd._mm512_add_ps(low, simd._mm512_shuffle_ps::<0b11_10_11_10>(a, b));
        }
        let [a, b] = pairs;
        let low = simd._mm512_shuffle_ps::<0b10_00_10_00>(a, b);
        let sums = simd._mm512_add_ps(low, simd._mm512_shuffle_ps::<0b11_01_11_01>(a, b));
        // Lane 4 · j + i has the sum of value 4 · i + j.
        let sums: [f32; LANES] = cast(sums);
        let mut ordered = [0f32; LANES];
        for i in 0..4 {
            for j in 0..4 {
                ordered[4 * i + j] = sums[4 * j + i];
            }
        }
        ordered
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let simd = self.0.avx512f;
        let words = simd._mm512_cvtepu16_epi32(cast::<_, __m256i>(*from));
        cast(simd._mm512_slli_epi32::<16>(words))
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F {
        self.0.avx512f._mm512_cvtph_ps(cast::<_, __m256i>(*from))
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; LANES]) -> Self::F {
        let simd = self.0.avx512f;
        let words = simd._mm512_cvtepi8_epi32(cast::<_, __m128i>(*from));
        let words = simd._mm512_slli_epi32::<20>(words);
        cast(simd._mm512_and_si512(words, self.words(E4M3_BITS)))
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES]) -> Self::F {
        let simd = self.0.avx512f;
        simd._mm512_cvtepi32_ps(simd._mm512_cvtepi8_epi32(cast::<_, __m128i>(*from)))
    }

    #[inline(always)]
    fn nibbles(self, from: &[u8; LANES], table: Self::F) -> [Self::F; 2] {
        let simd = self.0.avx512f;
        let low = simd._mm512_cvtepu8_epi32(cast::<_, __m128i>(*from));
        let high = simd._mm512_srli_epi32::<4>(low);
        // The permutation looks at the lowest four bits of an index alone.
        [
            simd._mm512_permutexvar_ps(low, table),
            simd._mm512_permutexvar_ps(high, table),
        ]
    }
}
