//! AVX-512 BF16: pairs of bf16, and e4m3 turned into them: by VBMI's tables, or by shifts where GFNI
//! finds that no code needs them.

use std::arch::x86_64::{
    __cpuid, __m512, __m512bh, __m512i, _mm512_add_epi16, _mm512_and_si512, _mm512_castsi256_si512,
    _mm512_cmpge_epu8_mask, _mm512_dpbf16_ps, _mm512_gf2p8affine_epi64_epi8, _mm512_max_epu8,
    _mm512_permutex2var_epi8, _mm512_permutexvar_epi8, _mm512_permutexvar_epi16, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srai_epi16, _mm512_subs_epu8, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi8, _mm512_unpacklo_epi8,
};

use bytemuck::cast;

use super::super::{E4M3_BITS, LANES};

/// The exponents of the tables are larger by so much, so that every scale is taken off them.
const RAISED: i32 = 118;

/// By a code without its sign: the upper bytes of bf16, then the lower ones. The first tables are
/// for even exponents of the scale, the second for odd ones, as the lowest bit of an exponent stands
/// in the lower byte.
static TABLES: [[[u8; 64]; 4]; 2] = [tables(RAISED), tables(RAISED + 1)];

/// Where a code goes so that unpacking makes pairs: sixteen columns apart, the first one above.
const CODES: [u8; 64] = {
    let mut to = [0; 64];
    let mut at = 0;
    while at < 64 {
        let (quarter, byte) = (at / 16, at % 16);
        let (unit, lane) = (byte / 8, 4 * quarter + byte % 8 / 2);
        to[at] = (32 * unit + lane + LANES * (1 - byte % 2)) as u8;
        at += 1;
    }
    to
};

/// Where a code goes so that each word has one of the first unit below and one of the second above,
/// and the words of a lane codes that are sixteen columns apart, the first one above.
const TWO_UNITS: [u8; 64] = {
    let mut to = [0; 64];
    let mut at = 0;
    while at < 64 {
        let (lane, byte) = (at / 4, at % 4);
        to[at] = (32 * (byte % 2) + lane + LANES * (1 - byte / 2)) as u8;
        at += 1;
    }
    to
};

/// Where exponent and fraction of an e4m3 code stand in bf16, with its sign at the top.
const BF16_BITS: [u16; 32] = [0x87f0; 32];

/// The same for thirty-two bf16.
const HALVES: [u16; 32] = {
    let mut to = [0; 32];
    let mut at = 0;
    while at < 32 {
        to[at] = (at / 2 + LANES * (1 - at % 2)) as u16;
        at += 1;
    }
    to
};

/// Where thirty-two codes go so that each half of a word has one above: the first sixteen below, the
/// others above. What stands below a code is any.
const WORDS: [u8; 64] = {
    let mut to = [0; 64];
    let mut at = 0;
    while at < 64 {
        to[at] = (at / 4 + at % 4 / 2 * LANES) as u8;
        at += 1;
    }
    to
};

const fn tables(raised: i32) -> [[u8; 64]; 4] {
    let mut to = [[0; 64]; 4];
    let mut code = 1;
    while code < 128 {
        let (exponent, fraction) = (code as i32 >> 3, code as i32 & 7);
        let (exponent, fraction) = match exponent {
            // Without a leading one in e4m3, with one in bf16.
            0 => {
                let first = 31 - fraction.leading_zeros() as i32;
                (first - 9, fraction << (3 - first) & 7)
            }
            _ => (exponent - 7, fraction),
        };
        let word = (127 + exponent + raised) << 7 | fraction << 4;
        to[code / 64][code % 64] = (word >> 8) as u8;
        to[2 + code / 64][code % 64] = word as u8;
        code += 1;
    }
    to
}

/// Whether the machine says that AMD made it.
#[allow(unsafe_code, unused_unsafe)]
pub(in super::super) fn is_amd() -> bool {
    // SAFETY: every x86-64 processor has the instruction, and leaf 0.
    let leaf = unsafe { __cpuid(0) };
    [leaf.ebx, leaf.edx, leaf.ecx]
        .map(u32::to_le_bytes)
        .concat()
        == b"AuthenticAMD"
}

/// # Safety
/// The machine has AVX-512 BF16.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn dot_pairs(a: __m512, b: __m512, sum: __m512) -> __m512 {
    // SAFETY: both are sixty-four bytes of any bits.
    let [a, b] = unsafe { std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([a, b]) };
    // SAFETY: the caller's.
    unsafe { _mm512_dpbf16_ps(sum, a, b) }
}

/// # Safety
/// The machine has AVX-512 BW.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn bf16_pairs(from: &[u8; 64]) -> __m512 {
    // SAFETY: the caller's.
    cast(unsafe { _mm512_permutexvar_epi16(cast(HALVES), cast(*from)) })
}

