//! The routed experts of a layer in two packed tensors.
//!
//! Packed experts are stacked: `{prefix}.experts.gate_up_proj.weight`, whose rows are gate row 0,
//! up row 0, gate row 1, up row 1, …, so that one pass over an expert's rows gives both factors of
//! each product; and `{prefix}.experts.down_proj.weight`. An expert is a slice of either.

use bytes::Bytes;

use crate::error::shown;
use crate::group::{GroupFormat, dequantize_group};
use crate::packed::PackedTensor;
use crate::{Checkpoint, LinearFormat, LinearView, WeightsError};

/// Which of a layer's two stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stack {
    GateUp,
    Down,
}

impl Stack {
    pub(crate) const ALL: [Self; 2] = [Self::GateUp, Self::Down];

    /// The name behind `mlp.experts.`.
    pub(crate) fn part(self) -> &'static str {
        match self {
            Self::GateUp => "gate_up_proj.weight",
            Self::Down => "down_proj.weight",
        }
    }

    /// The published parts of an expert whose rows it holds, in their order.
    pub(crate) fn of_expert(self) -> &'static [&'static str] {
        match self {
            Self::GateUp => &["gate_proj.weight", "up_proj.weight"],
            Self::Down => &["down_proj.weight"],
        }
    }
}

/// Where a published expert's weight is to be found in a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackPlace {
    pub(crate) stack: String,
    pub(crate) expert: usize,
    /// Its first row within the expert, and from row to row how many on.
    pub(crate) first: usize,
    pub(crate) step: usize,
}

/// The place in a stack of an expert's weight by its published name,
/// `….experts.7.gate_proj.weight`; only the name is looked at.
pub(crate) fn place_of(name: &str) -> Option<StackPlace> {
    let (prefix, rest) = name.split_once(".experts.")?;
    let (number, part) = rest.split_once('.')?;
    let expert = crate::layout::canonical_number(number)?;
    for stack in Stack::ALL {
        let parts = stack.of_expert();
        if let Some(first) = parts.iter().position(|p| *p == part) {
            return Some(StackPlace {
                stack: stack_name(prefix, stack),
                expert,
                first,
                step: parts.len(),
            });
        }
    }
    None
}

/// The name of a stack; `prefix` is the layer's `model.layers.3.mlp`.
pub(crate) fn stack_name(prefix: &str, stack: Stack) -> String {
    format!("{prefix}.experts.{}", stack.part())
}

/// The published names of what a stack is made of, in the order of their rows.
pub(crate) fn part_names(
    prefix: &str,
    stack: Stack,
    experts: usize,
) -> impl Iterator<Item = String> {
    let parts = stack.of_expert().iter();
    (0..experts)
        .flat_map(move |e| parts.clone().map(move |part| (e, part)))
        .map(move |(e, part)| format!("{prefix}.experts.{e}.{part}"))
}

/// A layer's routed experts, where they lie in the mapped file.
#[derive(Debug, Clone)]
pub struct StackedExperts {
    /// `[experts, 2 · moe_intermediate_size, hidden_size]`, gate and up rows in turn.
    pub gate_up: StackedMatrix,
    /// `[experts, hidden_size, moe_intermediate_size]`
    pub down: StackedMatrix,
}

/// One matrix of each expert.
#[derive(Debug, Clone)]
pub struct StackedMatrix {
    /// The tensor's name.
    pub name: String,
    /// How many experts.
    pub experts: usize,
    /// `[out, in]` of one expert.
    pub shape: [usize; 2],
    /// How rows are to be read.
    pub format: GroupFormat,
    /// `[experts, out, row_bytes]`
    pub data: Bytes,
}

impl StackedMatrix {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.format.row_bytes(self.shape[1])
    }

    /// The matrix of one expert, a slice of `data`; `None` behind the last.
    pub fn expert(&self, expert: usize) -> Option<LinearView> {
        let bytes = self.shape[0] * self.row_bytes();
        let start = expert.checked_mul(bytes)?;
        let end = start.checked_add(bytes)?;
        (expert < self.experts && end <= self.data.len()).then(|| LinearView {
            name: format!("{}[{expert}]", self.name),
            shape: self.shape,
            format: LinearFormat::of_group(self.format, self.shape[1]),
            data: self.data.slice(start..end),
            scale: None,
        })
    }
}

impl Checkpoint {
    /// How a tensor is packed, if it is.
    pub fn packed(&self, name: &str) -> Option<&PackedTensor> {
        self.packed.get(name)
    }

    /// The routed experts of the layer's MLP at `prefix` (`model.layers.3.mlp`) if they are
    /// stacked; `None` if the checkpoint holds them one by one, as published, or not at all.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`] if one of the two tensors is there without the other.
    pub fn stacked_experts(&self, prefix: &str) -> Result<Option<StackedExperts>, WeightsError> {
        let gate_up = self.stack(&stack_name(prefix, Stack::GateUp));
        let down = self.stack(&stack_name(prefix, Stack::Down));
        match (gate_up, down) {
            (Some(gate_up), Some(down)) => Ok(Some(StackedExperts { gate_up, down })),
            (None, None) => Ok(None),
            (gate_up, _) => {
                let lost = match gate_up {
                    None => Stack::GateUp,
                    Some(_) => Stack::Down,
                };
                Err(WeightsError::MissingTensor {
                    tensor: stack_name(prefix, lost),
                    location: self.dir().into(),
                })
            }
        }
    }

    fn stack(&self, name: &str) -> Option<StackedMatrix> {
        let packed = self.packed(name)?;
        let &[experts, out, columns] = packed.shape.as_slice() else {
            return None;
        };
        Some(StackedMatrix {
            name: name.to_owned(),
            experts,
            shape: [out, columns],
            format: packed.format,
            data: self.get(name)?.bytes(),
        })
    }

    /// The stack that holds the expert's weight of this published name.
    pub(crate) fn stack_holding(&self, name: &str) -> Option<(StackPlace, StackedMatrix)> {
        let place = place_of(name)?;
        let stack = self.stack(&place.stack)?;
        Some((place, stack))
    }

    /// Whether the weight of this published name is there, by itself or in a stack.
    pub(crate) fn holds_weight(&self, name: &str) -> bool {
        self.get(name).is_some() || self.stack_holding(name).is_some()
    }

    /// A published expert's weight `[out, in]` out of its stack; `None` if it is in none.
    pub(crate) fn unstacked(
        &self,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some((place, stack)) = self.stack_holding(name) else {
            return Ok(None);
        };
        let [out, columns] = stack.shape;
        let found = [out / place.step, columns];
        if found != shape {
            return Err(WeightsError::WrongShape {
                file: self.tensor(&place.stack)?.file().into(),
                tensor: shown(name),
                expected: shape.to_vec(),
                found: found.to_vec(),
            });
        }
        let Some(expert) = stack.expert(place.expert) else {
            return Ok(None);
        };
        let values = dequantize_group(&expert.data, expert.shape, stack.format)?;
        let rows = values.chunks(columns).skip(place.first).step_by(place.step);
        Ok(Some(rows.flatten().copied().collect()))
    }
}
