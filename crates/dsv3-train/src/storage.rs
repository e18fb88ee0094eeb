//! How a checkpoint holds a parameter, and rounding to that.

use dsv3_weights::fp8::{dequantize_block, quantize_block};
use dsv3_weights::{Dtype, ModelArgs, ScaleFmt, TensorSpec};
use half::bf16;

use crate::error::TrainError;

/// A parameter's format on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// f32, as computed.
    F32,
    /// bf16.
    Bf16,
    /// e4m3 with a scale a block.
    Fp8Block {
        /// Rows and columns of a block.
        block: [usize; 2],
        /// Which scales.
        scales: ScaleFmt,
    },
}

impl Storage {
    /// The format of `spec` in the published checkpoint of configuration `args`.
    pub fn published(spec: &TensorSpec, args: &ModelArgs) -> Self {
        match (&args.quantization, spec.dtype_published) {
            (Some(quantization), _) if spec.quantizable => Storage::Fp8Block {
                block: quantization.weight_block_size,
                scales: quantization.scale_fmt,
            },
            (_, Dtype::F32) => Storage::F32,
            _ => Storage::Bf16,
        }
    }

    /// Round `values` of shape `shape` to what the format can hold.
    ///
    /// # Errors
    /// [`TrainError::Weights`] for a block format on values that are no matrix.
    pub fn round(self, values: &mut [f32], shape: &[usize]) -> Result<(), TrainError> {
        match (self, shape) {
            (Storage::F32, _) => {}
            (Storage::Fp8Block { block, scales }, [rows, columns]) => {
                let shape = [*rows, *columns];
                let packed = quantize_block(values, shape, block, scales)?;
                let rounded = dequantize_block(&packed.data, &packed.scale, shape, block)?;
                values.copy_from_slice(&rounded);
            }
            _ => values
                .iter_mut()
                .for_each(|v| *v = bf16::from_f32(*v).to_f32()),
        }
        Ok(())
    }
}
