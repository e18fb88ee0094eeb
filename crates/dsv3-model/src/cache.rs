//! The paged latent cache.

use burn::tensor::{DType, Device, Tensor};
use dsv3_weights::ModelArgs;

use crate::options::Precision;

/// For each layer, blocks of cached tokens: the normalised latent, then the rotated key.
///
/// A block is named by its id in every layer alike; who owns which is the engine's business.
#[derive(Debug)]
pub struct LatentCache {
    layers: Vec<Option<Tensor<3>>>,
    blocks: usize,
    block_size: usize,
    width: usize,
    precision: Precision,
}

impl LatentCache {
    /// Room for `blocks · block_size` tokens in each of `layers` layers.
    pub fn new(
        args: &ModelArgs,
        layers: usize,
        blocks: usize,
        block_size: usize,
        precision: Precision,
        device: &Device,
    ) -> Self {
        let width = args.latent_dim();
        let dtype: DType = precision.dtype();
        LatentCache {
            layers: (0..layers)
                .map(|_| Some(Tensor::zeros([blocks, block_size, width], (device, dtype))))
                .collect(),
            blocks,
            block_size,
            width,
            precision,
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

    /// Bytes of one token in all layers.
    pub fn bytes_per_token(&self) -> usize {
        self.layers.len() * self.width * self.precision.dtype().size()
    }

    /// Take a layer's blocks out, so that they are written in place; [`put`](Self::put) them back.
    pub(crate) fn take(&mut self, layer: usize) -> Option<Tensor<3>> {
        self.layers.get_mut(layer).and_then(Option::take)
    }

    pub(crate) fn put(&mut self, layer: usize, blocks: Tensor<3>) {
        if let Some(slot) = self.layers.get_mut(layer) {
            *slot = Some(blocks);
        }
    }
}
