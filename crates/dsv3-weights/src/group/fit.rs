//! The scales of groups that make their squared errors small.
//!
//! Sixteen groups are looked at side by side, a lane for each, so that nothing is summed across and
//! a step that few groups need costs no branch. A few scales around that of the largest magnitude
//! are tried; from the best of them on two steps alternate: the best scale for the codes, in closed
//! form, and the best codes for that scale. All that is counted in f32; f64 decides where that
//! leaves a doubt whether the plain scale was better.

use super::GroupBits;
use super::f16_bits::to_half;
use super::quantize::{code, code_range, inverse};

/// Groups side by side.
pub(super) const LANES: usize = 16;
/// A number of each group.
pub(super) type Lanes = [f32; LANES];

/// Scales tried, as multiples of the one by the largest magnitude: how many, the first, the step.
type Tried = (usize, f32, f32);
/// Those for int4, for a code that the largest magnitude may get: the lowest, and the highest.
/// Each is looked at with the best scale for its codes, so a coarse step will do. Clipping pays
/// down to about 0.75 of it.
const INT4_TRIED: Tried = (8, 0.76, 0.04);
/// With importance it pays for more, where what is clipped counts little.
const INT4_WEIGHED: Tried = (12, 0.66, 0.04);
/// Those for int8, two at a time. Clipping never pays there, and the error jumps about from one
/// scale to the next: what pays is to look at many, a little above as well.
const INT8_TRIED: Tried = (12, 0.97, 0.0075);
/// Rounds of scale for codes and codes for scale.
const REFITS: usize = 2;
/// Errors below this may have lost what f32 can't hold.
const LEAST_SURE: f32 = 1e-30;

/// Values that share a scale, of several groups; where a group is shorter or there is none, zeros.
pub(super) struct Groups<'a, const WEIGHED: bool> {
    pub(super) values: &'a [Lanes],
    /// As many where `WEIGHED`; where not, all count the same and this is not read.
    pub(super) importance: &'a [Lanes],
    pub(super) bits: GroupBits,
}

/// What comes of scales.
struct Fit {
    /// `Σ importance · (w − ŵ)²`
    errors: Lanes,
    /// The scales of least error for the codes that these give, as f16.
    next: Lanes,
}

