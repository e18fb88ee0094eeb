//! Token embeddings.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use dsv3_weights::group::dequantize_group;
use dsv3_weights::{GroupFormat, LinearFormat, LinearView};
use half::{bf16, f16};

use crate::error::ModelError;
use crate::loader::Loader;
use crate::options::Precision;

/// The table of token embeddings.
#[derive(Clone, Debug)]
pub struct Embedding {
    table: Table,
    device: Device,
    precision: Precision,
}

#[derive(Clone, Debug)]
enum Table {
    /// Left on the host where the file has it: a pass needs a few rows of it, and the table of
    /// V3.1 is 1.85 GB.
    Host(LinearView),
    /// `[vocab, hidden]` on the device, which training can move.
    Plain(Tensor<2>),
}

impl Embedding {
    /// Load `{prefix}.weight [vocab, hidden]`.
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let args = loader.args();
        let shape = [args.vocab_size, args.hidden_size];
        Ok(Embedding {
            table: Table::Host(
                loader
                    .checkpoint
                    .linear(&format!("{prefix}.weight"), shape)?,
            ),
            device: loader.device().clone(),
            precision: loader.options.precision,
        })
    }

    /// The table's values `[vocab, hidden]`, a copy.
    pub fn table(&self) -> Tensor<2> {
        match &self.table {
            Table::Host(view) => {
                let data = TensorData::new(view.dequantize(), view.shape);
                Tensor::from_data(data, (&self.device, DType::F32))
            }
            Table::Plain(table) => table.clone(),
        }
    }

    /// Look rows up in `table [vocab, hidden]` from now on.
    pub fn set_table(&mut self, table: Tensor<2>) {
        self.table = Table::Plain(table);
    }

    /// Ids `[T]`, each below `vocab_size` → `[T, hidden]`
    pub(crate) fn forward(&self, tokens: &[u32]) -> Result<Tensor<2>, ModelError> {
        let view = match &self.table {
            Table::Host(view) => view,
            Table::Plain(table) => {
                let [vocab_size, _] = table.dims();
                if let Some(token) = tokens.iter().find(|t| **t as usize >= vocab_size) {
                    return Err(ModelError::TokenOutOfRange {
                        token: *token,
                        vocab_size,
                    });
                }
                let ids = tokens.iter().map(|t| *t as i32).collect::<Vec<_>>();
                let ids = TensorData::new(ids, [tokens.len()]);
                let ids = Tensor::<1, Int>::from_data(ids, (&self.device, DType::I32)); // [T]
                let rows = table.clone().select(0, ids); // [T, hidden]
                return Ok(rows.cast(self.precision.dtype()));
            }
        };
        let hidden = view.shape[1];
        let mut values = Vec::with_capacity(tokens.len() * hidden);
        for token in tokens {
            append_row(view, *token as usize, &mut values).ok_or(ModelError::TokenOutOfRange {
                token: *token,
                vocab_size: view.shape[0],
            })?;
        }
        let data = TensorData::new(values, [tokens.len(), hidden]);
        let rows = Tensor::<2>::from_data(data, (&self.device, DType::F32)); // [T, hidden]
        Ok(rows.cast(self.precision.dtype()))
    }
}

/// Append row `row`.
fn append_row(table: &LinearView, row: usize, values: &mut Vec<f32>) -> Option<()> {
    let (n, data) = (table.shape[1], &table.data);
    let bytes = |size: usize| data.get(row * n * size..(row + 1) * n * size);
    match table.format {
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
            let scales = table.scale.as_ref()?.get(first..first + columns)?;
            for (codes, scale) in bytes(1)?.chunks(block[1]).zip(scales) {
                let decode = dsv3_weights::fp8::e4m3_to_f32;
                values.extend(codes.iter().map(|b| decode(*b) * scale));
            }
        }
        LinearFormat::Group {
            bits,
            group,
            row_bytes,
        } => {
            let format = GroupFormat::new(bits, group).ok()?;
            let bytes = data.get(row * row_bytes..(row + 1) * row_bytes)?;
            values.extend(dequantize_group(bytes, [1, n], format).ok()?);
        }
        _ => {
            let (codes, _) = bytes(4)?.as_chunks::<4>();
            values.extend(codes.iter().map(|b| f32::from_le_bytes(*b)));
        }
    }
    Some(())
}
