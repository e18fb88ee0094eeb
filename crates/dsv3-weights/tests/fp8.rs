//! The e4m3 format against its definition, bit by bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

use dsv3_weights::fp8::{
    self, E4M3_TO_F32, ceil_to_ue8m0, e4m3_to_f32, e8m0_to_f32, f32_to_e4m3, is_power_of_two,
    quantize_block, quantize_row_group,
};
use dsv3_weights::{ScaleFmt, WeightsError};
use proptest::prelude::*;

/// The value from the definition, in f64 arithmetic: an independent route to the table.
fn by_definition(code: u8) -> f64 {
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(code >> 3 & 15);
    let mantissa = f64::from(code & 7);
    match (exponent, code & 7) {
        (15, 7) => f64::NAN,
        (0, _) => sign * mantissa / 8.0 * 2f64.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    }
}

/// A wrong entry would scale every weight with that byte.
#[test]
fn all_256_bytes_decode_as_defined() {
    for code in 0..=255u8 {
        let (got, want) = (e4m3_to_f32(code), by_definition(code));
        if want.is_nan() {
            assert!(got.is_nan(), "{code:#04x}");
        } else {
            assert_eq!(f64::from(got).to_bits(), want.to_bits(), "{code:#04x}");
        }
        assert_eq!(got.to_bits(), E4M3_TO_F32[usize::from(code)].to_bits());
    }
    assert_eq!(e4m3_to_f32(0x7e), 448.0);
    assert_eq!(e4m3_to_f32(0x01), 2f32.powi(-9));
    assert_eq!(e4m3_to_f32(0x08), 2f32.powi(-6));
}

/// Decode then encode must be the identity, the sign of zero included.
#[test]
fn encode_inverts_decode() {
    for code in 0..=255u8 {
        let want = if code & 0x7f == 0x7f { 0x7f } else { code };
        assert_eq!(f32_to_e4m3(e4m3_to_f32(code)), want, "{code:#04x}");
    }
}

/// The nearest code by search; on a tie the even one.
fn nearest(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let x = f64::from(x.abs());
    let mut best = 0u8;
    for code in 1..=0x7eu8 {
        let (d, b) = (
            (by_definition(code) - x).abs(),
            (by_definition(best) - x).abs(),
        );
        if d < b || (d == b && code & 1 == 0) {
            best = code;
        }
    }
    sign | best
}

/// Every f32 whose low 12 mantissa bits are 0, 1 or all ones: all ties and their neighbours.
#[test]
fn encode_is_round_to_nearest_even() {
    // 2^-12 to 2^10 covers everything that does not round to zero or saturate.
    for high in (115u32 << 11)..(138 << 11) {
        for low in [0, 1, 0xfff] {
            let x = f32::from_bits(high << 12 | low);
            assert_eq!(f32_to_e4m3(x), nearest(x), "{x}");
            assert_eq!(f32_to_e4m3(-x), nearest(-x), "-{x}");
        }
    }
}

/// An overflow that wrapped into NaN would spread over its whole row.
#[test]
fn encode_saturates_and_keeps_nan() {
    for big in [448.0, 449.0, 464.0, 480.0, 1e9, f32::MAX, f32::INFINITY] {
        assert_eq!(f32_to_e4m3(big), 0x7e);
        assert_eq!(f32_to_e4m3(-big), 0xfe);
    }
    assert_eq!(f32_to_e4m3(f32::NAN), 0x7f);
    assert_eq!(f32_to_e4m3(-f32::NAN), 0x7f);
    assert_eq!(f32_to_e4m3(0.0), 0);
    assert_eq!(f32_to_e4m3(-0.0), 0x80);
    assert_eq!(f32_to_e4m3(f32::from_bits(1)), 0);
    assert_eq!(f32_to_e4m3(2f32.powi(-10)), 0); // tie to even
    assert_eq!(f32_to_e4m3(2f32.powi(-10) * 1.0001), 1);
    assert_eq!(f32_to_e4m3(3.0 * 2f32.powi(-10)), 2); // tie to even
}

/// DeepSeek-V3.1's rule for power-of-two scales; the numbers are worked out by hand.
#[test]
fn ue8m0_scales_round_up() {
    assert_eq!(ceil_to_ue8m0(0.01), 0.015625);
    assert_eq!(ceil_to_ue8m0(0.015625), 0.015625);
    assert_eq!(ceil_to_ue8m0(1e-4 / 448.0), 2f32.powi(-22));
    assert_eq!(ceil_to_ue8m0(1.0), 1.0);
    assert_eq!(ceil_to_ue8m0(f32::from_bits(1f32.to_bits() + 1)), 2.0);
    assert_eq!(ceil_to_ue8m0(f32::from_bits(3)), 2f32.powi(-126)); // clamped at the bottom
    assert_eq!(ceil_to_ue8m0(f32::MAX), 2f32.powi(127)); // and at the top
}

