//! Pairs of bf16 in plain Rust: the oracle of the instructions for them.
//!
//! A lane holds two columns that lie sixteen apart, the first of them in the upper half, which is
//! multiplied first: so a sum of pairs has the bits of one over f32.

use dsv3_weights::fp8::E4M3_TO_F32;

use super::{LANES, Lanes, NAN_CODE, WORDS};

/// Where the first column of a lane's pair stands.
const FIRST: u32 = 0xffff_0000;

/// `first` above `second`, both exact in bf16.
#[inline(always)]
pub(in crate::flex) fn paired(first: f32, second: f32) -> f32 {
    f32::from_bits(first.to_bits() & FIRST | second.to_bits() >> 16)
}

/// As [`Lanes::dot_pairs`].
#[inline(always)]
pub(super) fn dot<L: Lanes>(l: L, a: L::F, b: L::F, sum: L::F) -> L::F {
    let (a, b) = (l.store(a), l.store(b));
    let mut parts = [[0f32; LANES]; 4];
    for i in 0..LANES {
        parts[0][i] = f32::from_bits(a[i].to_bits() & FIRST);
        parts[1][i] = f32::from_bits(b[i].to_bits() & FIRST);
        parts[2][i] = f32::from_bits(a[i].to_bits() << 16);
        parts[3][i] = f32::from_bits(b[i].to_bits() << 16);
    }
    let sum = l.mul_add(l.load(&parts[0]), l.load(&parts[1]), sum);
    l.mul_add(l.load(&parts[2]), l.load(&parts[3]), sum)
}

/// As [`Lanes::bf16_pairs`].
#[inline(always)]
pub(super) fn bf16<L: Lanes>(l: L, from: &[u8; 4 * LANES]) -> L::F {
    let (values, _) = from.as_chunks::<2>();
    let mut to = [0f32; LANES];
    for i in 0..LANES {
        let (first, second) = (values[i], values[LANES + i]);
        to[i] = f32::from_le_bytes([second[0], second[1], first[0], first[1]]);
    }
    l.load(&to)
}

/// As [`Lanes::e4m3_pairs`].
#[inline(always)]
pub(super) fn e4m3<L: Lanes>(l: L, from: &[u8; 4 * LANES], scale: L::F) -> [L::F; 2] {
    let scale = l.store(scale)[0];
    let value = |code: u8| E4M3_TO_F32[usize::from(code)] * scale;
    let (units, _) = from.as_chunks::<{ 2 * LANES }>();
    let mut to = [[0f32; LANES]; 2];
    for (to, unit) in to.iter_mut().zip(units) {
        for i in 0..LANES {
            to[i] = paired(value(unit[i]), value(unit[LANES + i]));
        }
    }
    [l.load(&to[0]), l.load(&to[1])]
}

/// As [`Lanes::e4m3_are_normal`].
#[inline(always)]
pub(super) fn are_normal<const R: usize>(of: [&[u8; WORDS]; R]) -> bool {
    let mut all = true;
    for codes in of {
        for code in codes {
            let code = code & NAN_CODE;
            all &= (8..NAN_CODE).contains(&code);
        }
    }
    all
}
