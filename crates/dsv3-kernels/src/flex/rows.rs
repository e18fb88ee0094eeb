//! A packed weight's rows, read where they lie.

use std::ops::Range;

use burn::backend::Flex;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use dsv3_weights::fp8::E4M3_TO_F32;
use half::{bf16, f16};

use super::decode::blocks_fit;
use super::lanes::Sixteen;
use super::pairs::{self, are_powers};
use crate::packed::{GroupCodes, GroupFormat, HalfFormat, Packed};

/// The rows of a weight `[out, in]`. Holds the bytes where they lie, mapped file included.
pub(super) struct Rows {
    data: FlexTensor,
    format: Format,
    shape: [usize; 2],
}

enum Format {
    F32,
    Half(HalfFormat),
    Fp8 {
        scale: FlexTensor,
        block: [usize; 2],
    },
    Group(GroupFormat),
}

/// Where the rows of a weight lie; the number is that of the columns.
pub(super) enum View<'a> {
    F32(&'a [f32], usize),
    Half(&'a [u8], HalfFormat, usize),
    Fp8(Blocks<'a>),
    Group(Groups<'a>),
}

/// e4m3 codes with a scale for each block.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    block: [usize; 2],
    n: usize,
    /// Scales of a row: what divides a width is reckoned once, for short rows would feel it.
    scale_columns: usize,
}

impl<'a> Blocks<'a> {
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Row<'a> {
        Row::Fp8 {
            codes: &self.codes[row * self.n..][..self.n],
            scales: &self.scales[row / self.block[0] * self.scale_columns..][..self.scale_columns],
            block: self.block[1],
        }
    }

    /// The codes of some rows.
    #[inline(always)]
    pub(super) fn codes(&self, rows: Range<usize>) -> &'a [u8] {
        &self.codes[rows.start * self.n..rows.end * self.n]
    }

    /// Where the block of rows ends in which `row` is.
    #[inline(always)]
    pub(super) fn end(&self, row: usize) -> usize {
        (row / self.block[0] + 1) * self.block[0]
    }

    /// Whether the kernels can read the blocks of some rows.
    pub(super) fn fit(&self, rows: &Range<usize>) -> bool {
        let (first, end) = (rows.start / self.block[0], rows.end.div_ceil(self.block[0]));
        let scales = &self.scales[first * self.scale_columns..end * self.scale_columns];
        blocks_fit(self.block[1], scales)
    }
}

/// Integer codes with the scales of their groups.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    bytes: &'a [u8],
    pub(super) format: GroupFormat,
    n: usize,
    /// Bytes of a row's codes, and how many scales it has.
    code_bytes: usize,
    scales: usize,
}

impl<'a> Groups<'a> {
    /// Columns of a row.
    #[inline(always)]
    pub(super) fn columns(&self) -> usize {
        self.n
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Coded<'a> {
        let bytes = &self.bytes(row..row + 1)[self.format.offset..];
        let (codes, rest) = bytes.split_at(self.code_bytes);
        Coded {
            codes,
            scales: &rest.as_chunks::<2>().0[..self.scales],
            columns: self.format.columns,
        }
    }

    /// Where some rows lie.
    #[inline(always)]
    pub(super) fn bytes(&self, rows: Range<usize>) -> &'a [u8] {
        let row_bytes = self.format.row_bytes;
        &self.bytes[rows.start * row_bytes..rows.end * row_bytes]
    }

    /// The codes of up to sixteen rows, and in each row its scales behind them.
    #[inline(always)]
    pub(super) fn sixteen(&self, rows: Range<usize>) -> Sixteen<'a> {
        let count = rows.len();
        let bytes = &self.bytes(rows)[self.format.offset..];
        Sixteen::new(bytes, self.format.row_bytes, count)
    }

    /// Bytes of a row's codes.
    #[inline(always)]
    pub(super) fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}

