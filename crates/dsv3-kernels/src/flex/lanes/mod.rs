//! Sixteen lanes of f32 on every instruction set, and the choice among them at run time.
//!
//! A kernel is written once over [`Lanes`] and compiled for each set; [`InstructionSet::run`]
//! calls the one that the machine has. All of them fuse multiplication and addition, keep the
//! sixteen sums apart and add them up in the same order, so the bits of a result don't depend on
//! the machine.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod integers;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pairs;
mod portable;
mod prefetch;
mod sixteen;

use std::sync::OnceLock;

use bytemuck::{Pod, cast};

pub(in crate::flex) use integers::{WholeRows, WholeToken};
pub(in crate::flex) use pairs::paired;
pub(in crate::flex) use prefetch::{Cache, LINE, prefetch};
pub(in crate::flex) use sixteen::{Next, Onward, Sixteen};

/// Lanes.
pub(in crate::flex) const LANES: usize = 16;

/// Bytes of a word of four for each lane.
pub(in crate::flex) const WORDS: usize = 4 * LANES;

/// 2^120: what an e4m3 code's bits, read as the upper bits of an f32, are short of. The biases are
/// 7 and 127.
pub(in crate::flex) const E4M3_UNBIAS: f32 = f32::from_bits((120 + 127) << 23);

/// Where exponent and fraction of an e4m3 code stand in an f32, with its sign at the top.
const E4M3_BITS: u32 = 0x87f0_0000;

/// e4m3's NaN without its sign: no code is larger.
pub(in crate::flex) const NAN_CODE: u8 = 0x7f;

/// What the sixteen codes of int4 stand for, before the scale.
const INT4_VALUES: [f32; LANES] = [
    -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
];

/// What a code 0 of i8 has before it is scaled, where that is done by one fused multiplication:
/// 2^15 + 128.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const I8_BASE: f32 = 32_896.0;

/// The same of a code 8 of int4: 2^7 + 8.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const INT4_BASE: f32 = 136.0;

/// One instruction set's sixteen lanes.
pub(in crate::flex) trait Lanes: Copy {
    /// Whether there are as many registers of sixteen lanes as AVX-512 has. Elsewhere a quarter of
    /// that or less keeps sums, and tiles are smaller.
    const IS_WIDE: bool = false;
    /// Whether the sums of one row at a time are all that the registers hold.
    const KEEPS_ONE_ROW: bool = false;
    /// Which cache what will be read soon is brought to.
    const CACHE: Cache = Cache::First;
    /// Whether a core's second cache gives in a cycle what a tile of many tokens takes in. Then blocks
    /// of rows are as wide as that cache allows; elsewhere what a tile reads stays in the first one. Such a
    /// core gets more out of memory the more rows it reads side by side, so one token meets more of them.
    const STREAMS: bool = false;
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Pod;

    /// Compile `kernel` for this set, and run it.
    fn compiled<K: Kernel>(self, kernel: K) -> K::Output;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::F;
    /// From memory.
    fn load(self, from: &[f32; LANES]) -> Self::F;
    /// To memory.
    fn store(self, value: Self::F) -> [f32; LANES];
    /// `a · b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// From bfloat16, little-endian.
    fn bf16(self, from: &[u8; 2 * LANES]) -> Self::F;
    /// From IEEE half precision, little-endian.
    fn f16(self, from: &[u8; 2 * LANES]) -> Self::F;
    /// From e4m3, times 2^-120 ([`E4M3_UNBIAS`]); its NaN codes come out as 480 · 2^-120.
    fn e4m3(self, from: &[u8; LANES]) -> Self::F;
    /// The same, twice.
    #[inline(always)]
    fn e4m3_two(self, from: &[u8; 2 * LANES]) -> [Self::F; 2] {
        let (halves, _) = from.as_chunks::<LANES>();
        [self.e4m3(&halves[0]), self.e4m3(&halves[1])]
    }
    /// A scale in the form that `i8` takes it.
    #[inline(always)]
    fn i8_scale(self, scale: f32) -> [Self::F; 2] {
        [self.splat(scale); 2]
    }
    /// From i8, times a scale.
    fn i8(self, from: &[u8; LANES], scale: [Self::F; 2]) -> Self::F;
    /// A scale in the form that `int4` takes it: here with the values of all sixteen codes.
    #[inline(always)]
    fn int4_scale(self, scale: f32) -> [Self::F; 2] {
        let scale = self.splat(scale);
        [self.mul(self.load(&INT4_VALUES), scale), scale]
    }
    /// The lower and the upper half of each byte, less 8, times a scale.
    fn int4(self, from: &[u8; LANES], scale: [Self::F; 2]) -> [Self::F; 2];

