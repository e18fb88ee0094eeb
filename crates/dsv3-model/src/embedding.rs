//! Token embeddings.

use burn::tensor::{DType, Device, Tensor, TensorData};
use dsv3_weights::{LinearFormat, LinearView};
use half::{bf16, f16};

use crate::error::ModelError;
use crate::loader::Loader;
use crate::options::Precision;

/// The table of token embeddings, left on the host where the file has it: a pass needs a few
/// rows of it, and the table of V3.1 is 1.85 GB.
#[derive(Clone, Debug)]
pub struct Embedding {
    table: LinearView,
    device: Device,
    precision: Precision,
}

impl Embedding {
    /// Load `{prefix}.weight [vocab, hidden]`.
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let args = loader.args();
        let shape = [args.vocab_size, args.hidden_size];
        Ok(Embedding {
            table: loader
                .checkpoint
                .linear(&format!("{prefix}.weight"), shape)?,
            device: loader.device().clone(),
            precision: loader.options.precision,
        })
    }

    /// Ids `[T]`, each below `vocab_size` → `[T, hidden]`
    pub(crate) fn forward(&self, tokens: &[u32]) -> Result<Tensor<2>, ModelError> {
        let hidden = self.table.shape[1];
        let mut values = Vec::with_capacity(tokens.len() * hidden);
        for token in tokens {
            self.row(*token as usize, &mut values)
                .ok_or(ModelError::TokenOutOfRange {
                    token: *token,
                    vocab_size: self.table.shape[0],
                })?;
        }
        let data = TensorData::new(values, [tokens.len(), hidden]);
        let rows = Tensor::<2>::from_data(data, (&self.device, DType::F32)); // [T, hidden]
        Ok(rows.cast(self.precision.dtype()))
    }

    /// Append row `row`.
    fn row(&self, row: usize, values: &mut Vec<f32>) -> Option<()> {
        let (n, data) = (self.table.shape[1], &self.table.data);
        let bytes = |size: usize| data.get(row * n * size..(row + 1) * n * size);
        match self.table.format {
            LinearFormat::BF16 => {
                let (codes, _) = bytes(2)?.as_chunks::<2>();
                values.extend(codes.iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
            }
            LinearFormat::F16 => {
                let (codes, _) = bytes(2)?.as_chunks::<2>();
                values.extend(codes.iter().map(|b| f16::from_le_bytes(*b).to_f32()));
            }
            LinearFormat::Fp8Block { block, .. } => {
                let columns = n.div_ceil(block[1]);
                let first = row / block[0] * columns;
                let scales = self.table.scale.as_ref()?.get(first..first + columns)?;
                for (codes, scale) in bytes(1)?.chunks(block[1]).zip(scales) {
                    let decode = dsv3_weights::fp8::e4m3_to_f32;
                    values.extend(codes.iter().map(|b| decode(*b) * scale));
                }
            }
            _ => {
                let (codes, _) = bytes(4)?.as_chunks::<4>();
                values.extend(codes.iter().map(|b| f32::from_le_bytes(*b)));
            }
        }
        Some(())
    }
}
