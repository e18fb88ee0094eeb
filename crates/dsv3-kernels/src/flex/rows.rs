//! A packed weight's rows, decoded one at a time.

use burn::backend::Flex;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use dsv3_weights::fp8::E4M3_TO_F32;
use half::{bf16, f16};

use crate::packed::{HalfFormat, Packed};

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

    /// Row `row` as f32, written to `to [in]`.
    pub(super) fn decode(&self, row: usize, to: &mut [f32]) {
        let n = self.shape[1];
        match &self.format {
            Format::F32 => to.copy_from_slice(&self.data.storage::<f32>()[row * n..][..n]),
            Format::Half(format) => {
                let bytes = &self.data.bytes()[row * n * 2..][..n * 2];
                let (pairs, _) = bytes.as_chunks::<2>();
                match format {
                    HalfFormat::Bf16 => to
                        .iter_mut()
                        .zip(pairs)
                        .for_each(|(to, b)| *to = bf16::from_le_bytes(*b).to_f32()),
                    HalfFormat::F16 => to
                        .iter_mut()
                        .zip(pairs)
                        .for_each(|(to, b)| *to = f16::from_le_bytes(*b).to_f32()),
                }
            }
            Format::Fp8 { scale, block } => {
                let columns = n.div_ceil(block[1]);
                let scales = &scale.storage::<f32>()[row / block[0] * columns..][..columns];
                let bytes = &self.data.bytes()[row * n..][..n];
                let blocks = to.chunks_mut(block[1]).zip(bytes.chunks(block[1]));
                for ((to, bytes), scale) in blocks.zip(scales) {
                    to.iter_mut()
                        .zip(bytes)
                        .for_each(|(to, b)| *to = E4M3_TO_F32[*b as usize] * scale);
                }
            }
        }
    }
}
