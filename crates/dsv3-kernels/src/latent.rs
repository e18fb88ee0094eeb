//! Cached tokens: one latent and one rotated key each, in the format that the cache keeps.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{DType, Device, Int, Tensor};
use dsv3_weights::CacheDtype;

use crate::weight::is_cpu;

/// Columns of a latent that share a scale in an fp8 cache.
pub(crate) const LATENT_GROUP: usize = 128;

/// How a cache keeps its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatentFormat {
    /// f32: four bytes a value.
    #[default]
    F32,
    /// bf16: two bytes a value.
    Bf16,
    /// The latent in e4m3 with an f32 scale for each 128 columns, the rotated key in bf16: 656 bytes
    /// a token and layer at V3.1's sizes, where bf16 has 1,152.
    Fp8,
}

impl LatentFormat {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            LatentFormat::F32 => "f32",
            LatentFormat::Bf16 => "bf16",
            LatentFormat::Fp8 => "fp8",
        }
    }

    /// Bytes of one token in one layer (`kv_lora_rank`, `qk_rope_head_dim`).
    pub fn bytes(self, latent: usize, rope: usize) -> usize {
        CacheDtype::from(self).bytes(latent as u64, rope as u64) as usize
    }
}

/// What plans call it.
impl From<LatentFormat> for CacheDtype {
    fn from(format: LatentFormat) -> Self {
        match format {
            LatentFormat::F32 => CacheDtype::F32,
            LatentFormat::Bf16 => CacheDtype::Bf16,
            LatentFormat::Fp8 => CacheDtype::Fp8,
        }
    }
}

/// One layer's cached tokens in [`LatentFormat::Fp8`].
#[derive(Clone, Debug, ExtensionType)]
pub struct Fp8Latents<B: Backend> {
    /// e4m3: on the CPU bytes, `U8 [blocks, block_size, latent]`; elsewhere words of four,
    /// `U32 [blocks, block_size, ⌈latent / 4⌉]`.
    pub codes: IntTensor<B>,
    /// `[blocks, block_size, ⌈latent / 128⌉]`, f32
    pub scales: FloatTensor<B>,
    /// `[blocks, block_size, rope]`, bf16
    pub keys: FloatTensor<B>,
}

/// One layer's cached tokens, as attention takes them.
#[derive(Clone, Debug, ExtensionType)]
pub enum Latents<B: Backend> {
    /// Floats.
    Floats {
        /// `[blocks, block_size, latent + rope]`, f32 or bf16
        rows: FloatTensor<B>,
    },
    /// Bytes with scales.
    Fp8 {
        /// The blocks.
        #[extension_type]
        blocks: Fp8Latents<B>,
    },
}

impl<B: Backend> Latents<B> {
    /// Tokens a block.
    pub(crate) fn block_size(&self) -> usize {
        match self {
            Latents::Floats { rows } => rows.shape()[1],
            Latents::Fp8 { blocks } => blocks.scales.shape()[1],
        }
    }
}

/// One layer's cached tokens, in blocks, as modules hold them.
#[derive(Clone, Debug)]
pub struct LatentBlocks(Latents<Dispatch>);

impl LatentBlocks {
    /// Empty blocks: `[blocks, block_size]` tokens of `latent + rope` values.
    pub fn zeros(
        format: LatentFormat,
        [blocks, block_size]: [usize; 2],
        [latent, rope]: [usize; 2],
        device: &Device,
    ) -> Self {
        let floats = |width, dtype: DType| {
            Tensor::<3>::zeros([blocks, block_size, width], (device, dtype)).into_dispatch()
        };
        LatentBlocks(match format {
            LatentFormat::F32 => Latents::Floats {
                rows: floats(latent + rope, DType::F32),
            },
            LatentFormat::Bf16 => Latents::Floats {
                rows: floats(latent + rope, DType::BF16),
            },
            LatentFormat::Fp8 => {
                let (width, dtype) = match is_cpu(device) {
                    true => (latent, DType::U8),
                    false => (latent.div_ceil(4), DType::U32),
                };
                let shape = [blocks, block_size, width];
                let blocks = Fp8Latents {
                    codes: Tensor::<3, Int>::zeros(shape, (device, dtype)).into_dispatch(),
                    scales: floats(latent.div_ceil(LATENT_GROUP), DType::F32),
                    keys: floats(rope, DType::BF16),
                };
                Latents::Fp8 { blocks }
            }
        })
    }

    /// The blocks as one float tensor `[blocks, block_size, latent + rope]`, in the formats that
    /// have one.
    pub fn into_floats(self) -> Option<Tensor<3>> {
        match self.0 {
            Latents::Floats { rows } => Some(Tensor::from_dispatch(rows)),
            Latents::Fp8 { .. } => None,
        }
    }

    pub(crate) fn new(latents: Latents<Dispatch>) -> Self {
        LatentBlocks(latents)
    }

    pub(crate) fn into_latents(self) -> Latents<Dispatch> {
        self.0
    }
}

/// Blocks of floats `[blocks, block_size, latent + rope]`.
impl From<Tensor<3>> for LatentBlocks {
    fn from(rows: Tensor<3>) -> Self {
        LatentBlocks(Latents::Floats {
            rows: rows.into_dispatch(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a plan that counts other bytes than the blocks take.
    #[test]
    fn bytes_of_v3_1() {
        assert_eq!(LatentFormat::F32.bytes(512, 64), 2304);
        assert_eq!(LatentFormat::Bf16.bytes(512, 64), 1152);
        assert_eq!(LatentFormat::Fp8.bytes(512, 64), 656);
    }
}
