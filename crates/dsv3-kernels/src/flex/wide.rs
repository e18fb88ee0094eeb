//! Loops compiled for the widest instruction set of the machine, chosen at run time.
//!
//! The exponential here differs from the library's in the last digit.

use pulp::Arch;

/// Run `op` with the machine's vector instructions: what it inlines is compiled for them.
#[inline]
pub(super) fn wide<R>(op: impl FnOnce() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Op<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Op(op))
}

/// `e^x` to 2 ulp between −87 and 88; beyond, the value there. A polynomial after Cephes' expf,
/// without a branch, so that loops over it vectorise.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 · 2^23: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = ((((1.987_569_2e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
        + 1.666_666_5e-1)
        * r
        + 0.5;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let scale = f32::from_bits((power.wrapping_add(127) as u32) << 23);
    (p * r * r + r + 1.0) * scale
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `Σ a · b` in sixteen lanes.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    super::vector::dot(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a wrong coefficient, a wrong split of ln 2, an exponent off by one.
    #[test]
    fn the_exponential_is_within_two_ulp() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01 + 0.003;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 2.4e-7, "e^{x}: {got} {want}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e30) < 1e-37 && exp(1e30) > 1e38);
    }
}