/// As `e4m3`, of two times sixteen codes: five instructions where those of one at a time are six.
///
/// # Safety
/// The machine has AVX-512 F, BW and VBMI.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn e4m3_two(from: &[u8; 32]) -> [__m512; 2] {
    let bits: __m512i = cast([E4M3_BITS; LANES]);
    // SAFETY: the caller's.
    unsafe {
        let codes = _mm512_castsi256_si512(cast(*from));
        let codes = _mm512_permutexvar_epi8(cast(WORDS), codes);
        // The sign drawn out to where the exponent begins.
        let words = _mm512_srai_epi16::<4>(codes);
        let low = _mm512_slli_epi32::<16>(words);
        [
            cast(_mm512_and_si512(low, bits)),
            cast(_mm512_and_si512(words, bits)),
        ]
    }
}

/// What the tables' upper bytes are lowered by, then the tables.
#[inline(always)]
pub(super) fn e4m3_scale(scale: f32) -> [__m512; 5] {
    let exponent = (scale.to_bits() >> 23) as i32 - 127;
    let odd = exponent & 1;
    let lowered = (RAISED + odd - exponent) / 2;
    let [a, b, c, d] = TABLES[odd as usize];
    [[lowered as u8; 64], a, b, c, d].map(cast)
}

/// # Safety
/// The machine has AVX-512 F, BW and VBMI.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn e4m3_pairs(from: &[u8; 64], scale: &[__m512; 5]) -> [__m512; 2] {
    /// `a | b & c`
    const SIGN: i32 = 0b1111_1000;
    let [lowered, upper @ .., c, d]: [__m512i; 5] = scale.map(cast);
    // SAFETY: the caller's.
    unsafe {
        let codes = _mm512_permutexvar_epi8(cast(CODES), cast(*from));
        let upper = _mm512_permutex2var_epi8(upper[0], codes, upper[1]);
        let lower = _mm512_permutex2var_epi8(c, codes, d);
        // Zero stays zero.
        let upper = _mm512_subs_epu8(upper, lowered);
        let upper = _mm512_ternarylogic_epi32::<SIGN>(upper, codes, cast([0x80u8; 64]));
        [
            cast(_mm512_unpacklo_epi8(lower, upper)),
            cast(_mm512_unpackhi_epi8(lower, upper)),
        ]
    }
}

/// GFNI's matrix that puts e4m3's codes in an order: with [`ZERO_EXPONENT`] exclusively or'ed to what
/// comes out, a code without its sign becomes [`NAN`] if it is NaN, more if its exponent is zero, and
/// less otherwise.
const SORTED: u64 = {
    /// Which bits of the result a bit of the code changes: the exponent's lowest one those above it
    /// too.
    const CHANGES: [u8; 8] = [0x01, 0x02, 0x04, 0x78, 0x10, 0x20, 0x40, 0];
    let mut matrix = 0;
    let mut at = 0;
    while at < 64 {
        let (to, from) = (at / 8, at % 8);
        // A row of the matrix for each bit of the result, the last one first.
        matrix |= (CHANGES[from] as u64 >> to & 1) << (8 * (7 - to) + from);
        at += 1;
    }
    matrix
};
/// What the eight codes with an exponent of zero become: this and seven more.
const ZERO_EXPONENT: i32 = 0x78;
/// What NaN becomes.
const NAN: u8 = 0x77;

/// # Safety
/// The machine has AVX-512 BW and GFNI.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn e4m3_are_normal<const R: usize>(of: [&[u8; 64]; R]) -> bool {
    let matrix = cast([SORTED; 8]);
    // SAFETY: the caller's.
    unsafe {
        let mut largest = cast([0u8; 64]);
        for codes in of {
            let codes = _mm512_gf2p8affine_epi64_epi8::<ZERO_EXPONENT>(cast(*codes), matrix);
            largest = _mm512_max_epu8(largest, codes);
        }
        _mm512_cmpge_epu8_mask(largest, cast([NAN; 64])) == 0
    }
}

/// What is added to a word's exponent: that of the scale, and what bf16's bias is more than e4m3's.
#[inline(always)]
pub(super) fn e4m3_normal_scale(scale: f32) -> __m512 {
    let exponent = (scale.to_bits() >> 16) as u16;
    cast([exponent.wrapping_sub(7 << 7); 32])
}

/// # Safety
/// The machine has AVX-512 F, BW and VBMI.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn e4m3_normal_pairs(from: &[u8; 64], scale: __m512) -> [__m512; 2] {
    let (bits, scale) = (cast(BF16_BITS), cast(scale));
    // SAFETY: the caller's.
    unsafe {
        let codes = _mm512_permutexvar_epi8(cast(TWO_UNITS), cast(*from));
        // The sign drawn out to where the exponent begins.
        let second = _mm512_srai_epi16::<4>(codes);
        let first = _mm512_srai_epi16::<4>(_mm512_slli_epi16::<8>(codes));
        [
            cast(_mm512_add_epi16(_mm512_and_si512(first, bits), scale)),
            cast(_mm512_add_epi16(_mm512_and_si512(second, bits), scale)),
        ]
    }
}
