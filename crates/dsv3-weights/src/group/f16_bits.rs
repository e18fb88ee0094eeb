//! f16 in instructions that make vectors, which the library's one at a time do not.

/// 2^-14, f16's least normal number.
const NORMAL: u32 = 0x3880_0000;

/// The nearest f16, ties to even, as f32: what [`half::f16::from_f32`] gives.
#[inline(always)]
pub(super) fn to_half(x: f32) -> f32 {
    /// What makes a step of 2^-24, f16's least, of its own last place.
    const LEAST: f32 = 0.75;
    /// Half of what comes behind the ten bits of an f16's fraction, less one.
    const HALF: u32 = 0x0fff;
    /// 2^16, which no f16 has.
    const TOO_LARGE: u32 = 0x4780_0000;
    let (bits, sign) = (x.abs().to_bits(), x.to_bits() & 0x8000_0000);
    let normal = (bits + HALF + (bits >> 13 & 1)) & !0x1fff;
    let small = ((x.abs() + LEAST) - LEAST).to_bits();
    let mut magnitude = if bits < NORMAL { small } else { normal };
    if magnitude >= TOO_LARGE {
        magnitude = f32::INFINITY.to_bits();
    }
    f32::from_bits(magnitude | sign)
}

/// The bits of an f16's value that [`to_half`] gave.
#[inline(always)]
pub(super) fn half_bits(x: f32) -> u16 {
    let (magnitude, sign) = (x.abs(), (x.to_bits() >> 16 & 0x8000) as u16);
    let normal = (magnitude.to_bits().wrapping_sub(112 << 23) >> 13) as u16;
    // Steps of 2^-24, whole ones.
    let subnormal = (magnitude * 16_777_216.0) as i32 as u16;
    let is_normal = magnitude.to_bits() >= NORMAL;
    sign | if is_normal { normal } else { subnormal }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{half_bits, to_half};

    /// Breaks with: a tie that falls to the odd side, a subnormal scale that is lost, an infinity
    /// that is a large number.
    #[test]
    fn halves_are_those_of_the_library() {
        // Every upper half, with lower ones on and beside the ties of f16's last place.
        for upper in 0..=u16::MAX {
            for lower in [
                0u32, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, 0xffff,
            ] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                let want = f16::from_f32(x).to_f32();
                if x.is_nan() {
                    continue;
                }
                assert_eq!(to_half(x).to_bits(), want.to_bits(), "{x:e}");
                if want.is_finite() {
                    let bits = f16::from_f32(x).to_bits();
                    assert_eq!(half_bits(want), bits, "{x:e}");
                }
            }
        }
    }
}
