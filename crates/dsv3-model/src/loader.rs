//! From named tensors in a checkpoint to the graph's parameters.

use burn::tensor::{DType, Device, Tensor, TensorData};
use dsv3_kernels::{Activations, ExpertWeights, GroupCodes, GroupFormat, HalfFormat, Weight};
use dsv3_weights::{
    Checkpoint, GroupBits, LinearFormat, ModelArgs, ScaleFmt, StackedExperts, StackedMatrix,
    WeightsError,
};

use crate::error::ModelError;
use crate::linear::Linear;
use crate::norm::RMSNorm;
use crate::options::LoadOptions;

/// Reads one checkpoint for one set of options.
pub(crate) struct Loader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) options: &'a LoadOptions,
}

/// A packed weight in the checkpoint.
struct PackedRows<'a> {
    name: &'a str,
    data: bytes::Bytes,
    shape: [usize; 2],
    format: dsv3_weights::GroupFormat,
}

impl Loader<'_> {
    pub(crate) fn args(&self) -> &ModelArgs {
        self.checkpoint.args()
    }

    pub(crate) fn device(&self) -> &Device {
        &self.options.device
    }

    /// What happens to activations in front of packed weights.
    pub(crate) fn activations(&self) -> Activations {
        let quantization = self.args().quantization.as_ref();
        match self.options.quantize_activations {
            true => Activations::EightBits {
                ue8m0: quantization.is_some_and(|q| q.scale_fmt == ScaleFmt::Ue8m0),
            },
            false => Activations::Full,
        }
    }

    /// The matrix `name [out, in]`, packed as the checkpoint has it; on the CPU a view of the
    /// mapped file.
    pub(crate) fn weight(&self, name: &str, shape: [usize; 2]) -> Result<Weight, ModelError> {
        let view = self.checkpoint.linear(name, shape)?;
        let device = self.device();
        let weight = match view.format {
            LinearFormat::BF16 => Weight::half(view.data, HalfFormat::Bf16, shape, device),
            LinearFormat::F16 => Weight::half(view.data, HalfFormat::F16, shape, device),
            LinearFormat::Fp8Block { block, .. } => {
                let scale = view.scale.unwrap_or_default();
                Weight::fp8_block(view.data, scale, block, shape, device)
            }
            LinearFormat::Group { bits, group, .. } => {
                let packed = PackedRows {
                    name,
                    data: view.data,
                    shape,
                    format: dsv3_weights::GroupFormat::new(bits, group)?,
                };
                return self.rows(packed, 0, 1);
            }
            // f32, the one format that is stored as Burn computes
            _ => {
                let data = TensorData::new(view.dequantize(), shape);
                Ok(Weight::plain(Tensor::from_data(data, (device, DType::F32))))
            }
        };
        weight.map_err(|source| ModelError::Kernels {
            name: name.to_owned(),
            source,
        })
    }

    /// Every `step`th row of a packed weight from row `first` on.
    fn rows(
        &self,
        packed: PackedRows<'_>,
        first: usize,
        step: usize,
    ) -> Result<Weight, ModelError> {
        let [out, columns] = packed.shape;
        let row_bytes = packed.format.row_bytes(columns);
        let format = GroupFormat {
            codes: match packed.format.bits() {
                GroupBits::Int8 => GroupCodes::Int8,
                GroupBits::Int4 => GroupCodes::Int4,
            },
            columns: packed.format.group(),
            row_bytes: step * row_bytes,
            offset: first * row_bytes,
        };
        let shape = [out / step, columns];
        let weight = Weight::group(packed.data, format, shape, self.device());
        weight.map_err(|source| ModelError::Kernels {
            name: packed.name.to_owned(),
            source,
        })
    }

    /// Expert `i` of a layer whose experts are stacked: gate and up rows in turn, then down.
    pub(crate) fn stacked_expert(
        &self,
        stacked: &StackedExperts,
        i: usize,
    ) -> Result<ExpertWeights, ModelError> {
        let rows = |matrix: &StackedMatrix, first: usize, step: usize| {
            let Some(view) = matrix.expert(i) else {
                return Err(ModelError::Weights(WeightsError::MissingTensor {
                    tensor: format!("expert {i} of {}", matrix.name),
                    location: self.checkpoint.dir().into(),
                }));
            };
            let packed = PackedRows {
                name: &view.name,
                data: view.data.clone(),
                shape: view.shape,
                format: matrix.format,
            };
            self.rows(packed, first, step)
        };
        Ok(ExpertWeights {
            gate: rows(&stacked.gate_up, 0, 2)?,
            up: rows(&stacked.gate_up, 1, 2)?,
            down: rows(&stacked.down, 0, 1)?,
        })
    }

    /// The linear layer whose matrix is `{prefix}.weight [out, in]`.
    pub(crate) fn linear(&self, prefix: &str, shape: [usize; 2]) -> Result<Linear, ModelError> {
        let weight = self.weight(&format!("{prefix}.weight"), shape)?;
        Ok(Linear::new(weight, self.activations()))
    }

    /// `name [len]` in f32.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Tensor<1>, ModelError> {
        let values = self.checkpoint.vector(name, len)?;
        let data = TensorData::new(values, [len]);
        Ok(Tensor::from_data(data, (self.device(), DType::F32)))
    }

    /// The norm whose weight is `{prefix}.weight [len]`.
    pub(crate) fn norm(&self, prefix: &str, len: usize) -> Result<RMSNorm, ModelError> {
        let weight = self.vector(&format!("{prefix}.weight"), len)?;
        Ok(RMSNorm::new(weight, self.args().rms_norm_eps))
    }
}
