//! int8 and int4 in groups: layout of the rows, error bounds, and what better scales are worth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use dsv3_weights::group::{dequantize_group, quantize_group, quantize_group_fitted};
use dsv3_weights::{Checkpoint, GroupBits, GroupFormat, Layout, WeightsError};
use half::f16;
use proptest::prelude::*;

fn format(bits: GroupBits, group: usize) -> GroupFormat {
    GroupFormat::new(bits, group).unwrap()
}

fn scale(row: &[u8], format: GroupFormat, columns: usize, i: usize) -> f32 {
    let at = format.code_bytes(columns) + 2 * i;
    f16::from_le_bytes([row[at], row[at + 1]]).to_f32()
}

/// `Σ importance · (w − ŵ)²`
fn error(w: &[f32], back: &[f32], importance: impl Fn(usize) -> f64) -> f64 {
    let pairs = w.iter().zip(back).enumerate();
    pairs
        .map(|(i, (w, b))| importance(i) * (f64::from(*w) - f64::from(*b)).powi(2))
        .sum()
}

/// Breaks with: any other order of codes, scales or padding; kernels are written against this one.
#[test]
fn rows_are_laid_out_as_documented() {
    // Columns 0..96 in groups of 64: the second scale is for 32 columns.
    let w: Vec<f32> = (0..96).map(|i| i as f32 - 48.0).collect();
    let int8 = format(GroupBits::Int8, 64);
    let row = quantize_group(&w, [1, 96], int8).unwrap();
    assert_eq!(row.len(), 128); // 96 + 2 · 2, up to a multiple of 64
    assert_eq!(
        scale(&row, int8, 96, 0),
        f16::from_f32(48.0 / 127.0).to_f32()
    );
    assert_eq!(
        scale(&row, int8, 96, 1),
        f16::from_f32(47.0 / 127.0).to_f32()
    );
    assert_eq!((row[0] as i8, row[48], row[95] as i8), (-127, 0, 127));
    assert!(row[100..].iter().all(|b| *b == 0));

    let int4 = format(GroupBits::Int4, 32);
    let mut w = vec![0f32; 64];
    (w[0], w[1], w[16], w[33]) = (-8.0, 3.0, 7.0, 8.0);
    let row = quantize_group(&w, [1, 64], int4).unwrap();
    assert_eq!(row.len(), 64); // 32 + 2 · 2
    assert_eq!(scale(&row, int4, 64, 0), 1.0);
    // The largest magnitude takes code 0, whatever its sign.
    assert_eq!(scale(&row, int4, 64, 1), -1.0);
    assert_eq!((row[0] & 15, row[0] >> 4), (0, 15)); // columns 0 and 16
    assert_eq!((row[1] & 15, row[1] >> 4), (11, 8)); // columns 1 and 17
    assert_eq!(row[17] & 15, 0); // column 33, in the second unit
    assert!(row[36..].iter().all(|b| *b == 0));
    assert_eq!(dequantize_group(&row, [1, 64], int4).unwrap(), w);

    // Nor does a fitted row's padding hold scales of groups that there are not.
    for format in [int8, int4] {
        let row = quantize_group_fitted(&[0.5; 96], [1, 96], format, None).unwrap();
        let used = format.code_bytes(96) + 2 * format.scales(96);
        assert!(row[used..].iter().all(|b| *b == 0), "{format}: {row:?}");
    }

    // DeepSeek-V3's experts: whole cache lines, no padding but what is said.
    assert_eq!(format(GroupBits::Int4, 32).row_bytes(7168), 3584 + 448);
    assert_eq!(format(GroupBits::Int4, 32).row_bytes(2048), 1024 + 128);
    assert_eq!(format(GroupBits::Int8, 64).row_bytes(7168), 7168 + 256);
}

/// Breaks with: padding that is not written, two threads that write one row, a tie that falls by
/// chance.
#[test]
fn zeros_and_single_values_are_exact() {
    for bits in [GroupBits::Int8, GroupBits::Int4] {
        let format = format(bits, 32);
        let zeros = vec![0.0; 3 * 64];
        for packed in [
            quantize_group(&zeros, [3, 64], format).unwrap(),
            quantize_group_fitted(&zeros, [3, 64], format, None).unwrap(),
        ] {
            assert_eq!(dequantize_group(&packed, [3, 64], format).unwrap(), zeros);
        }
        let mut one = vec![0.0; 64];
        one[37] = -0.75;
        let packed = quantize_group_fitted(&one, [1, 64], format, None).unwrap();
        let back = dequantize_group(&packed, [1, 64], format).unwrap();
        assert!((back[37] + 0.75).abs() < 1e-3, "{bits:?} {}", back[37]);
        assert!(back.iter().enumerate().all(|(i, x)| i == 37 || *x == 0.0));
    }
}

