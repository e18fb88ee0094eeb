//! NEON: four registers hold the lanes.

use std::arch::aarch64::{float32x4_t, int8x8_t, int16x8_t, int32x4_t, uint16x4_t, uint32x4_t};

use bytemuck::cast;

use super::{E4M3_BITS, Kernel, LANES, Lanes, WORDS};

/// Proof that the machine has NEON.
#[derive(Clone, Copy, Debug)]
pub(in crate::flex) struct Neon(pulp::aarch64::Neon);

impl PartialEq for Neon {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Neon {}

/// Four lanes each.
type Quarters = [float32x4_t; 4];

#[inline(always)]
fn each(of: impl Fn(usize) -> float32x4_t) -> Quarters {
    [of(0), of(1), of(2), of(3)]
}

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        pulp::aarch64::Neon::try_new().map(Neon)
    }

    /// The bytes, each with its sign, as words.
    #[inline(always)]
    fn words(self, from: &[u8; LANES]) -> [int32x4_t; 4] {
        let simd = self.0.neon;
        let [low, high] = cast::<_, [int8x8_t; 2]>(*from);
        let wide: [int16x8_t; 2] = [simd.vmovl_s8(low), simd.vmovl_s8(high)];
        cast::<_, [_; 4]>(wide).map(|four| simd.vmovl_s16(four))
    }

    /// 16-bit values as words.
    #[inline(always)]
    fn halves(self, from: &[u8; 2 * LANES]) -> [uint32x4_t; 4] {
        cast::<_, [uint16x4_t; 4]>(*from).map(|four| self.0.neon.vmovl_u16(four))
    }
}

impl Lanes for Neon {
    type F = Quarters;
    type I = [int32x4_t; 4];

    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        // NEON is part of every aarch64 target: there is nothing to switch on.
        kernel.run(self)
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
        each(|i| self.0.neon.vmulq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each(|i| self.0.neon.vfmaq_f32(c[i], a[i], b[i]))
    }

    #[inline(always)]
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let words = self.halves(from);
        each(|i| cast(self.0.neon.vshlq_n_u32::<16>(words[i])))
    }

    #[inline(always)]
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F {
        // Exponent and fraction moved into place are 2^-112 of the value; infinity and NaN need
        // their exponent filled up.
        let simd = self.0.neon;
        let all = |word: u32| cast::<_, uint32x4_t>([word; 4]);
        let words = self.halves(from);
        each(|i| {
            let sign = simd.vshlq_n_u32::<16>(simd.vandq_u32(words[i], all(0x8000)));
            let magnitude = simd.vandq_u32(words[i], all(0x7fff));
            let special = simd.vcgtq_u32(magnitude, all(0x7bff));
            let special = simd.vandq_u32(special, all(0x7f80_0000));
            let bits = cast(simd.vshlq_n_u32::<13>(magnitude));
            let unbias = cast([f32::from_bits((112 + 127) << 23); 4]);
            let value = cast(simd.vmulq_f32(bits, unbias));
            cast(simd.vorrq_u32(simd.vorrq_u32(value, special), sign))
        })
    }

    #[inline(always)]
    fn e4m3(self, from: &[u8; LANES]) -> Self::F {
        let simd = self.0.neon;
        let words = self.words(from);
        each(|i| {
            let words = cast(simd.vshlq_n_s32::<20>(words[i]));
            cast(simd.vandq_u32(words, cast([E4M3_BITS; 4])))
        })
    }

    #[inline(always)]
    fn i8(self, from: &[u8; LANES], [scale, _]: [Self::F; 2]) -> Self::F {
        let words = self.words(from);
        self.mul(each(|i| self.0.neon.vcvtq_f32_s32(words[i])), scale)
    }

    #[inline(always)]
    fn int4(self, from: &[u8; LANES], [table, _]: [Self::F; 2]) -> [Self::F; 2] {
        // There is no permutation of words by words: an entry at a time.
        let table: [f32; LANES] = cast(table);
        let entries = |shift: u32| -> [f32; LANES] {
            std::array::from_fn(|i| table[usize::from(from[i] >> shift & 15)])
        };
        [cast(entries(0)), cast(entries(4))]
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        cast([value; LANES])
    }

    /// In 32 bits, one byte of each word after the other.
    #[inline(always)]
    fn dot(self, sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let (words, _) = codes.as_chunks::<4>();
        let mut sums: [i32; LANES] = cast(sum);
        for (sum, word) in sums.iter_mut().zip(words) {
            for (code, x) in word.iter().zip(x) {
                *sum += i32::from(*code) * i32::from(x);
            }
        }
        cast(sums)
    }

    #[inline(always)]
    fn to_float(self, value: Self::I) -> Self::F {
        each(|quarter| self.0.neon.vcvtq_f32_s32(value[quarter]))
    }
}
