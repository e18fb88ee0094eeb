//! The SwiGLU feed-forward layer.

use burn::tensor::Tensor;
use dsv3_kernels::swiglu;

use crate::error::ModelError;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::parameters::{ParameterVisitor, linear};

/// `down(silu(gate(x)) · up(x))` (DeepSeek's `MLP`): a dense layer, or the shared experts as one.
#[derive(Clone, Debug)]
pub struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(crate) fn load(
        loader: &Loader<'_>,
        prefix: &str,
        inter: usize,
    ) -> Result<Self, ModelError> {
        let hidden = loader.args().hidden_size;
        Ok(Mlp {
            gate: loader.linear(&format!("{prefix}.gate_proj"), [inter, hidden])?,
            up: loader.linear(&format!("{prefix}.up_proj"), [inter, hidden])?,
            down: loader.linear(&format!("{prefix}.down_proj"), [hidden, inter])?,
        })
    }

    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> u64 {
        self.gate.bytes() + self.up.bytes() + self.down.bytes()
    }

    pub(crate) fn visit_parameters(&mut self, prefix: &str, visitor: &mut ParameterVisitor<'_>) {
        linear(visitor, &format!("{prefix}.gate_proj"), &mut self.gate);
        linear(visitor, &format!("{prefix}.up_proj"), &mut self.up);
        linear(visitor, &format!("{prefix}.down_proj"), &mut self.down);
    }

    /// `x [T, hidden]` → `[T, hidden]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate.forward(x.clone()); // [T, inter]
        let up = self.up.forward(x); // [T, inter]
        self.down.forward(swiglu(gate, up))
    }
}
