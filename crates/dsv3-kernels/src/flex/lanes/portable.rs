//! Plain Rust: the oracle of the other sets, and what runs where there is none of them.

use half::{bf16, f16};

use super::{E4M3_BITS, Kernel, LANES, Lanes, WORDS};

/// Arrays, left to the compiler. On x86-64, where hardly a machine needs them and a fused
/// multiplication is a call for each lane, what they do stays in functions: inlined, it takes minutes
/// to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flex) struct Portable;

impl Lanes for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];

    fn compiled<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::F) -> [f32; LANES] {
        value
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let (pairs, _) = from.as_chunks::<2>();
        std::array::from_fn(|i| bf16::from_le_bytes(pairs[i]).to_f32())
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F {
        let (pairs, _) = from.as_chunks::<2>();
        std::array::from_fn(|i| f16::from_le_bytes(pairs[i]).to_f32())
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn e4m3(self, from: &[u8; LANES]) -> Self::F {
        let bits = |code: u8| (code as i8 as i32 as u32) << 20 & E4M3_BITS;
        std::array::from_fn(|i| f32::from_bits(bits(from[i])))
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn i8(self, from: &[u8; LANES], [scale, _]: [Self::F; 2]) -> Self::F {
        std::array::from_fn(|i| f32::from(from[i] as i8) * scale[i])
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn int4(self, from: &[u8; LANES], [table, _]: [Self::F; 2]) -> [Self::F; 2] {
        [
            std::array::from_fn(|i| table[usize::from(from[i] & 15)]),
            std::array::from_fn(|i| table[usize::from(from[i] >> 4)]),
        ]
    }

    #[inline(always)]
    fn whole(self, value: i32) -> Self::I {
        [value; LANES]
    }

    #[cfg_attr(target_arch = "x86_64", inline(never))]
    #[cfg_attr(not(target_arch = "x86_64"), inline(always))]
    fn dot(self, sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I {
        let (words, _) = codes.as_chunks::<4>();
        std::array::from_fn(|lane| {
            let products = words[lane].iter().zip(x);
            let products = products.map(|(code, x)| i32::from(*code) * i32::from(x));
            sum[lane] + products.sum::<i32>()
        })
    }

    #[inline(always)]
    fn to_float(self, value: Self::I) -> Self::F {
        value.map(|value| value as f32)
    }
}
