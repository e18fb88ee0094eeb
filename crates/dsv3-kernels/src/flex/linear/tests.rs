use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::packed::{GroupCodes, GroupFormat, HalfFormat, Packed};

fn tensor(bytes: Bytes, shape: [usize; 2], dtype: DType) -> FlexTensor {
    FlexTensor::new(
        bytes,
        Layout::contiguous(Shape::from(shape.to_vec())),
        dtype,
    )
}

/// The product by one instruction set.
fn linear_with(
    set: InstructionSet,
    x: &[f32],
    rows: &Rows,
    tokens: usize,
    activations: Activations,
) -> Vec<f32> {
    let [y] = linears(set, x, [rows], tokens, activations);
    y
}

#[derive(Clone, Copy, Debug)]
enum Format {
    F32,
    Bf16,
    F16,
    Fp8([usize; 2]),
    /// With powers of two for scales.
    Fp8Powers([usize; 2]),
    Group(GroupCodes, usize),
}

/// Values in (-1, 1), from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        let state = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = state.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    fn weight(&mut self, format: Format, [out, input]: [usize; 2]) -> Packed<Flex> {
        let values = self.vec(out * input);
        let half = |bytes: Vec<u8>, format| Packed::Half {
            data: tensor(Bytes::from_bytes_vec(bytes), [out, 2 * input], DType::U8),
            format,
            shape: [out, input],
        };
        match format {
            Format::F32 => Packed::Plain {
                weight: tensor(Bytes::from_elems(values), [out, input], DType::F32),
            },
            Format::Bf16 => {
                let bytes = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes());
                half(bytes.collect(), HalfFormat::Bf16)
            }
            Format::F16 => {
                let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
                half(bytes.collect(), HalfFormat::F16)
            }
            Format::Fp8(block) | Format::Fp8Powers(block) => {
                let codes = values.iter().map(|v| ((v + 1.0) * 127.9) as u8);
                // A NaN code makes its whole row NaN, which has a test of its own.
                let codes = codes.map(|code| code & !u8::from(code & 0x7f == 0x7f));
                let blocks = [out.div_ceil(block[0]), input.div_ceil(block[1])];
                let scale = self.vec(blocks[0] * blocks[1]);
                let scale = scale.iter().map(|v| match format {
                    Format::Fp8Powers(_) => (v * 12.0).round().exp2(),
                    _ => (v + 1.1) * 0.01,
                });
                let scale = scale.collect::<Vec<_>>();
                Packed::Fp8Block {
                    data: tensor(
                        Bytes::from_bytes_vec(codes.collect()),
                        [out, input],
                        DType::U8,
                    ),
                    scale: tensor(Bytes::from_elems(scale), blocks, DType::F32),
                    block,
                    shape: [out, input],
                }
            }
            Format::Group(codes, columns) => {
                let mut format = GroupFormat {
                    codes,
                    columns,
                    row_bytes: 0,
                    offset: 0,
                };
                let (code_bytes, scales) = (format.code_bytes(input), format.scales(input));
                format.row_bytes = (code_bytes + 2 * scales).next_multiple_of(64);
                let mut bytes = vec![0u8; out * format.row_bytes];
                for row in bytes.chunks_exact_mut(format.row_bytes) {
                    let (codes, rest) = row.split_at_mut(code_bytes);
                    codes.fill_with(|| (self.next() * 1000.0) as i32 as u8);
                    for to in &mut rest.as_chunks_mut::<2>().0[..scales] {
                        *to = f16::from_f32(self.next() * 0.01).to_le_bytes();
                    }
                }
                Packed::Group {
                    data: tensor(
                        Bytes::from_bytes_vec(bytes),
                        [out, format.row_bytes],
                        DType::U8,
                    ),
                    format,
                    shape: [out, input],
                }
            }
        }
    }
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::F32),
        Just(Format::Bf16),
        Just(Format::F16),
        (1usize..50, 1usize..50).prop_map(|(r, c)| Format::Fp8([r, c])),
        (1usize..3, 1usize..3).prop_map(|(r, c)| Format::Fp8([64 * r, 32 * c])),
        (1usize..50, 1usize..3).prop_map(|(r, c)| Format::Fp8Powers([r, 32 * c])),
        (1usize..4).prop_map(|units| Format::Group(GroupCodes::Int8, 32 * units)),
        (1usize..4).prop_map(|units| Format::Group(GroupCodes::Int4, 32 * units)),
    ]
}

/// Few, which meet rows in the registers, and more than go by a buffer.
fn tokens() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1usize..21, 1 => 21usize..72]
}

/// An input dimension that the format can have.
fn fitting(input: usize, format: Format) -> usize {
    match format {
        Format::Group(..) => input.next_multiple_of(32),
        _ => input,
    }
}

