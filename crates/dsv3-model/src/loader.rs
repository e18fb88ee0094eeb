//! From named tensors in a checkpoint to the graph's parameters.

use burn::tensor::{DType, Device, Tensor, TensorData};
use dsv3_kernels::{Activations, HalfFormat, Weight};
use dsv3_weights::{Checkpoint, LinearFormat, ModelArgs, ScaleFmt};

use crate::error::ModelError;
use crate::linear::Linear;
use crate::norm::RMSNorm;
use crate::options::LoadOptions;

/// Reads one checkpoint for one set of options.
pub(crate) struct Loader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) options: &'a LoadOptions,
}

impl Loader<'_> {
    pub(crate) fn args(&self) -> &ModelArgs {
        self.checkpoint.args()
    }

    pub(crate) fn device(&self) -> &Device {
        &self.options.device
    }

    /// What happens to activations in front of fp8 weights.
    pub(crate) fn activations(&self) -> Activations {
        match (self.options.quantize_activations, &self.args().quantization) {
            (true, Some(quantization)) => Activations::Fp8 {
                ue8m0: quantization.scale_fmt == ScaleFmt::Ue8m0,
            },
            _ => Activations::Full,
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
