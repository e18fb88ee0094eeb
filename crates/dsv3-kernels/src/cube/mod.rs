//! CubeCL devices (CUDA; Vulkan and the like through wgpu): what has a kernel of its own here.
//!
//! The rest runs the stock bodies.

mod linear;
mod matmul;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::CubeBackend;

use crate::ops::Dsv3Ops;
use crate::oracle;
use crate::packed::{Activations, Experts, Packed};
use crate::training::Dsv3Training;

/// Trains through the stock bodies.
impl Dsv3Training for CubeBackend {}

impl Dsv3Ops for CubeBackend {
    fn exact_matmul(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        matmul::matmul(lhs, rhs)
    }

    fn packed_linear(
        x: FloatTensor<Self>,
        weight: Packed<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        linear::packed_linear(x, &weight, activations)
    }

    fn packed_experts(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        weights: FloatTensor<Self>,
        experts: Experts<Self>,
        activations: Activations,
    ) -> FloatTensor<Self> {
        // The stock grouping around the packed kernel: no expert is dequantised as a whole.
        let linear = linear::packed_linear;
        oracle::packed_experts::<Self>(x, ids, weights, &experts, activations, &linear)
    }
}