/// Breaks with: a shape taken on trust, a NaN packed as if it were a number, an infinite scale.
#[test]
fn what_does_not_fit_is_refused() {
    let int4 = GroupFormat::of(GroupBits::Int4);
    for group in [0, 16, 33, 1 << 17] {
        let e = GroupFormat::new(GroupBits::Int8, group).unwrap_err();
        assert!(
            matches!(
                e,
                WeightsError::BadOption {
                    option: "group",
                    ..
                }
            ),
            "{e}"
        );
    }
    for shape in [[1, 63], [1, 48], [2, 64], [64, 0], [usize::MAX, 64]] {
        let e = quantize_group(&[0.0; 64], shape, int4).unwrap_err();
        assert!(
            matches!(e, WeightsError::WrongLength { .. }),
            "{shape:?} {e}"
        );
        let e = dequantize_group(&[0; 65], shape, int4).unwrap_err();
        assert!(
            matches!(e, WeightsError::WrongLength { .. }),
            "{shape:?} {e}"
        );
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e6, -3e38] {
        let mut w = [1.0; 64];
        w[40] = bad;
        let e = quantize_group(&w, [1, 64], int4).unwrap_err();
        assert!(
            matches!(e, WeightsError::CannotPack { index: 40, .. }),
            "{e}"
        );
    }
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let mut importance = [1.0; 64];
        importance[7] = bad;
        let e = quantize_group_fitted(&[1.0; 64], [1, 64], int4, Some(&importance)).unwrap_err();
        assert!(
            matches!(e, WeightsError::CannotPack { index: 7, .. }),
            "{e}"
        );
    }
    let e = quantize_group_fitted(&[1.0; 64], [1, 64], int4, Some(&[1.0; 32])).unwrap_err();
    assert!(
        matches!(e, WeightsError::WrongLength { given: 32, .. }),
        "{e}"
    );
}

/// Normal numbers from a seed.
fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut pair = || {
        let (a, b) = (uniform(), uniform());
        let radius = (-2.0 * a.ln()).sqrt();
        (radius * (std::f64::consts::TAU * b).cos()) as f32
    };
    (0..n).map(|_| pair()).collect()
}

/// Root of the mean square of the error, by that of the weights.
fn relative(w: &[f32], back: &[f32]) -> f64 {
    let zeros = vec![0.0; w.len()];
    (error(w, back, |_| 1.0) / error(w, &zeros, |_| 1.0)).sqrt()
}

/// The numbers of docs/notebook.md, "int8 and int4"; `--nocapture` prints them.
///
/// Breaks with: scales that are worse than they were, a group that no longer says what it costs.
#[test]
fn smaller_groups_and_fitted_scales_lower_the_error() {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/dsv3-tiny");
    let tiny = Checkpoint::open(tiny).unwrap();
    let layout = Layout::new(tiny.args());
    let packable = layout.tensors().filter(|s| {
        s.quantizable && GroupFormat::fits(s.shape[1]) && !s.name.contains("kv_b_proj")
    });
    let trained: Vec<(Vec<f32>, [usize; 2])> = packable
        .map(|s| {
            let shape = [s.shape[0], s.shape[1]];
            (tiny.matrix_f32(&s.name, shape).unwrap(), shape)
        })
        .collect();
    let gaussian = vec![(gaussian(512 * 1024, 3), [512, 1024])];
    for (source, weights) in [("gaussian", gaussian), ("dsv3-tiny", trained)] {
        for bits in [GroupBits::Int8, GroupBits::Int4] {
            let mut last = 0.0;
            for group in [32, 64, 128] {
                let format = format(bits, group);
                let (mut all, mut plain, mut fitted) = (Vec::new(), Vec::new(), Vec::new());
                for (w, shape) in &weights {
                    let rows = quantize_group(w, *shape, format).unwrap();
                    plain.extend(dequantize_group(&rows, *shape, format).unwrap());
                    let rows = quantize_group_fitted(w, *shape, format, None).unwrap();
                    fitted.extend(dequantize_group(&rows, *shape, format).unwrap());
                    all.extend(w);
                }
                let (plain, fitted) = (relative(&all, &plain), relative(&all, &fitted));
                println!("{source} {format}: {plain:.5} by magnitude, {fitted:.5} fitted");
                assert!(fitted < plain && fitted > last, "{source} {format}");
                let bound = if bits == GroupBits::Int8 { 0.008 } else { 0.11 };
                assert!(fitted < bound, "{source} {format}: {fitted}");
                last = fitted;
            }
        }
    }
}

/// What a column counts: a few of them far more than the others.
fn importance(columns: usize, seed: u64) -> Vec<f32> {
    gaussian(columns, seed).iter().map(|x| x.powi(4)).collect()
}

