//! The router.

use burn::tensor::{DType, Int, Tensor};
use dsv3_kernels::{Activations, RouteSpec};

use crate::error::ModelError;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::parameters::{ParameterMut, ParameterVisitor, linear};

/// DeepSeek's `Gate` with `noaux_tc`: sigmoid scores, a bias that only chooses, groups.
///
/// Everything is f32, the bias included, as V3.1's model card asks.
#[derive(Clone, Debug)]
pub struct Gate {
    linear: Linear,
    bias: Tensor<1>,
    spec: RouteSpec,
}

/// A router's answer.
#[derive(Clone, Debug)]
pub struct Routing {
    /// `[T, experts]` f32
    pub logits: Tensor<2>,
    /// `[T, k]`
    pub ids: Tensor<2, Int>,
    /// `[T, k]` f32
    pub weights: Tensor<2>,
}

impl Gate {
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let args = loader.args();
        let experts = args.n_routed_experts;
        let weight = loader.weight(&format!("{prefix}.weight"), [experts, args.hidden_size])?;
        Ok(Gate {
            linear: Linear::new(weight, Activations::Full),
            bias: loader.vector(&format!("{prefix}.e_score_correction_bias"), experts)?,
            spec: RouteSpec {
                groups: args.n_group,
                top_groups: args.topk_group,
                top_k: args.num_experts_per_tok,
                normalize: args.norm_topk_prob,
                scaling: args.routed_scaling_factor as f32,
            },
        })
    }

    /// Bytes of its weight and its bias.
    pub(crate) fn bytes(&self) -> u64 {
        let bias = self.bias.dims()[0] * self.bias.dtype().size();
        self.linear.bytes() + bias as u64
    }

    pub(crate) fn visit_parameters(&mut self, prefix: &str, visitor: &mut ParameterVisitor<'_>) {
        linear(visitor, prefix, &mut self.linear);
        visitor(
            &format!("{prefix}.e_score_correction_bias"),
            ParameterMut::Vector(&mut self.bias),
        );
    }

    /// `x [T, hidden]` → experts and weights `[T, k]`
    pub fn forward(&self, x: Tensor<2>) -> Routing {
        let logits = self.linear.forward(x.cast(DType::F32)); // [T, experts]
        let (ids, weights) = dsv3_kernels::route(logits.clone(), self.bias.clone(), self.spec);
        Routing {
            logits,
            ids,
            weights,
        }
    }
}