/// A scale taken for a power of two would be applied by its exponent alone.
#[test]
fn powers_of_two_are_told_apart() {
    for e in -149..=127 {
        let x = 2f64.powi(e) as f32;
        assert!(is_power_of_two(x), "2^{e}");
        assert!(!is_power_of_two(-x));
        // Below 2^-148 the next representable number is itself a power of two.
        if e > -148 {
            assert!(
                !is_power_of_two(f32::from_bits(x.to_bits() + 1)),
                "above 2^{e}"
            );
        }
    }
    for x in [
        0.0,
        -0.0,
        3.0,
        0.01,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ] {
        assert!(!is_power_of_two(x), "{x}");
    }
    for code in 0..255u8 {
        assert_eq!(
            f64::from(e8m0_to_f32(code)),
            2f64.powi(i32::from(code) - 127)
        );
    }
    assert!(e8m0_to_f32(255).is_nan());
}

/// An all-zero group must not divide by zero.
#[test]
fn zero_activations_get_the_floor_scale() {
    let (codes, scale) = quantize_row_group(&[0.0; 128], true);
    assert_eq!(scale, 2f32.powi(-22));
    assert!(codes.iter().all(|c| *c == 0));
    let (_, scale) = quantize_row_group(&[0.0; 128], false);
    assert_eq!(scale, 1e-4 / 448.0);
}

/// The codes must come from the rounded scale: rounding the scale afterwards loses range.
#[test]
fn activations_use_the_rounded_scale() {
    let x = [4.48f32, -2.24, 1.0];
    let (codes, scale) = quantize_row_group(&x, true);
    assert_eq!(scale, 0.015625); // 4.48 / 448 = 0.01, up to 2^-6
    assert_eq!(codes, x.map(|v| f32_to_e4m3(v / 0.015625)));
}

/// Wrong lengths must be an error, not a panic in the middle of a conversion.
#[test]
fn lengths_are_checked() {
    let e = quantize_block(&[0.0; 5], [2, 3], [128, 128], ScaleFmt::F32).unwrap_err();
    assert!(matches!(
        e,
        WeightsError::WrongLength {
            expected: 6,
            given: 5,
            ..
        }
    ));
    let e = fp8::dequantize_block(&[0; 6], &[1.0; 2], [2, 3], [128, 128]).unwrap_err();
    assert!(matches!(
        e,
        WeightsError::WrongLength {
            expected: 1,
            given: 2,
            ..
        }
    ));
    let none = quantize_block(&[], [0, 7], [128, 128], ScaleFmt::F32).unwrap();
    assert!(none.data.is_empty() && none.scale.is_empty());
}

proptest! {
    /// A smaller number may never get a larger code.
    #[test]
    fn encode_is_monotonic(a in any::<f32>(), b in any::<f32>()) {
        prop_assume!(!a.is_nan() && !b.is_nan());
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        prop_assert!(e4m3_to_f32(f32_to_e4m3(low)) <= e4m3_to_f32(f32_to_e4m3(high)));
    }

    /// Any bit pattern encodes to what the search finds.
    #[test]
    fn encode_equals_search(bits in any::<u32>()) {
        let x = f32::from_bits(bits);
        prop_assume!(!x.is_nan());
        prop_assert_eq!(f32_to_e4m3(x), nearest(x.clamp(-448.0, 448.0)));
    }

    /// Shapes that no block divides: each value comes back within half a step of its block.
    #[test]
    fn blocks_round_trip_at_the_edges(
        rows in 1usize..40, cols in 1usize..40, br in 1usize..17, bc in 1usize..17,
        seed in any::<u64>(), ue8m0 in any::<bool>(),
    ) {
        let mut state = seed | 1;
        let w: Vec<f32> = (0..rows * cols).map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / 4e6 - 2.0
        }).collect();
        let fmt = if ue8m0 { ScaleFmt::Ue8m0 } else { ScaleFmt::F32 };
        let q = quantize_block(&w, [rows, cols], [br, bc], fmt).unwrap();
        prop_assert_eq!(q.scale.len(), rows.div_ceil(br) * cols.div_ceil(bc));
        prop_assert!(!ue8m0 || q.scale.iter().all(|s| is_power_of_two(*s)));
        let back = fp8::dequantize_block(&q.data, &q.scale, [rows, cols], [br, bc]).unwrap();
        for (i, (x, y)) in w.iter().zip(&back).enumerate() {
            let (r, c) = (i / cols, i % cols);
            let s = q.scale[r / br * cols.div_ceil(bc) + c / bc];
            prop_assert_eq!(*y, e4m3_to_f32(f32_to_e4m3(x / s)) * s);
            prop_assert!((x - y).abs() <= (x.abs() / 16.0).max(s * 2f32.powi(-10)) * 1.0001);
        }
    }
}
