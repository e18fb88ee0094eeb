//! f32 to bf16 and back, many at a time.
//!
//! The same bits as `half` gives one by one, by loops without a branch that become vector
//! instructions: a prompt's activations pass here a few times a layer.

use half::bf16;

use super::team;
use super::wide::wide;

/// The bf16 nearest to `v`, ties to even, as the upper half of an f32's bits. A NaN stays one.
#[inline(always)]
fn nearest(v: f32) -> u32 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    let bits = if is_nan { bits | 0x0040_0000 } else { rounded };
    bits & 0xffff_0000
}

/// Each to the nearest bf16.
pub(super) fn round_to_bf16(values: &mut [f32]) {
    wide(
        #[inline(always)]
        || {
            for value in values {
                *value = f32::from_bits(nearest(*value));
            }
        },
    );
}

/// The nearest bf16 of each.
pub(super) fn to_bf16(values: &[f32]) -> Vec<bf16> {
    let mut to = vec![bf16::ZERO; values.len()];
    team::for_rows(&mut to, 1, |first, to| {
        wide(
            #[inline(always)]
            || {
                for (to, value) in to.iter_mut().zip(&values[first..]) {
                    *to = bf16::from_bits((nearest(*value) >> 16) as u16);
                }
            },
        )
    });
    to
}

/// Each as f32.
pub(super) fn from_bf16(values: &[bf16]) -> Vec<f32> {
    let mut to = vec![0f32; values.len()];
    team::for_rows(&mut to, 1, |first, to| {
        wide(
            #[inline(always)]
            || {
                for (to, value) in to.iter_mut().zip(&values[first..]) {
                    *to = f32::from_bits(u32::from(value.to_bits()) << 16);
                }
            },
        )
    });
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sign, exponent and upper half of a fraction, with lower halves on both sides of a tie
    /// and on it.
    fn values() -> Vec<f32> {
        let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let bits = (0..=0xffffu32).flat_map(|upper| lower.map(|lower| upper << 16 | lower));
        bits.map(f32::from_bits).collect()
    }

    /// Breaks with: a tie that goes up, a carry that is lost, an infinity that becomes NaN or the
    /// other way round, a lane in another's place.
    #[test]
    fn every_value_has_the_bits_of_half() {
        let values = values();
        let rounded = to_bf16(&values);
        let mut in_place = values.clone();
        round_to_bf16(&mut in_place);
        let back = from_bf16(&rounded);
        for (i, value) in values.iter().enumerate() {
            let want = bf16::from_f32(*value);
            assert_eq!(
                rounded[i].to_bits(),
                want.to_bits(),
                "{:08x}",
                value.to_bits()
            );
            let want = want.to_f32().to_bits();
            assert_eq!(in_place[i].to_bits(), want, "{:08x}", value.to_bits());
            assert_eq!(back[i].to_bits(), want, "{:08x}", value.to_bits());
        }
    }
}
