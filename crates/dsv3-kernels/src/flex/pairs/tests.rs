use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use half::bf16;
use proptest::prelude::*;

use super::super::blocks::Buffer;
use super::super::dots::{Activated, Dots};
use super::super::lanes::InstructionSet;
use super::super::rows::Rows;
use crate::packed::{HalfFormat, Packed};

fn tensor(bytes: Bytes, shape: [usize; 2], dtype: DType) -> FlexTensor {
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    FlexTensor::new(bytes, layout, dtype)
}

fn fp8(codes: Vec<u8>, scales: Vec<f32>, block: [usize; 2], shape: [usize; 2]) -> Rows {
    let blocks = [shape[0].div_ceil(block[0]), shape[1].div_ceil(block[1])];
    Rows::new(&Packed::<Flex>::Fp8Block {
        data: tensor(Bytes::from_bytes_vec(codes), shape, DType::U8),
        scale: tensor(Bytes::from_elems(scales), blocks, DType::F32),
        block,
        shape,
    })
}

fn halves(values: &[u16], [out, input]: [usize; 2]) -> Rows {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Rows::new(&Packed::<Flex>::Half {
        data: tensor(Bytes::from_bytes_vec(bytes), [out, 2 * input], DType::U8),
        format: HalfFormat::Bf16,
        shape: [out, input],
    })
}

/// All rows in front of all tokens, `[T, out]`, as bits.
fn product(set: InstructionSet, x: &Activated<'_>, rows: &Rows, tokens: usize) -> Vec<u32> {
    let which: Vec<usize> = (0..tokens).collect();
    let mut y = vec![0f32; tokens * rows.out()];
    let dots = Dots {
        x: x.chosen(&which),
        rows,
        range: 0..rows.out(),
        y: &mut y.chunks_exact_mut(rows.out()).collect::<Vec<_>>(),
        buffer: &mut Buffer::default(),
    };
    dots.run(set);
    // One NaN is as good as another.
    let bits = y
        .iter()
        .map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() });
    bits.collect()
}

/// bf16 numbers of magnitudes from 2^-20 to 2^20, zeros among them.
fn numbers(n: usize) -> impl Strategy<Value = Vec<u16>> {
    let number = (any::<bool>(), 107u16..147, 0u16..128);
    let number = number
        .prop_map(|(sign, exponent, fraction)| u16::from(sign) << 15 | exponent << 7 | fraction);
    prop::collection::vec(prop_oneof![9 => number, 1 => Just(0u16)], n)
}

/// Few, which meet rows in the registers, and more than go by the buffer.
fn tokens() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1usize..14, 1 => 14usize..72]
}

/// e4m3 codes but NaN's: any of them, or normal numbers as most weights are, all or all but a few.
fn codes(n: usize) -> impl Strategy<Value = Vec<u8>> {
    let any_code = || any::<u8>().prop_map(|c| if c & 0x7f == 0x7f { 0 } else { c });
    let normal = || (any::<bool>(), 8u8..0x7f).prop_map(|(sign, c)| u8::from(sign) << 7 | c);
    prop_oneof![
        prop::collection::vec(any_code(), n),
        prop::collection::vec(normal(), n),
        prop::collection::vec(prop_oneof![500 => normal(), 1 => any_code()], n),
    ]
}

fn activations(tokens: usize, input: usize) -> impl Strategy<Value = Vec<f32>> {
    let values = numbers(tokens * input);
    values.prop_map(|values| {
        values
            .iter()
            .map(|v| bf16::from_bits(*v).to_f32())
            .collect()
    })
}

/// Those that kernels of pairs are compiled for.
fn sets() -> impl Iterator<Item = InstructionSet> {
    let sets = InstructionSet::available().into_iter();
    sets.filter(|set| set.prefers_pairs() || *set == InstructionSet::Portable)
}

