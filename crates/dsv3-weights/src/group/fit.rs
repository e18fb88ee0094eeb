//! The scale of a group that makes its squared error small.
//!
//! A few dozen scales around that of the largest magnitude are tried at once, a lane for each. From
//! the best of them on two steps alternate, counted in f64: the best scale for the codes, in closed
//! form, and the best codes for that scale.

use super::quantize::{code, code_range, inverse};
use super::{GroupBits, UNIT};

/// Scales tried for a code that the largest magnitude may get.
const TRIED: usize = 24;
/// Those for int4, as multiples of the one by the largest magnitude: the first, and the step.
/// Clipping pays for finer steps down to about 0.7 of it; above 1 the largest code is given up.
const INT4_TRIED: (f32, f32) = (0.66, 0.02);
/// Those for int8, where clipping never pays for much.
const INT8_TRIED: (f32, f32) = (0.91, 0.005);
/// Rounds of scale for codes and codes for scale.
const REFITS: usize = 4;
/// Sums that are kept apart.
const LANES: usize = 8;

/// Values that share a scale.
pub(super) struct Group<'a> {
    /// Whole units.
    pub(super) values: &'a [f32],
    /// As many, if not all count the same.
    pub(super) importance: Option<&'a [f32]>,
    pub(super) bits: GroupBits,
}

/// What comes of a scale.
struct Fit {
    scale: f32,
    /// `Σ importance · (w − ŵ)²`
    error: f64,
    /// The scale of least error for the codes that this one gives, as f16.
    next: f32,
}

impl Group<'_> {
    /// The f16 with which the largest magnitude is the largest code.
    #[inline(always)]
    pub(super) fn plain_scale(&self) -> f32 {
        self.plain(self.extreme())
    }

    #[inline(always)]
    fn plain(&self, extreme: f32) -> f32 {
        match self.bits {
            GroupBits::Int8 => to_half(extreme.abs() / 127.0),
            GroupBits::Int4 => to_half(extreme / -8.0),
        }
    }

    /// The value of largest magnitude; where there are two, the positive one.
    #[inline(always)]
    fn extreme(&self) -> f32 {
        let (mut least, mut most) = ([0f32; UNIT], [0f32; UNIT]);
        for values in self.values.as_chunks::<UNIT>().0 {
            for lane in 0..UNIT {
                least[lane] = lesser(values[lane], least[lane]);
                most[lane] = greater(values[lane], most[lane]);
            }
        }
        let mut width = UNIT / 2;
        while width > 0 {
            for lane in 0..width {
                least[lane] = lesser(least[lane + width], least[lane]);
                most[lane] = greater(most[lane + width], most[lane]);
            }
            width /= 2;
        }
        if -least[0] > most[0] {
            least[0]
        } else {
            most[0]
        }
    }

    /// The scale of least squared error among those that are looked at: an f16's value, and never
    /// worse than the plain one.
    #[inline(always)]
    pub(super) fn least_error(&self) -> f32 {
        let extreme = self.extreme();
        let plain = self.fit(self.plain(extreme));
        let tried = match self.bits {
            GroupBits::Int8 => self.best_of(extreme.abs() / 127.0, INT8_TRIED, plain.scale),
            // The extreme as the lowest code, and as the highest.
            GroupBits::Int4 => {
                let (low, high) = (extreme / -8.0, extreme / 7.0);
                let low = self.best_of(low, INT4_TRIED, plain.scale);
                let high = self.best_of(high, INT4_TRIED, plain.scale);
                if high.0 < low.0 { high } else { low }
            }
        };
        let mut best = self.fit(tried.1);
        for _ in 0..REFITS {
            if best.next == best.scale || !best.next.is_finite() {
                break;
            }
            let next = self.fit(best.next);
            if next.error >= best.error {
                break;
            }
            best = next;
        }
        // In f32 a sum may lie; f64 decides.
        if best.error < plain.error {
            best.scale
        } else {
            plain.scale
        }
    }

    /// Multiples of a scale: the least error, about, and whose it is. `plain` stands in for those
    /// that an f16 can't hold.
    #[inline(always)]
    fn best_of(&self, scale: f32, (first, step): (f32, f32), plain: f32) -> (f32, f32) {
        let range = code_range(self.bits);
        let mut scales = [0f32; TRIED];
        let mut inverses = [0f32; TRIED];
        for (i, (to, inverse_to)) in scales.iter_mut().zip(&mut inverses).enumerate() {
            let half = to_half(scale * (first + step * i as f32));
            *to = if half.is_finite() { half } else { plain };
            *inverse_to = inverse(*to);
        }
        let mut errors = [0f32; TRIED];
        match self.importance {
            None => {
                for x in self.values {
                    for lane in 0..TRIED {
                        let code = code(*x, inverses[lane], range);
                        let off = (-code).mul_add(scales[lane], *x);
                        errors[lane] = off.mul_add(off, errors[lane]);
                    }
                }
            }
            Some(importance) => {
                for (x, importance) in self.values.iter().zip(importance) {
                    for lane in 0..TRIED {
                        let code = code(*x, inverses[lane], range);
                        let off = (-code).mul_add(scales[lane], *x);
                        errors[lane] = (importance * off).mul_add(off, errors[lane]);
                    }
                }
            }
        }
        let mut best = (errors[0], scales[0]);
        for (error, scale) in errors.into_iter().zip(scales) {
            if error < best.0 {
                best = (error, scale);
            }
        }
        best
    }

    /// Codes for a scale, what is off, and what scale they would rather have.
    #[inline(always)]
    fn fit(&self, scale: f32) -> Fit {
        let (inverse, range) = (inverse(scale), code_range(self.bits));
        let mut errors = [0f64; LANES];
        let mut products = [0f64; LANES]; // Σ i·w·c
        let mut squares = [0f64; LANES]; // Σ i·c²
        let (values, _) = self.values.as_chunks::<LANES>();
        let ones = [1f32; LANES];
        let importance = self.importance.map(|i| i.as_chunks::<LANES>().0);
        for (at, values) in values.iter().enumerate() {
            let importance = match importance {
                Some(importance) => &importance[at],
                None => &ones,
            };
            for lane in 0..LANES {
                let code = code(values[lane], inverse, range);
                let (value, weight) = (f64::from(values[lane]), f64::from(importance[lane]));
                let off = value - f64::from(code * scale);
                let (code, weighed) = (f64::from(code), weight * f64::from(code));
                errors[lane] = (weight * off).mul_add(off, errors[lane]);
                products[lane] = weighed.mul_add(value, products[lane]);
                squares[lane] = weighed.mul_add(code, squares[lane]);
            }
        }
        let (products, squares) = (total(products), total(squares));
        Fit {
            scale,
            error: total(errors),
            next: match squares > 0.0 {
                true => to_half((products / squares) as f32),
                false => scale,
            },
        }
    }
}

/// `f32::min` of numbers, one instruction.
#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// `f32::max` of numbers, one instruction.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The lanes added up, as a tree.
#[inline(always)]
fn total(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The nearest f16, ties to even, as f32. As [`half::f16::from_f32`], in instructions that make
/// vectors.
#[inline(always)]
fn to_half(x: f32) -> f32 {
    /// What makes a step of 2^-24, f16's least, of its own last place.
    const LEAST: f32 = 0.75;
    /// Half of what comes behind the ten bits of an f16's fraction, less one.
    const HALF: u32 = 0x0fff;
    /// 2^-14, f16's least normal number.
    const NORMAL: u32 = 0x3880_0000;
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

#[cfg(test)]
mod tests {
    use half::f16;

    use super::to_half;

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
            }
        }
    }
}
