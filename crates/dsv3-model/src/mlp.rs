//! The SwiGLU feed-forward layer.

use burn::tensor::Tensor;
use dsv3_kernels::{Activations, ExpertWeights, packed_linear, packed_linear_pair, swiglu};

use crate::error::ModelError;
use crate::loader::Loader;
use crate::parameters::{ParameterVisitor, matrix};

/// `down(silu(gate(x)) · up(x))` (DeepSeek's `MLP`): a dense layer, or the shared experts as one.
#[derive(Clone, Debug)]
pub struct Mlp {
    pub(crate) weights: ExpertWeights,
    activations: Activations,
}

impl Mlp {
    pub(crate) fn load(
        loader: &Loader<'_>,
        prefix: &str,
        inter: usize,
    ) -> Result<Self, ModelError> {
        let hidden = loader.args().hidden_size;
        let weight = |part: &str, shape| loader.weight(&Self::name(prefix, part), shape);
        Ok(Mlp {
            weights: ExpertWeights {
                gate: weight("gate", [inter, hidden])?,
                up: weight("up", [inter, hidden])?,
                down: weight("down", [hidden, inter])?,
            },
            activations: loader.activations(),
        })
    }

    fn name(prefix: &str, part: &str) -> String {
        format!("{prefix}.{part}_proj.weight")
    }

    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> u64 {
        let ExpertWeights { gate, up, down } = &self.weights;
        (gate.bytes() + up.bytes() + down.bytes()) as u64
    }

    pub(crate) fn visit_parameters(&mut self, prefix: &str, visitor: &mut ParameterVisitor<'_>) {
        let ExpertWeights { gate, up, down } = &mut self.weights;
        matrix(visitor, &Self::name(prefix, "gate"), gate);
        matrix(visitor, &Self::name(prefix, "up"), up);
        matrix(visitor, &Self::name(prefix, "down"), down);
    }

    /// `x [T, hidden]` → `[T, hidden]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let ExpertWeights { gate, up, down } = &self.weights;
        let [gate, up] = packed_linear_pair(x, [gate, up], self.activations); // [T, inter]
        packed_linear(swiglu(gate, up), down, self.activations)
    }
}
