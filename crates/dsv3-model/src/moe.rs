//! The mixture of experts.

use burn::tensor::Tensor;
use dsv3_kernels::{Activations, ExpertWeights, packed_experts, packed_moe};

use crate::error::ModelError;
use crate::gate::{Gate, Routing};
use crate::loader::Loader;
use crate::mlp::Mlp;
use crate::parameters::{ParameterVisitor, matrix};
use crate::reads::LayerBytes;

/// DeepSeek's `MoE`: the router's choice among many experts, plus the shared ones for every token.
#[derive(Clone, Debug)]
pub struct Moe {
    gate: Gate,
    experts: Vec<ExpertWeights>,
    shared: Option<Mlp>,
    activations: Activations,
}

impl Moe {
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let args = loader.args();
        let (hidden, inter) = (args.hidden_size, args.moe_intermediate_size);
        let stacked = loader.checkpoint.stacked_experts(prefix)?;
        let expert = |i: usize| -> Result<ExpertWeights, ModelError> {
            if let Some(stacked) = &stacked {
                return loader.stacked_expert(stacked, i);
            }
            let weight = |part: &str, shape| {
                loader.weight(&format!("{prefix}.experts.{i}.{part}_proj.weight"), shape)
            };
            Ok(ExpertWeights {
                gate: weight("gate", [inter, hidden])?,
                up: weight("up", [inter, hidden])?,
                down: weight("down", [hidden, inter])?,
            })
        };
        let shared = match args.n_shared_experts {
            0 => None,
            _ => Some(Mlp::load(
                loader,
                &format!("{prefix}.shared_experts"),
                args.shared_intermediate_size(),
            )?),
        };
        Ok(Moe {
            gate: Gate::load(loader, &format!("{prefix}.gate"))?,
            experts: (0..args.n_routed_experts)
                .map(expert)
                .collect::<Result<_, _>>()?,
            shared,
            activations: loader.activations(),
        })
    }

    /// Bytes of router, shared and routed experts, the rest left at 0.
    pub(crate) fn bytes(&self) -> LayerBytes {
        let expert = |e: &ExpertWeights| e.gate.bytes() + e.up.bytes() + e.down.bytes();
        LayerBytes {
            router: self.gate.bytes(),
            shared: self.shared.as_ref().map_or(0, Mlp::bytes),
            experts: self.experts.iter().map(|e| expert(e) as u64).collect(),
            ..LayerBytes::default()
        }
    }

    pub(crate) fn visit_parameters(&mut self, prefix: &str, visitor: &mut ParameterVisitor<'_>) {
        self.gate
            .visit_parameters(&format!("{prefix}.gate"), visitor);
        for (i, expert) in self.experts.iter_mut().enumerate() {
            let name = |part: &str| format!("{prefix}.experts.{i}.{part}_proj.weight");
            matrix(visitor, &name("gate"), &mut expert.gate);
            matrix(visitor, &name("up"), &mut expert.up);
            matrix(visitor, &name("down"), &mut expert.down);
        }
        if let Some(shared) = &mut self.shared {
            shared.visit_parameters(&format!("{prefix}.shared_experts"), visitor);
        }
    }

    /// `x [T, hidden]` → `[T, hidden]` and what the router chose. Experts that no token chose are
    /// not touched.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Routing) {
        let routing = self.gate.forward(x.clone());
        let (ids, weights) = (routing.ids.clone(), routing.weights.clone()); // [T, k]
        let (experts, activations) = (&self.experts, self.activations);
        let y = match &self.shared {
            Some(shared) => packed_moe(x, ids, weights, experts, &shared.weights, activations),
            None => packed_experts(x, ids, weights, experts, activations),
        }; // [T, hidden]
        (y, routing)
    }
}