/// Pairs on each of them against f32 in plain Rust.
fn same_bits(x: &[f32], rows: &Rows, tokens: usize) -> Result<(), TestCaseError> {
    prop_assert!(rows.are_pairs());
    let x = Activated::new(x, tokens);
    let want = product(InstructionSet::Portable, &x, rows, tokens);
    let pairs = x.pairs().unwrap();
    for set in sets() {
        prop_assert_eq!(&product(set, &pairs, rows, tokens), &want, "{:?}", set);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Breaks with: columns of a pair exchanged or taken from another unit, a code's denormal, sign
    /// or zero that the tables have wrong, one of them taken for a normal number, an odd exponent taken
    /// for an even one, a scale of another block, rows of two blocks worked on together, on any
    /// instruction set.
    #[test]
    fn e4m3_in_pairs_has_the_bits_of_f32(
        (x, codes, exponents, block, [tokens, out, input]) in
            (tokens(), 1usize..40, 1usize..40, prop::sample::select(vec![1, 3, 4, 32]), 1usize..4)
            .prop_flat_map(|(tokens, out, units, rows, columns)| {
                let (input, block) = (64 * units, [rows, 64 * columns]);
                let blocks = out.div_ceil(block[0]) * input.div_ceil(block[1]);
                (
                    activations(tokens, input),
                    codes(out * input),
                    prop::collection::vec(-40i32..=40, blocks),
                    Just(block),
                    Just([tokens, out, input]),
                )
            }),
    ) {
        let scales = exponents.iter().map(|e| (*e as f32).exp2()).collect();
        let rows = fp8(codes, scales, block, [out, input]);
        same_bits(&x, &rows, tokens)?;
    }

    /// Breaks with: as above, for bf16.
    #[test]
    fn bf16_in_pairs_has_the_bits_of_f32(
        (x, weights, [tokens, out, input]) in (tokens(), 1usize..40, 1usize..40)
            .prop_flat_map(|(tokens, out, units)| {
                let input = 64 * units;
                (activations(tokens, input), numbers(out * input), Just([tokens, out, input]))
            }),
    ) {
        let rows = halves(&weights, [out, input]);
        same_bits(&x, &rows, tokens)?;
    }
}

/// Breaks with: an entry of the tables that is wrong, for any code and either kind of exponent; a
/// normal number that is wrong among its like.
#[test]
fn every_code_is_decoded() {
    let codes: Vec<u8> = (0..=255).filter(|code| code & 0x7f != 0x7f).collect();
    // Zeros, or ones, beside it.
    for (exponent, beside) in [-40, -7, 0, 1, 40]
        .into_iter()
        .flat_map(|exponent| [(exponent, 0u8), (exponent, 0x38)])
    {
        let mut at_rows = vec![beside; codes.len() * 64];
        for (row, code) in at_rows.chunks_exact_mut(64).zip(&codes) {
            row[row.len() - 1 - usize::from(*code) % 64] = *code;
        }
        let scale = (exponent as f32).exp2();
        let rows = fp8(at_rows, vec![scale], [1024, 64], [codes.len(), 64]);
        let ones = [1.0; 64];
        let x = Activated::new(&ones, 1).pairs().unwrap();
        let others = 63.0 * dsv3_weights::fp8::e4m3_to_f32(beside);
        for set in sets() {
            let got = product(set, &x, &rows, 1);
            for (got, code) in got.iter().zip(&codes) {
                let want = (dsv3_weights::fp8::e4m3_to_f32(*code) + others) * scale;
                assert_eq!(f32::from_bits(*got), want, "code {code} {set:?}");
            }
        }
    }
}

/// Breaks with: a NaN code that the tables make a number.
#[test]
fn a_nan_code_makes_its_row_nan() {
    let mut codes = vec![0x38u8; 5 * 64]; // 1.0
    codes[2 * 64 + 17] = 0xff;
    let rows = fp8(codes, vec![0.5], [8, 64], [5, 64]);
    for tokens in [1, 3, 4, 12] {
        let ones = vec![1.0; tokens * 64];
        let x = Activated::new(&ones, tokens).pairs().unwrap();
        for set in sets() {
            for y in product(set, &x, &rows, tokens).chunks_exact(5) {
                let y: Vec<f32> = y.iter().map(|y| f32::from_bits(*y)).collect();
                assert!(y[2].is_nan());
                assert_eq!([y[0], y[1], y[3], y[4]], [32.0; 4]);
            }
        }
    }
}

/// Breaks with: rounding what f32 would have kept.
#[test]
fn what_bf16_cannot_hold_stays_f32() {
    let mut x = [1.0f32; 64];
    assert!(Activated::new(&x, 1).pairs().is_some());
    for other in [1.0 + f32::EPSILON, 1.001, 1e-40, f32::from_bits(1)] {
        x[63] = other;
        assert!(Activated::new(&x, 1).pairs().is_none(), "{other}");
    }
    // A unit and a half.
    assert!(Activated::new(&[1.0; 96], 1).pairs().is_none());
    let codes = || vec![0x38u8; 64];
    assert!(fp8(codes(), vec![0.25], [1, 64], [1, 64]).are_pairs());
    for scale in [0.3, -0.25, 0.0, f32::NAN, f32::INFINITY, 1e-30, 1e30] {
        assert!(
            !fp8(codes(), vec![scale], [1, 64], [1, 64]).are_pairs(),
            "{scale}"
        );
    }
    assert!(!fp8(codes(), vec![0.25; 2], [1, 32], [1, 64]).are_pairs());
    assert!(!halves(&[0; 96], [1, 96]).are_pairs());
}
