//! The paged latent cache.

use burn::tensor::Device;
use dsv3_kernels::{LatentBlocks, LatentFormat};
use dsv3_weights::ModelArgs;

/// For each layer, blocks of cached tokens: the normalised latent, then the rotated key.
///
/// A block is named by its id in every layer alike; who owns which is the engine's business.
#[derive(Debug)]
pub struct LatentCache {
    layers: Vec<Option<LatentBlocks>>,
    blocks: usize,
    block_size: usize,
    /// Of one token in one layer.
    bytes: usize,
    format: LatentFormat,
}

impl LatentCache {
    /// Room for `blocks · block_size` tokens in each of `layers` layers.
    pub fn new(
        args: &ModelArgs,
        layers: usize,
        blocks: usize,
        block_size: usize,
        format: LatentFormat,
        device: &Device,
    ) -> Self {
        let [latent, rope] = [args.kv_lora_rank, args.qk_rope_head_dim];
        let empty = || LatentBlocks::zeros(format, [blocks, block_size], [latent, rope], device);
        LatentCache {
            layers: (0..layers).map(|_| Some(empty())).collect(),
            blocks,
            block_size,
            bytes: format.bytes(latent, rope),
            format,
        }
    }

    /// Blocks a layer.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Tokens a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// How tokens are kept.
    pub fn format(&self) -> LatentFormat {
        self.format
    }

    /// Bytes of one token in all layers.
    pub fn bytes_per_token(&self) -> usize {
        self.layers.len() * self.bytes
    }

    /// Take a layer's blocks out, so that they are written in place; [`put`](Self::put) them back.
    pub(crate) fn take(&mut self, layer: usize) -> Option<LatentBlocks> {
        self.layers.get_mut(layer).and_then(Option::take)
    }

    pub(crate) fn put(&mut self, layer: usize, blocks: LatentBlocks) {
        if let Some(slot) = self.layers.get_mut(layer) {
            *slot = Some(blocks);
        }
    }
}
