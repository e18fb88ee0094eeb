//! A linear layer without bias.

use burn::tensor::Tensor;
use dsv3_kernels::{Activations, Weight, packed_linear, packed_linear_pair};

/// `x · Wᵀ`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Weight,
    activations: Activations,
}

impl Linear {
    /// A layer over `weight [out, in]`; `activations` says what an fp8 weight does to its input.
    pub fn new(weight: Weight, activations: Activations) -> Self {
        Linear {
            weight,
            activations,
        }
    }

    /// Bytes that one pass over its weight reads.
    pub(crate) fn bytes(&self) -> u64 {
        self.weight.bytes() as u64
    }

    /// `x [T, in]` → `[T, out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        packed_linear(x, &self.weight, self.activations)
    }

    /// Two layers that take the same input: `x [T, in]` → each `[T, out]`.
    pub(crate) fn forward_pair(&self, other: &Linear, x: Tensor<2>) -> [Tensor<2>; 2] {
        match self.activations == other.activations {
            true => packed_linear_pair(x, [&self.weight, &other.weight], self.activations),
            false => [self.forward(x.clone()), other.forward(x)],
        }
    }
}