    /// `sum + a · b` over pairs of bf16, the upper ones first, each rounded once.
    #[inline(always)]
    fn dot_pairs(self, a: Self::F, b: Self::F, sum: Self::F) -> Self::F {
        pairs::dot(self, a, b, sum)
    }
    /// Thirty-two of bfloat16, little-endian, as pairs: above the first sixteen, below the others.
    #[inline(always)]
    fn bf16_pairs(self, from: &[u8; 4 * LANES]) -> Self::F {
        pairs::bf16(self, from)
    }
    /// A power of two in the form that `e4m3_pairs` takes it.
    #[inline(always)]
    fn e4m3_scale(self, scale: f32) -> [Self::F; 5] {
        [self.splat(scale); 5]
    }
    /// Sixty-four of e4m3, times a scale, as two times thirty-two in pairs of bf16; NaN codes come
    /// out as anything.
    #[inline(always)]
    fn e4m3_pairs(self, from: &[u8; 4 * LANES], scale: &[Self::F; 5]) -> [Self::F; 2] {
        pairs::e4m3(self, from, scale[0])
    }
    /// Whether all are normal numbers: neither NaN nor zero nor below 2^-6.
    #[inline(always)]
    fn e4m3_are_normal<const R: usize>(self, of: [&[u8; WORDS]; R]) -> bool {
        pairs::are_normal(of)
    }
    /// A power of two in the form that `e4m3_normal_pairs` takes it.
    #[inline(always)]
    fn e4m3_normal_scale(self, scale: f32) -> Self::F {
        self.splat(scale)
    }
    /// As `e4m3_pairs`, of normal numbers.
    #[inline(always)]
    fn e4m3_normal_pairs(self, from: &[u8; 4 * LANES], scale: Self::F) -> [Self::F; 2] {
        pairs::e4m3(self, from, scale)
    }

    /// The same whole number in every lane.
    fn whole(self, value: i32) -> Self::I;
    /// Where the zero of int8's codes stands among those that `dot` takes: 128, without signs, or 0,
    /// as they lie.
    const INT8_ZERO: u8 = 128;
    /// `sum + Σ_j codes[4 · lane + j] · x[j]` over four. The codes are without signs, unless
    /// [`INT8_ZERO`](Self::INT8_ZERO) is 0. No `x` is -128.
    fn dot(self, sum: Self::I, codes: &[u8; WORDS], x: [i8; 4]) -> Self::I;
    /// Whether eight words of four-bit codes are summed faster than one after the other, by
    /// [`dot_eight`](Self::dot_eight).
    const SUMS_EIGHT: bool = false;
    /// As eight times `dot`, of codes up to 15, for two sets of rows and `T` tokens.
    #[inline(always)]
    fn dot_eight<const T: usize>(
        self,
        sums: &mut [[Self::I; 2]; T],
        codes: &[[[u8; WORDS]; 2]; 8],
        x: &[&[[i8; 4]; 8]; T],
    ) {
        for (sums, x) in sums.iter_mut().zip(x) {
            for (codes, x) in codes.iter().zip(*x) {
                for (sum, codes) in sums.iter_mut().zip(codes) {
                    *sum = self.dot(*sum, codes, *x);
                }
            }
        }
    }
    /// Rounded to nearest.
    fn to_float(self, value: Self::I) -> Self::F;
    /// The larger one of each code without its sign and what its place in `so_far` has.
    #[inline(always)]
    fn larger(self, so_far: Self::I, codes: &[u8; 2 * LANES]) -> Self::I {
        let mut so_far: [u8; WORDS] = cast(so_far);
        for (so_far, code) in so_far.iter_mut().zip(codes) {
            *so_far = (*so_far).max(code & NAN_CODE);
        }
        cast(so_far)
    }
    /// The same of a place for each.
    #[inline(always)]
    fn larger_all(self, so_far: Self::I, codes: &[u8; WORDS]) -> Self::I {
        let mut so_far: [u8; WORDS] = cast(so_far);
        for (so_far, code) in so_far.iter_mut().zip(codes) {
            *so_far = (*so_far).max(code & NAN_CODE);
        }
        cast(so_far)
    }

    /// So many tokens meet rows of int8 where those lie, by [`int8_rows`](Self::int8_rows); more of
    /// them meet turned rows.
    const INT8_ROWS: usize = 0;
    /// The same for four-bit codes.
    const INT4_ROWS: usize = 0;
    /// To each token's sum `Σ_groups scales · Σ codes · x`, i8, a lane for each row. The sum over a
    /// group is whole, and rounded to nearest once.
    #[inline(always)]
    fn int8_rows<const T: usize>(
        self,
        of: &WholeRows<'_, { 2 * LANES }, T>,
        sums: &mut [Self::F; T],
    ) {
        integers::int8_rows(self, of, sums);
    }
    /// The same of four-bit codes without signs, sixteen columns in the lower halves and then
    /// sixteen in the upper ones, whose sums have a number to begin with.
    #[inline(always)]
    fn int4_rows<const T: usize>(self, of: &WholeRows<'_, LANES, T>, sums: &mut [Self::F; T]) {
        integers::int4_rows(self, of, sums);
    }

    /// Words of four bytes, rows for columns.
    #[inline(always)]
    fn turned(self, rows: &[[u8; WORDS]; LANES]) -> [[u8; WORDS]; LANES] {
        let mut to = [[0u8; WORDS]; LANES];
        for (r, row) in rows.iter().enumerate() {
            for (word, to) in row.as_chunks::<4>().0.iter().zip(&mut to) {
                to.as_chunks_mut::<4>().0[r] = *word;
            }
        }
        to
    }

