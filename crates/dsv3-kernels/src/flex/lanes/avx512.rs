//! AVX-512, alone, with VNNI, and with VBMI, GFNI and BF16 as well: a register holds all lanes.

mod bf16;
mod rows;
mod turn;

use std::arch::x86_64::{__m128i, __m256i, __m512, __m512i, _mm512_dpbusd_epi32};

use bytemuck::cast;
use pulp::x86::V4;

use super::{Cache, E4M3_BITS, Kernel, LANES, Lanes, NAN_CODE, Sixteen, WORDS, WholeRows, pairs};

pub(super) use bf16::is_amd;

/// AVX-512 F, BW, CD, DQ and VL.
pub(super) const BASE: u8 = 0;
/// VNNI as well.
pub(super) const VNNI: u8 = 1;
/// VBMI, GFNI and BF16 as well.
pub(super) const BF16: u8 = 2;

/// Proof that the machine has AVX-512 up to `LEVEL`.
#[derive(Clone, Copy, Debug)]
pub(in crate::flex) struct Avx512<const LEVEL: u8>(V4);

impl<const LEVEL: u8> PartialEq for Avx512<LEVEL> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<const LEVEL: u8> Eq for Avx512<LEVEL> {}

/// Compile `kernel` for VNNI as well.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
fn with_vnni<L: Lanes, K: Kernel>(lanes: L, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// Compile `kernel` for VNNI, VBMI, GFNI and BF16 as well.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
#[target_feature(enable = "avx512vbmi,avx512bf16,gfni")]
fn with_bf16<L: Lanes, K: Kernel>(lanes: L, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl<const LEVEL: u8> Avx512<LEVEL> {
    pub(super) fn detect() -> Option<Self> {
        let has_vnni = is_x86_feature_detected!("avx512vnni");
        let has_bf16 = is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("gfni");
        let has = match LEVEL {
            BASE => true,
            VNNI => has_vnni,
            _ => has_vnni && has_bf16,
        };
        V4::try_new().filter(|_| has).map(Avx512)
    }

    /// What all levels have.
    pub(super) fn base(self) -> Avx512<BASE> {
        Avx512(self.0)
    }

    #[inline(always)]
    fn words(self, word: u32) -> __m512i {
        cast([word; LANES])
    }

    /// Products of bytes without signs and words of 16 bits with them, added up by fours to `sum`:
    /// even bytes and odd ones meet words of their own.
    #[inline(always)]
    fn dot_words(self, sum: __m512i, codes: __m512i, even: __m512i, odd: __m512i) -> __m512i {
        let (simd, bw) = (self.0.avx512f, self.0.avx512bw);
        let low = simd._mm512_and_si512(codes, self.words(0x00ff_00ff));
        let high = bw._mm512_srli_epi16::<8>(codes);
        let low = bw._mm512_madd_epi16(low, even);
        let high = bw._mm512_madd_epi16(high, odd);
        simd._mm512_add_epi32(sum, simd._mm512_add_epi32(low, high))
    }
}

impl<const LEVEL: u8> Lanes for Avx512<LEVEL> {
    const IS_WIDE: bool = true;
    /// AMD's cores, whom this level is for, have more under way to their second cache.
    const CACHE: Cache = if LEVEL == BF16 {
        Cache::Second
    } else {
        Cache::First
    };
    /// As measured on AMD's cores: 27 bytes a cycle.
    const STREAMS: bool = LEVEL == BF16;
    type F = __m512;
    type I = __m512i;

    #[allow(unsafe_code)]
    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        struct Call<const LEVEL: u8, K>(Avx512<LEVEL>, K);
        impl<const LEVEL: u8, K: Kernel> pulp::NullaryFnOnce for Call<LEVEL, K> {
            type Output = K::Output;
            #[inline(always)]
            fn call(self) -> K::Output {
                self.1.run(self.0)
            }
        }
        match LEVEL {
            BASE => self.0.vectorize(Call(self, kernel)),
            // SAFETY: `detect`, which alone makes a value of this type, found all of the features.
            VNNI => unsafe { with_vnni(self, kernel) },
            // SAFETY: as above.
            _ => unsafe { with_bf16(self, kernel) },
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
            // Lane 4 · j + i of what comes out has the sum of what is taken here as value 4 · i + j.
            let (j, at) = (i / 2, 8 * (i % 2));
            let (a, b) = (v[at + j], v[at + 4 + j]);
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
        self.store(simd._mm512_add_ps(low, simd._mm512_shuffle_ps::<0b11_01_11_01>(a, b)))
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
    #[allow(unsafe_code)]
    fn e4m3_two(self, from: &[u8; 2 * LANES]) -> [Self::F; 2] {
        match LEVEL {
            // SAFETY: `detect` found AVX-512 F, BW and VBMI.
            BF16 => unsafe { bf16::e4m3_two(from) },
            _ => {
                let (halves, _) = from.as_chunks::<LANES>();
                [self.e4m3(&halves[0]), self.e4m3(&halves[1])]
            }
        }
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES], [scale, _]: [Self::F; 2]) -> Self::F {
        let simd = self.0.avx512f;
        let words = simd._mm512_cvtepi8_epi32(cast::<_, __m128i>(*from));
        self.mul(simd._mm512_cvtepi32_ps(words), scale)
    }

    #[inline(always)]
    fn int4(self, from: &[u8; LANES], [table, _]: [Self::F; 2]) -> [Self::F; 2] {
        let simd = self.0.avx512f;
        let low = simd._mm512_cvtepu8_epi32(cast::<_, __m128i>(*from));
        let high = simd._mm512_srli_epi32::<4>(low);
        // The permutation looks at the lowest four bits of an index alone.
        [
            simd._mm512_permutexvar_ps(low, table),
            simd._mm512_permutexvar_ps(high, table),
        ]
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn dot_pairs(self, a: Self::F, b: Self::F, sum: Self::F) -> Self::F {
        match LEVEL {
            // SAFETY: `detect` found AVX-512 BF16.
            BF16 => unsafe { bf16::dot_pairs(a, b, sum) },
            _ => pairs::dot(self, a, b, sum),
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn bf16_pairs(self, from: &[u8; 4 * LANES]) -> Self::F {
        match LEVEL {
            // SAFETY: `detect` found AVX-512 BW.
            BF16 => unsafe { bf16::bf16_pairs(from) },
            _ => pairs::bf16(self, from),
        }
    }

    #[inline(always)]
    fn e4m3_scale(self, scale: f32) -> [Self::F; 5] {
        match LEVEL {
            BF16 => bf16::e4m3_scale(scale),
            _ => [self.splat(scale); 5],
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn e4m3_pairs(self, from: &[u8; 4 * LANES], scale: &[Self::F; 5]) -> [Self::F; 2] {
        match LEVEL {
            // SAFETY: `detect` found AVX-512 F, BW and VBMI.
            BF16 => unsafe { bf16::e4m3_pairs(from, scale) },
            _ => pairs::e4m3(self, from, scale[0]),
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn e4m3_are_normal<const R: usize>(self, of: [&[u8; WORDS]; R]) -> bool {
        match LEVEL {
            // SAFETY: `detect` found AVX-512 BW and GFNI.
            BF16 => unsafe { bf16::e4m3_are_normal(of) },
            _ => pairs::are_normal(of),
        }
    }

    #[inline(always)]
    fn e4m3_normal_scale(self, scale: f32) -> Self::F {
        match LEVEL {
            BF16 => bf16::e4m3_normal_scale(scale),
            _ => self.splat(scale),
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn e4m3_normal_pairs(self, from: &[u8; 4 * LANES], scale: Self::F) -> [Self::F; 2] {
        match LEVEL {
            // SAFETY: `detect` found AVX-512 F, BW and VBMI.
            BF16 => unsafe { bf16::e4m3_normal_pairs(from, scale) },
            _ => pairs::e4m3(self, from, scale),
        }
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        cast([value; LANES])
    }

    /// VNNI does it at once. Without it the even and the odd bytes are multiplied in pairs of 16
    /// bits, which no sum of two products leaves.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn dot(self, sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let codes: __m512i = cast(*codes);
        if LEVEL >= VNNI {
            let x: __m512i = cast([i32::from_le_bytes(cast(x)); LANES]);
            // SAFETY: `detect` found AVX-512 F and VNNI.
            return unsafe { _mm512_dpbusd_epi32(sum, codes, x) };
        }
        let pair = |a: i8, b: i8| -> __m512i { cast([[i16::from(a), i16::from(b)]; LANES]) };
        self.dot_words(sum, codes, pair(x[0], x[2]), pair(x[1], x[3]))
    }

    #[inline(always)]
    fn to_float(self, value: Self::I) -> Self::F {
        self.0.avx512f._mm512_cvtepi32_ps(value)
    }

    #[inline(always)]
    fn larger(self, so_far: Self::I, codes: &[u8; 2 * LANES]) -> Self::I {
        let (simd, avx2) = (self.0.avx512f, self.0.avx2);
        let codes = avx2._mm256_and_si256(cast(*codes), cast([NAN_CODE; 32]));
        let so_far = simd._mm512_castsi512_si256(so_far);
        simd._mm512_zextsi256_si512(avx2._mm256_max_epu8(so_far, codes))
    }

    #[inline(always)]
    fn larger_all(self, so_far: Self::I, codes: &[u8; WORDS]) -> Self::I {
        let codes = self
            .0
            .avx512f
            ._mm512_and_si512(cast(*codes), cast([NAN_CODE; WORDS]));
        self.0.avx512bw._mm512_max_epu8(so_far, codes)
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
        let begin = match of.has_groups_of(1) {
            true => self.int4_quarters(of, sums),
            false => 0,
        };
        self.int4_groups(of, begin, sums);
    }

    #[inline(always)]
    fn turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        self.words_turned(rows)
    }

    #[inline(always)]
    fn turned_halves(self, rows: &Sixteen<'_>, from: usize, to: &mut [[f32; LANES]; LANES]) {
        self.halves_turned(rows, from, to);
    }
}
