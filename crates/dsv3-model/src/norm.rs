//! Root-mean-square normalisation.

use burn::tensor::Tensor;

/// `x / sqrt(mean(x²) + eps) · w` over the last dimension (DeepSeek's `RMSNorm`); computed in f32
/// and rounded once, where transformers rounds before it multiplies by `w`.
#[derive(Clone, Debug)]
pub struct RMSNorm {
    weight: Tensor<1>,
    eps: f32,
}

impl RMSNorm {
    /// `weight [n]`; `eps` is config key `rms_norm_eps`.
    pub fn new(weight: Tensor<1>, eps: f64) -> Self {
        RMSNorm {
            weight,
            eps: eps as f32,
        }
    }

    /// Bytes of its weight.
    pub(crate) fn bytes(&self) -> u64 {
        (self.weight.dims()[0] * self.weight.dtype().size()) as u64
    }

    pub(crate) fn weight_mut(&mut self) -> &mut Tensor<1> {
        &mut self.weight
    }

    /// `x [T, n]` → `[T, n]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        dsv3_kernels::rms_norm(x, self.weight.clone(), self.eps)
    }
}