/// The product from the definition, in f64, and the sum of the magnitudes.
fn product(x: &[f32], rows: &Rows, tokens: usize) -> Vec<(f64, f64)> {
    let mut row = vec![0f32; rows.input()];
    let mut y = vec![(0.0, 0.0); tokens * rows.out()];
    for r in 0..rows.out() {
        rows.decode(r, &mut row);
        for (t, x) in x.chunks_exact(rows.input()).enumerate() {
            for (w, x) in row.iter().zip(x) {
                let term = f64::from(*w) * f64::from(*x);
                y[t * rows.out() + r].0 += term;
                y[t * rows.out() + r].1 += term.abs();
            }
        }
    }
    y
}

proptest! {
    /// Breaks with: a tail that is dropped or read twice, the scale of another block, rows left
    /// over from a group of four, tokens left over from a tile, on any instruction set.
    #[test]
    fn every_set_gives_the_product(
        seed: u64, tokens in tokens(), out in 1usize..14, input in 1usize..150,
        format in formats(),
    ) {
        let (mut random, input) = (Random(seed), fitting(input, format));
        let rows = Rows::new(&random.weight(format, [out, input]));
        let x = random.vec(tokens * input);
        let activations = Activations::Full;
        let want = product(&x, &rows, tokens);
        let portable = linear_with(InstructionSet::Portable, &x, &rows, tokens, activations);
        for (got, (want, size)) in portable.iter().zip(&want) {
            prop_assert!((f64::from(*got) - want).abs() <= 2e-6 * size, "{got} {want}");
        }
        for set in InstructionSet::available() {
            let got = linear_with(set, &x, &rows, tokens, activations);
            let bits = |y: &[f32]| y.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&got), bits(&portable), "{:?}", set);
        }
    }

    /// Breaks with: a lane that gets another row's codes or scale, a group that begins with another
    /// token's sum, a row left over from a panel, a part of a row that is not turned anew, on any
    /// instruction set.
    #[test]
    fn every_set_multiplies_whole_numbers(
        seed: u64, tokens in tokens(), out in 1usize..70, units in 1usize..80,
        codes in prop_oneof![Just(GroupCodes::Int8), Just(GroupCodes::Int4)], group in 1usize..5,
    ) {
        let (mut random, input) = (Random(seed), 32 * units);
        let rows = Rows::new(&random.weight(Format::Group(codes, 32 * group), [out, input]));
        let x = random.vec(tokens * input);
        let mut rounded = x.clone();
        for x in rounded.chunks_exact_mut(input).flat_map(|x| x.chunks_mut(32 * group)) {
            let scale = x.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
            x.iter_mut().for_each(|v| *v = (*v / scale).round_ties_even() * scale);
        }
        let activations = Activations::EightBits { ue8m0: false };
        let want = product(&rounded, &rows, tokens);
        let portable = linear_with(InstructionSet::Portable, &x, &rows, tokens, activations);
        for (got, (want, size)) in portable.iter().zip(&want) {
            prop_assert!((f64::from(*got) - want).abs() <= 2e-6 * size, "{got} {want}");
        }
        for set in InstructionSet::available() {
            let got = linear_with(set, &x, &rows, tokens, activations);
            prop_assert_eq!(&got, &portable, "{:?}", set);
        }
    }

    /// Breaks with: a path for many tokens that rounds in another order than the one for few.
    #[test]
    fn a_token_has_the_same_bits_in_any_company(
        seed: u64, tokens in tokens(), out in 1usize..10, input in 1usize..150,
        format in formats(), rounded: bool,
    ) {
        let activations = match rounded {
            true => Activations::EightBits { ue8m0: false },
            false => Activations::Full,
        };
        let (mut random, input) = (Random(seed), fitting(input, format));
        let rows = Rows::new(&random.weight(format, [out, input]));
        let x = random.vec(tokens * input);
        let together = linear(&x, &rows, tokens, activations);
        for (x, y) in x.chunks_exact(input).zip(together.chunks_exact(out)) {
            prop_assert_eq!(linear(x, &rows, 1, activations), y);
        }
    }
}

/// Breaks with: sums that are lost or begun anew between two blocks of columns, tokens behind the
/// first hundred that meet another block's rows, on any instruction set.
#[test]
fn wide_rows_in_front_of_many_tokens_have_the_bits_of_few() {
    let full = Activations::Full;
    let rounded = Activations::EightBits { ue8m0: false };
    let cases = [
        (Format::F32, 8224, full),
        (Format::Bf16, 8224, full),
        (Format::Fp8([128, 128]), 8224, full),
        (Format::Fp8Powers([128, 128]), 8224, full),
        (Format::Group(GroupCodes::Int8, 64), 16_512, rounded),
        (Format::Group(GroupCodes::Int4, 32), 16_512, rounded),
    ];
    for (format, input, activations) in cases {
        let (mut random, tokens, out) = (Random(7), 131, 9);
        let rows = Rows::new(&random.weight(format, [out, input]));
        let x = random.vec(tokens * input);
        let few = |x| linear_with(InstructionSet::Portable, x, &rows, 1, activations);
        let want: Vec<f32> = x.chunks_exact(input).flat_map(few).collect();
        for set in InstructionSet::available() {
            let got = linear_with(set, &x, &rows, tokens, activations);
            assert!(got == want, "{format:?} {set:?}");
        }
    }
}