    /// Sixteen of half precision of each row, from byte `from` of it on, rows for columns. What the rows
    /// do not have is any number.
    #[inline(always)]
    fn turned_halves(self, rows: &Sixteen<'_>, from: usize, to: &mut [[f32; LANES]; LANES]) {
        let mut words = [[0; WORDS]; LANES];
        for (lane, words) in words.iter_mut().enumerate() {
            *words = cast(self.store(self.f16(&rows.padded(lane, from))));
        }
        *to = cast(self.turned(&words));
    }

    /// [`sum`](Self::sum) of each of sixteen.
    #[inline(always)]
    fn sums(self, values: [Self::F; LANES]) -> [f32; LANES] {
        let mut sums = [0f32; LANES];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = self.sum(value);
        }
        sums
    }

    /// The lanes added up, as a tree.
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        let mut lanes = self.store(value);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// Something to be compiled for each instruction set. `run` and all that it calls must be
/// `#[inline(always)]`: what is not inlined is not compiled for the set.
pub(in crate::flex) trait Kernel {
    /// Whether it multiplies bytes. Dot products of bytes (VNNI, SDOT) are of no use to others, which
    /// are not compiled once more for sets that add them.
    const BYTES: bool = false;
    /// Whether it multiplies pairs of bf16. It is compiled for sets that
    /// [prefer](InstructionSet::prefers_pairs) them, and in plain Rust, their oracle, which stands in for
    /// all others.
    const PAIRS: bool = false;
    /// What comes of it.
    type Output;
    /// Do it.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Run `kernel` by a call, from within another one: what is seldom done takes no registers from what
/// is done often.
#[inline(never)]
pub(in crate::flex) fn apart<L: Lanes, K: Kernel>(lanes: L, kernel: K) -> K::Output {
    lanes.compiled(kernel)
}

/// Instruction sets that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flex) enum InstructionSet {
    /// Whatever the compiler's target has.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// AVX-512 F, BW, CD, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512<{ avx512::BASE }>),
    /// The same and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(avx512::Avx512<{ avx512::VNNI }>),
    /// The same, VBMI, GFNI and BF16, as AMD's cores do best. Intel's do the one before better.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(avx512::Avx512<{ avx512::BF16 }>),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon<{ neon::BASE }>),
    /// The same and dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDot(neon::Neon<{ neon::DOT }>),
}

impl InstructionSet {
    /// Those that this machine has.
    pub(in crate::flex) fn available() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(avx512::Avx512::detect().map(InstructionSet::Avx512Bf16));
            sets.extend(avx512::Avx512::detect().map(InstructionSet::Avx512Vnni));
            sets.extend(avx512::Avx512::detect().map(InstructionSet::Avx512));
            sets.extend(avx2::Avx2::detect().map(InstructionSet::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        {
            sets.extend(neon::Neon::detect().map(InstructionSet::NeonDot));
            sets.extend(neon::Neon::detect().map(InstructionSet::Neon));
        }
        sets.push(InstructionSet::Portable);
        sets
    }

    /// The best that this machine has.
    pub(in crate::flex) fn best() -> Self {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut sets = InstructionSet::available().into_iter();
            let best = sets.find(|set| set.suits());
            best.unwrap_or(InstructionSet::Portable)
        })
    }

    /// Whether what it adds to the one behind it is any faster on this machine's cores: pairs of bf16
    /// take AMD's half of the time that as many f32 take, and Intel's twice of it.
    fn suits(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16(_) => avx512::is_amd(),
            _ => true,
        }
    }

    /// Whether pairs of bf16 are worked on faster than as many f32. The result is the same.
    pub(in crate::flex) fn prefers_pairs(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16(_) => true,
            _ => false,
        }
    }

    /// Run `kernel` with it. Not to be inlined: a kernel is large, and there is one of it for each
    /// place that it is inlined to.
    #[inline(never)]
    pub(in crate::flex) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // Branches on constants: what is not taken is not compiled.
        if K::PAIRS {
            return self.run_pairs(kernel);
        }
        match self {
            InstructionSet::Portable => portable::Portable.compiled(kernel),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2(lanes) => lanes.compiled(kernel),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512(lanes) => lanes.compiled(kernel),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni(lanes) => {
                if K::BYTES {
                    return lanes.compiled(kernel);
                }
                lanes.base().compiled(kernel)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16(lanes) => lanes.compiled(kernel),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon(lanes) => lanes.compiled(kernel),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonDot(lanes) => {
                if K::BYTES {
                    return lanes.compiled(kernel);
                }
                lanes.base().compiled(kernel)
            }
        }
    }

    /// The same for pairs, as [`Kernel::PAIRS`] says.
    #[inline(always)]
    fn run_pairs<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16(lanes) => lanes.compiled(kernel),
            _ => portable::Portable.compiled(kernel),
        }
    }
}

#[cfg(test)]
mod tests;