impl<const WEIGHED: bool> Groups<'_, WEIGHED> {
    /// The f16 with which the largest magnitude is the largest code.
    #[inline(always)]
    pub(super) fn plain_scales(&self) -> Lanes {
        self.plain_of(&self.extremes())
    }

    #[inline(always)]
    fn plain_of(&self, extremes: &Lanes) -> Lanes {
        let mut scales = [0f32; LANES];
        for lane in 0..LANES {
            scales[lane] = to_half(match self.bits {
                GroupBits::Int8 => extremes[lane].abs() / 127.0,
                GroupBits::Int4 => extremes[lane] / -8.0,
            });
        }
        scales
    }

    /// The scales of least squared error among those that are looked at: values of f16, and never
    /// worse than the plain ones.
    #[inline(always)]
    pub(super) fn least_errors(&self) -> Lanes {
        let extremes = self.extremes();
        let plain = self.plain_of(&extremes);
        let mut scales = match self.bits {
            GroupBits::Int4 => self.of_most_gain(&extremes, &plain),
            GroupBits::Int8 => self.of_least_error(&extremes, &plain),
        };
        let found = self.refit(&mut scales);
        if !self.are_surely_better(&scales, &found, &plain) {
            let (found, by_magnitude) = (self.exact_errors(&scales), self.exact_errors(&plain));
            for lane in 0..LANES {
                let better = found[lane] < by_magnitude[lane];
                scales[lane] = if better { scales[lane] } else { plain[lane] };
            }
        }
        scales
    }

    /// Whether each scale is the plain one or has less error, as far as f32's sums tell.
    ///
    /// What is off is exact but for one rounding (a code times an f16 has 19 bits), so a sum of
    /// `n` squares is off by `n + 4` halves of f32's last place at most.
    #[inline(always)]
    fn are_surely_better(&self, scales: &Lanes, errors: &Lanes, plain: &Lanes) -> bool {
        let doubt = (self.values.len() + 8) as f32 * f32::EPSILON;
        let plain_errors = self.fit(plain).errors;
        let mut sure = true;
        for lane in 0..LANES {
            let less = errors[lane] < plain_errors[lane] * (1.0 - doubt);
            let better = less & (plain_errors[lane] > LEAST_SURE);
            sure &= better | (scales[lane] == plain[lane]);
        }
        sure
    }

    /// The values of largest magnitude; where a group has two, the positive one.
    #[inline(always)]
    fn extremes(&self) -> Lanes {
        let (mut least, mut greatest) = ([0f32; LANES], [0f32; LANES]);
        for values in self.values {
            for lane in 0..LANES {
                least[lane] = lesser(values[lane], least[lane]);
                greatest[lane] = greater(values[lane], greatest[lane]);
            }
        }
        let mut extremes = [0f32; LANES];
        for lane in 0..LANES {
            let is_least = -least[lane] > greatest[lane];
            extremes[lane] = if is_least {
                least[lane]
            } else {
                greatest[lane]
            };
        }
        extremes
    }

    /// Of some codes, those with the best scale of their own.
    ///
    /// The best scale for codes `c` is `p / q` with `p = Σ i·w·c` and `q = Σ i·c²`, and what it
    /// takes off `Σ i·w²` is `p² / q`: both without a second look at the values. int8 gains too
    /// little by it for f32 to tell.
    #[inline(always)]
    fn of_most_gain(&self, extremes: &Lanes, plain: &Lanes) -> Lanes {
        let (count, first, step) = if WEIGHED { INT4_WEIGHED } else { INT4_TRIED };
        let range = code_range(self.bits);
        let (mut gains, mut scales) = ([0f32; LANES], *plain);
        for i in 0..count {
            let multiple = first + step * i as f32;
            // The extreme as the lowest code, and as the highest.
            let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]); // inverse scales
            for lane in 0..LANES {
                low[lane] = inverse(extremes[lane] * (multiple / -8.0));
                high[lane] = inverse(extremes[lane] * (multiple / 7.0));
            }
            let (mut low_p, mut low_q) = ([0f32; LANES], [0f32; LANES]);
            let (mut high_p, mut high_q) = ([0f32; LANES], [0f32; LANES]);
            for (values, importance) in self.values.iter().zip(self.importance) {
                for lane in 0..LANES {
                    let weight = if WEIGHED { importance[lane] } else { 1.0 };
                    let code_low = code(values[lane], low[lane], range);
                    let weighed = code_low * weight;
                    low_p[lane] = weighed.mul_add(values[lane], low_p[lane]);
                    low_q[lane] = weighed.mul_add(code_low, low_q[lane]);
                    let code_high = code(values[lane], high[lane], range);
                    let weighed = code_high * weight;
                    high_p[lane] = weighed.mul_add(values[lane], high_p[lane]);
                    high_q[lane] = weighed.mul_add(code_high, high_q[lane]);
                }
            }
            keep_most(&low_p, &low_q, &mut gains, &mut scales);
            keep_most(&high_p, &high_q, &mut gains, &mut scales);
        }
        for lane in 0..LANES {
            let half = to_half(scales[lane]);
            scales[lane] = if half.is_finite() { half } else { plain[lane] };
        }
        scales
    }

    /// Of some scales, those of least error.
    #[inline(always)]
    fn of_least_error(&self, extremes: &Lanes, plain: &Lanes) -> Lanes {
        let (count, first, step) = INT8_TRIED;
        let range = code_range(self.bits);
        let (mut least, mut scales) = ([f32::INFINITY; LANES], *plain);
        for i in (0..count).step_by(2) {
            let multiples = (first + step * i as f32, first + step * (i + 1) as f32);
            let (mut a, mut b) = ([0f32; LANES], [0f32; LANES]); // scales
            for lane in 0..LANES {
                let extreme = extremes[lane].abs();
                a[lane] = to_half(extreme * (multiples.0 / 127.0));
                b[lane] = to_half(extreme * (multiples.1 / 127.0));
            }
            let (by_a, by_b) = (inverses(&a), inverses(&b));
            // In steps of the scale.
            let (mut errors_a, mut errors_b) = ([0f32; LANES], [0f32; LANES]);
            for (values, importance) in self.values.iter().zip(self.importance) {
                for lane in 0..LANES {
                    let weight = if WEIGHED { importance[lane] } else { 1.0 };
                    let code_a = code(values[lane], by_a[lane], range);
                    let off = values[lane].mul_add(by_a[lane], -code_a);
                    errors_a[lane] = (weight * off).mul_add(off, errors_a[lane]);
                    let code_b = code(values[lane], by_b[lane], range);
                    let off = values[lane].mul_add(by_b[lane], -code_b);
                    errors_b[lane] = (weight * off).mul_add(off, errors_b[lane]);
                }
            }
            keep_least(&errors_a, &a, &mut least, &mut scales);
            keep_least(&errors_b, &b, &mut least, &mut scales);
        }
        scales
    }

    /// Moves every scale to the least error near it, as far as that goes in a few rounds; the
    /// errors there.
    #[inline(always)]
    fn refit(&self, scales: &mut Lanes) -> Lanes {
        let Fit {
            mut errors,
            mut next,
        } = self.fit(scales);
        for _ in 0..REFITS {
            let fit = self.fit(&next);
            let mut moved = false;
            for lane in 0..LANES {
                let better = fit.errors[lane] < errors[lane];
                moved |= better;
                errors[lane] = if better {
                    fit.errors[lane]
                } else {
                    errors[lane]
                };
                scales[lane] = if better { next[lane] } else { scales[lane] };
                next[lane] = if better { fit.next[lane] } else { scales[lane] };
            }
            if !moved {
                break;
            }
        }
        errors
    }

    #[inline(always)]
    fn fit(&self, scales: &Lanes) -> Fit {
        let range = code_range(self.bits);
        let inverses = inverses(scales);
        let mut errors = [0f32; LANES];
        let mut products = [0f32; LANES]; // Σ i·(w − ŵ)·c
        let mut squares = [0f32; LANES]; // Σ i·c²
        for (values, importance) in self.values.iter().zip(self.importance) {
            for lane in 0..LANES {
                let weight = if WEIGHED { importance[lane] } else { 1.0 };
                let code = code(values[lane], inverses[lane], range);
                let off = (-code).mul_add(scales[lane], values[lane]);
                let (weighed_off, weighed_code) = (off * weight, code * weight);
                errors[lane] = weighed_off.mul_add(off, errors[lane]);
                products[lane] = weighed_off.mul_add(code, products[lane]);
                squares[lane] = weighed_code.mul_add(code, squares[lane]);
            }
        }
        let mut next = [0f32; LANES];
        for lane in 0..LANES {
            let half = to_half(scales[lane] + products[lane] / squares[lane]);
            next[lane] = if half.is_finite() { half } else { scales[lane] };
        }
        Fit { errors, next }
    }

    /// `Σ importance · (w − ŵ)²`.
    #[inline(always)]
    fn exact_errors(&self, scales: &Lanes) -> [f64; LANES] {
        let range = code_range(self.bits);
        let inverses = inverses(scales);
        let mut errors = [0f64; LANES];
        for (values, importance) in self.values.iter().zip(self.importance) {
            for lane in 0..LANES {
                let weight = if WEIGHED {
                    f64::from(importance[lane])
                } else {
                    1.0
                };
                let code = code(values[lane], inverses[lane], range);
                let off = f64::from(values[lane]) - f64::from(code * scales[lane]);
                errors[lane] = (weight * off).mul_add(off, errors[lane]);
            }
        }
        errors
    }
}

#[inline(always)]
fn inverses(scales: &Lanes) -> Lanes {
    let mut inverses = [0f32; LANES];
    for lane in 0..LANES {
        inverses[lane] = inverse(scales[lane]);
    }
    inverses
}

/// Where `p² / q` is more than what was gained before: that, and the scale `p / q`.
#[inline(always)]
fn keep_most(p: &Lanes, q: &Lanes, gains: &mut Lanes, scales: &mut Lanes) {
    for lane in 0..LANES {
        let scale = p[lane] / q[lane];
        let gain = p[lane] * scale;
        let more = gain > gains[lane]; // false for the NaN of no codes at all
        gains[lane] = if more { gain } else { gains[lane] };
        scales[lane] = if more { scale } else { scales[lane] };
    }
}

/// Where errors, in steps of their scale, are less than those before: they, and the scale.
#[inline(always)]
fn keep_least(errors: &Lanes, of: &Lanes, least: &mut Lanes, scales: &mut Lanes) {
    for lane in 0..LANES {
        let error = errors[lane] * of[lane] * of[lane];
        let less = error < least[lane]; // false for the NaN of an infinite scale
        least[lane] = if less { error } else { least[lane] };
        scales[lane] = if less { of[lane] } else { scales[lane] };
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