/// Breaks with: a NaN code that is read as 480, or one that spoils the rows beside it.
#[test]
fn a_nan_code_makes_its_row_nan() {
    let mut codes = vec![0x38u8; 5 * 64]; // 1.0
    codes[2 * 64 + 17] = 0xff;
    let weight = Packed::<Flex>::Fp8Block {
        data: tensor(Bytes::from_bytes_vec(codes), [5, 64], DType::U8),
        scale: tensor(Bytes::from_elems(vec![0.5f32; 2]), [1, 2], DType::F32),
        block: [128, 32],
        shape: [5, 64],
    };
    for set in InstructionSet::available() {
        for tokens in [1, 3, 4, 12, 20, 40] {
            let (x, rows) = (vec![1.0; tokens * 64], Rows::new(&weight));
            let y = linear_with(set, &x, &rows, tokens, Activations::Full);
            for y in y.chunks_exact(5) {
                assert!(y[2].is_nan());
                assert_eq!([y[0], y[1], y[3], y[4]], [32.0; 4]);
            }
        }
    }
}

/// Breaks with: a scale that overflows beside the factor that e4m3's bits need.
#[test]
fn a_large_scale_is_multiplied_exactly() {
    for scale in [1e30f32, -1e30] {
        let weight = Packed::<Flex>::Fp8Block {
            data: tensor(Bytes::from_bytes_vec(vec![0x38; 32]), [1, 32], DType::U8),
            scale: tensor(Bytes::from_elems(vec![scale]), [1, 1], DType::F32),
            block: [128, 128],
            shape: [1, 32],
        };
        for set in InstructionSet::available() {
            let mut x = vec![0.0; 32];
            x[3] = 2.0;
            let y = linear_with(set, &x, &Rows::new(&weight), 1, Activations::Full);
            assert_eq!(y, [2.0 * scale]);
        }
    }
}

/// Breaks with: an activation that overflows beside a scale and the factor that e4m3's bits need.
#[test]
fn a_large_activation_is_multiplied_exactly() {
    let weight = Packed::<Flex>::Fp8Block {
        data: tensor(Bytes::from_bytes_vec(vec![0x38; 64]), [2, 32], DType::U8),
        scale: tensor(Bytes::from_elems(vec![0.5f32, 2.0]), [2, 1], DType::F32),
        block: [1, 128],
        shape: [2, 32],
    };
    for set in InstructionSet::available() {
        for large in [1e30, f32::INFINITY] {
            let mut x = vec![0.0; 32];
            x[3] = large;
            let y = linear_with(set, &x, &Rows::new(&weight), 1, Activations::Full);
            assert_eq!(y, [0.5 * large, 2.0 * large], "{set:?}");
        }
    }
}

/// Breaks with: a NaN that rounding to whole numbers turns into a number.
#[test]
fn a_token_that_is_not_a_number_stays_so() {
    let mut random = Random(1);
    let rows = Rows::new(&random.weight(Format::Group(GroupCodes::Int8, 32), [5, 64]));
    let mut x = random.vec(3 * 64);
    x[64 + 50] = f32::NAN;
    let activations = Activations::EightBits { ue8m0: false };
    for set in InstructionSet::available() {
        let y = linear_with(set, &x, &rows, 3, activations);
        let is_nan: Vec<bool> = y.iter().map(|y| y.is_nan()).collect();
        assert_eq!(
            is_nan,
            [[false; 5], [true; 5], [false; 5]].concat(),
            "{set:?}"
        );
    }
}

/// Breaks with: products of one weight that go to another's, or activations rounded for the format
/// of the first one.
#[test]
fn weights_of_one_input_have_the_bits_of_each_alone() {
    let activations = Activations::EightBits { ue8m0: false };
    let (mut random, tokens, input) = (Random(3), 3, 256);
    let formats = [
        (Format::Group(GroupCodes::Int8, 64), 70),
        (Format::Fp8Powers([64, 128]), 9),
        (Format::Bf16, 130),
    ];
    let weights = formats.map(|(format, out)| Rows::new(&random.weight(format, [out, input])));
    let x = random.vec(tokens * input);
    let each = weights.each_ref();
    let together = linears(InstructionSet::best(), &x, each, tokens, activations);
    assert_eq!(
        together,
        each.map(|rows| linear(&x, rows, tokens, activations))
    );
}
