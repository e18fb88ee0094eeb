//! How a model is to be run: device, arithmetic, form of attention.

use burn::tensor::{DType, Device};
use dsv3_kernels::{LatentFormat, MlaForm};

/// The number format of activations between the operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32: agrees with the reference to rounding.
    #[default]
    F32,
    /// bf16, as DeepSeek ran the model; statistics, softmax and routing stay f32.
    Bf16,
}

impl Precision {
    /// Burn's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        }
    }

    /// How a cache keeps such activations as they are.
    pub fn latent_format(self) -> LatentFormat {
        match self {
            Precision::F32 => LatentFormat::F32,
            Precision::Bf16 => LatentFormat::Bf16,
        }
    }

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Which form of latent attention computes a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionForm {
    /// The one with fewer multiplications for that sequence's new and cached tokens. Neighbours
    /// in the batch play no part, so they can't change a sequence's numbers.
    #[default]
    Auto,
    /// Always this one.
    Always(MlaForm),
}

/// How to load and run a checkpoint.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where the weights live and the graph runs.
    pub device: Device,
    /// Format of activations.
    pub precision: Precision,
    /// Whether activations are rounded to 8 bits in front of packed weights: to fp8 in front of fp8
    /// ones, as DeepSeek trained (W8A8), the kind of scales following `scale_fmt` of the checkpoint;
    /// to int8 in front of int8 and int4 ones.
    pub quantize_activations: bool,
    /// The form of latent attention.
    pub attention: AttentionForm,
    /// How caches keep their tokens; where it is left out, in the precision of the activations.
    pub cache: Option<LatentFormat>,
}

impl LoadOptions {
    /// f32 activations, weight-only dequantisation, on `device`.
    pub fn new(device: Device) -> Self {
        LoadOptions {
            device,
            precision: Precision::F32,
            quantize_activations: false,
            attention: AttentionForm::Auto,
            cache: None,
        }
    }

    /// How caches keep their tokens.
    pub fn cache_format(&self) -> LatentFormat {
        self.cache.unwrap_or(self.precision.latent_format())
    }

    /// On the CPU.
    pub fn cpu() -> Self {
        LoadOptions::new(Device::flex())
    }
}