/// Over many groups importance pays; in one alone the search may end at another local least, worse
/// than the one without.
/// Breaks with: importance read for another column (the next column's is tried too), or not at all.
#[test]
fn importance_lowers_the_weighted_error() {
    let shape = [256, 1024];
    let w = gaussian(shape[0] * shape[1], 5);
    let importance = importance(shape[1], 7);
    let mut next = importance.clone();
    next.rotate_left(1);
    for bits in [GroupBits::Int8, GroupBits::Int4] {
        for group in [32, 64, 96, 128] {
            let format = format(bits, group);
            let fitted = |importance: Option<&[f32]>| {
                let rows = quantize_group_fitted(&w, shape, format, importance).unwrap();
                dequantize_group(&rows, shape, format).unwrap()
            };
            let of = |i: usize| f64::from(importance[i % shape[1]]);
            let even = error(&w, &fitted(None), of);
            let weighted = error(&w, &fitted(Some(&importance)), of) / even;
            let misread = error(&w, &fitted(Some(&next)), of) / even;
            println!(
                "{format}: {weighted:.3} of the error without, {misread:.3} with the next column's"
            );
            assert!(
                weighted < 0.6 && misread > 1.2,
                "{format}: {weighted}, {misread}"
            );
        }
    }
}

prop_compose! {
    /// A weight of odd shape, with outliers and scales over many powers of two.
    fn weight()(
        rows in 1usize..4,
        units in 1usize..9,
        exponent in -16i32..8,
        outlier in 1f32..50.0,
        seed in any::<u64>(),
    ) -> (Vec<f32>, [usize; 2]) {
        let columns = units * 32;
        let mut w = gaussian(rows * columns, seed);
        w[(seed % 31) as usize] *= outlier;
        w.iter_mut().for_each(|x| *x *= 2f32.powi(exponent));
        (w, [rows, columns])
    }
}

fn any_format() -> impl Strategy<Value = GroupFormat> {
    let bits = prop_oneof![Just(GroupBits::Int8), Just(GroupBits::Int4)];
    let group = prop_oneof![Just(32usize), Just(64), Just(96), Just(128)];
    (bits, group).prop_map(|(bits, group)| format(bits, group))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Breaks with: codes of another scale than the stored one, a last group that takes its
    /// neighbour's scale.
    #[test]
    fn errors_stay_within_a_step((w, shape) in weight(), format in any_format()) {
        let rows = quantize_group(&w, shape, format).unwrap();
        let row_bytes = format.row_bytes(shape[1]);
        prop_assert_eq!(rows.len(), shape[0] * row_bytes);
        let back = dequantize_group(&rows, shape, format).unwrap();
        for (i, (x, y)) in w.iter().zip(&back).enumerate() {
            let (row, column) = (i / shape[1], i % shape[1]);
            let row = &rows[row * row_bytes..][..row_bytes];
            let step = scale(row, format, shape[1], column / format.group()).abs();
            // Half a step, and where the range ends what f16 takes off the scale; int4's short
            // side lacks a whole step.
            let ends = match format.bits() {
                GroupBits::Int8 => 0.5 * step + 127.0 * (step / 2048.0 + 2f32.powi(-25)),
                GroupBits::Int4 => step + 8.0 * (step / 2048.0 + 2f32.powi(-25)),
            };
            prop_assert!((x - y).abs() <= ends * 1.001, "{x} is read as {y}, step {step}");
        }
    }

    /// Breaks with: a search that prefers a worse scale.
    #[test]
    fn fitted_scales_are_never_worse((w, shape) in weight(), format in any_format()) {
        let back = |rows: Vec<u8>| dequantize_group(&rows, shape, format).unwrap();
        let plain = back(quantize_group(&w, shape, format).unwrap());
        let fitted = back(quantize_group_fitted(&w, shape, format, None).unwrap());
        prop_assert!(error(&w, &fitted, |_| 1.0) <= error(&w, &plain, |_| 1.0));
    }

    /// Breaks with: a search that prefers a scale which is worse where it matters.
    #[test]
    fn importance_is_never_worse_than_by_magnitude((w, shape) in weight(), format in any_format(), seed in any::<u64>()) {
        let importance = importance(shape[1], seed);
        let of = |i: usize| f64::from(importance[i % shape[1]]);
        let back = |rows: Vec<u8>| dequantize_group(&rows, shape, format).unwrap();
        let plain = back(quantize_group(&w, shape, format).unwrap());
        let weighted = back(quantize_group_fitted(&w, shape, format, Some(&importance)).unwrap());
        prop_assert!(error(&w, &weighted, of) <= error(&w, &plain, of));
    }

    /// Breaks with: a sum in f32 that ran over or under and is believed.
    #[test]
    fn what_f32_cannot_sum_is_never_worse(
        (mut w, shape) in weight(),
        format in any_format(),
        seed in any::<u64>(),
        (smaller, exponent) in (-12i32..1, -130i32..112),
    ) {
        w.iter_mut().for_each(|x| *x *= 2f32.powi(smaller));
        let mut importance = importance(shape[1], seed);
        importance.iter_mut().for_each(|x| *x *= 2f32.powi(exponent));
        let of = |i: usize| f64::from(importance[i % shape[1]]);
        let back = |rows: Vec<u8>| dequantize_group(&rows, shape, format).unwrap();
        let plain = back(quantize_group(&w, shape, format).unwrap());
        let weighted = back(quantize_group_fitted(&w, shape, format, Some(&importance)).unwrap());
        prop_assert!(error(&w, &weighted, of) <= error(&w, &plain, of));
    }
}