/// One row's bytes, and how they are to be read.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    /// f32 in this machine's order.
    F32(&'a [f32]),
    /// Two bytes each.
    Bf16(&'a [u8]),
    /// Two bytes each.
    F16(&'a [u8]),
    /// e4m3 codes, a scale for each so many.
    Fp8 {
        codes: &'a [u8],
        scales: &'a [f32],
        block: usize,
    },
    /// i8 codes.
    Int8(Coded<'a>),
    /// Two codes a byte.
    Int4(Coded<'a>),
}

/// Integer codes with the scales of their groups.
#[derive(Clone, Copy, Default)]
pub(super) struct Coded<'a> {
    pub(super) codes: &'a [u8],
    /// f16
    pub(super) scales: &'a [[u8; 2]],
    /// Columns that share a scale.
    pub(super) columns: usize,
}

impl Rows {
    pub(super) fn new(weight: &Packed<Flex>) -> Self {
        let shape = weight.shape();
        let (data, format) = match weight {
            Packed::Plain { weight } => match weight.dtype() {
                DType::BF16 => (weight, Format::Half(HalfFormat::Bf16)),
                DType::F16 => (weight, Format::Half(HalfFormat::F16)),
                _ => (weight, Format::F32),
            },
            Packed::Half { data, format, .. } => (data, Format::Half(*format)),
            Packed::Fp8Block {
                data, scale, block, ..
            } => {
                let scale = scale.to_contiguous();
                (
                    data,
                    Format::Fp8 {
                        scale,
                        block: *block,
                    },
                )
            }
            Packed::Group { data, format, .. } => (data, Format::Group(*format)),
        };
        Rows {
            data: data.to_contiguous(),
            format,
            shape,
        }
    }

    /// Rows.
    pub(super) fn out(&self) -> usize {
        self.shape[0]
    }

    /// Columns.
    pub(super) fn input(&self) -> usize {
        self.shape[1]
    }

    /// Whether they can be read as [`pairs`](super::pairs) of bf16.
    pub(super) fn are_pairs(&self) -> bool {
        let fits = |columns: usize| columns.is_multiple_of(pairs::COLUMNS);
        fits(self.shape[1])
            && match self.view() {
                View::Half(_, format, _) => format == HalfFormat::Bf16,
                View::Fp8(blocks) => fits(blocks.block[1]) && are_powers(blocks.scales),
                View::F32(..) | View::Group(_) => false,
            }
    }

    /// Bytes from one row to the next.
    pub(super) fn row_bytes(&self) -> usize {
        match &self.format {
            Format::F32 => 4 * self.shape[1],
            Format::Half(_) => 2 * self.shape[1],
            Format::Fp8 { .. } => self.shape[1],
            Format::Group(format) => format.row_bytes,
        }
    }

    /// Where all rows lie.
    pub(super) fn view(&self) -> View<'_> {
        let n = self.shape[1];
        match &self.format {
            Format::F32 => View::F32(self.data.storage::<f32>(), n),
            Format::Half(format) => View::Half(self.data.bytes(), *format, n),
            Format::Fp8 { scale, block } => View::Fp8(Blocks {
                codes: self.data.bytes(),
                scales: scale.storage::<f32>(),
                block: *block,
                n,
                scale_columns: n.div_ceil(block[1]),
            }),
            Format::Group(format) => View::Group(Groups {
                bytes: self.data.bytes(),
                format: *format,
                n,
                code_bytes: format.code_bytes(n),
                scales: format.scales(n),
            }),
        }
    }

    /// Row `row`, where it lies.
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        match self.view() {
            View::F32(values, n) => Row::F32(&values[row * n..][..n]),
            View::Half(bytes, HalfFormat::Bf16, n) => Row::Bf16(&bytes[2 * row * n..][..2 * n]),
            View::Half(bytes, HalfFormat::F16, n) => Row::F16(&bytes[2 * row * n..][..2 * n]),
            View::Fp8(blocks) => blocks.row(row),
            View::Group(groups) => match groups.format.codes {
                GroupCodes::Int8 => Row::Int8(groups.row(row)),
                GroupCodes::Int4 => Row::Int4(groups.row(row)),
            },
        }
    }

    /// Row `row` as f32, written to `to [in]`.
    pub(super) fn decode(&self, row: usize, to: &mut [f32]) {
        self.row(row).decode(to);
    }
}

impl Row<'_> {
    /// Values.
    pub(super) fn len(&self) -> usize {
        match self {
            Row::F32(values) => values.len(),
            Row::Bf16(bytes) | Row::F16(bytes) => bytes.len() / 2,
            Row::Fp8 { codes, .. } => codes.len(),
            Row::Int8(coded) => coded.codes.len(),
            Row::Int4(coded) => 2 * coded.codes.len(),
        }
    }

    /// Whether the kernels can read its blocks.
    pub(super) fn blocks_fit(&self) -> bool {
        match self {
            Row::Fp8 { block, scales, .. } => blocks_fit(*block, scales),
            _ => true,
        }
    }

    /// The values, one after another.
    pub(super) fn decode(&self, to: &mut [f32]) {
        match *self {
            Row::F32(values) => to.copy_from_slice(values),
            Row::Bf16(bytes) => {
                let pairs = bytes.as_chunks::<2>().0.iter();
                to.iter_mut()
                    .zip(pairs)
                    .for_each(|(to, b)| *to = bf16::from_le_bytes(*b).to_f32());
            }
            Row::F16(bytes) => {
                let pairs = bytes.as_chunks::<2>().0.iter();
                to.iter_mut()
                    .zip(pairs)
                    .for_each(|(to, b)| *to = f16::from_le_bytes(*b).to_f32());
            }
            Row::Fp8 {
                codes,
                scales,
                block,
            } => {
                let blocks = to.chunks_mut(block).zip(codes.chunks(block));
                for ((to, codes), scale) in blocks.zip(scales) {
                    to.iter_mut()
                        .zip(codes)
                        .for_each(|(to, b)| *to = E4M3_TO_F32[usize::from(*b)] * scale);
                }
            }
            Row::Int8(Coded {
                codes,
                scales,
                columns,
            }) => {
                let groups = to.chunks_mut(columns).zip(codes.chunks(columns));
                for ((to, codes), scale) in groups.zip(scales) {
                    let scale = f16::from_le_bytes(*scale).to_f32();
                    to.iter_mut()
                        .zip(codes)
                        .for_each(|(to, code)| *to = f32::from(*code as i8) * scale);
                }
            }
            Row::Int4(Coded {
                codes,
                scales,
                columns,
            }) => {
                let groups = to.chunks_mut(columns).zip(codes.chunks(columns / 2));
                for ((to, codes), scale) in groups.zip(scales) {
                    let scale = f16::from_le_bytes(*scale).to_f32();
                    let value = |code: u8| (f32::from(code) - 8.0) * scale;
                    for (to, codes) in to.chunks_mut(32).zip(codes.chunks(16)) {
                        let (low, high) = to.split_at_mut(to.len() / 2);
                        for ((low, high), byte) in low.iter_mut().zip(high).zip(codes) {
                            (*low, *high) = (value(byte & 15), value(byte >> 4));
                        }
                    }
                }
            }
        }
    }
}
