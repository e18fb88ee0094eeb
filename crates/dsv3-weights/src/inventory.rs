//! What a checkpoint holds, by component.

use std::collections::BTreeMap;

use crate::layout::{Component, Layout};
use crate::{Checkpoint, SCALE_SUFFIX};

/// Counts of one component's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ComponentInventory {
    /// Tensors, scale tensors too.
    pub tensors: u64,
    /// Weights and biases; scales are not parameters.
    pub parameters: u64,
    /// Bytes of weights and biases.
    pub weight_bytes: u64,
    /// Bytes of block scales.
    pub scale_bytes: u64,
    /// Sum of the two.
    pub bytes: u64,
    /// Tensors by dtype, under the names of the safetensors format.
    pub dtypes: BTreeMap<&'static str, u64>,
}

impl ComponentInventory {
    fn add(&mut self, other: &Self) {
        self.tensors += other.tensors;
        self.parameters += other.parameters;
        self.weight_bytes += other.weight_bytes;
        self.scale_bytes += other.scale_bytes;
        self.bytes += other.bytes;
        for (dtype, n) in &other.dtypes {
            *self.dtypes.entry(dtype).or_default() += n;
        }
    }
}

/// What a checkpoint holds, counted from its headers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Inventory {
    /// Safetensors files.
    pub files: u64,
    /// Bytes on disk of those files, headers included.
    pub file_bytes: u64,
    /// Sum over all components.
    pub total: ComponentInventory,
    /// Sum over the main model, MTP modules and unknown tensors left out.
    pub main: ComponentInventory,
    /// Each component that is there.
    pub components: BTreeMap<Component, ComponentInventory>,
}

impl Inventory {
    /// Counts all tensors of a checkpoint. Reads no data.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let layout = Layout::new(checkpoint.args());
        let mut components: BTreeMap<Component, ComponentInventory> = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            let entry = components
                .entry(layout.component_of(tensor.name()))
                .or_default();
            entry.tensors += 1;
            entry.bytes += tensor.byte_len();
            if is_scale(checkpoint, tensor.name()) {
                entry.scale_bytes += tensor.byte_len();
            } else {
                entry.parameters += tensor.num_elements() as u64;
                entry.weight_bytes += tensor.byte_len();
            }
            *entry.dtypes.entry(tensor.dtype().name()).or_default() += 1;
        }
        let (mut total, mut main) = (ComponentInventory::default(), ComponentInventory::default());
        for (component, counts) in &components {
            total.add(counts);
            if !component.is_mtp() && *component != Component::Other {
                main.add(counts);
            }
        }
        Self {
            files: checkpoint.files().len() as u64,
            file_bytes: checkpoint
                .files()
                .iter()
                .map(crate::TensorFile::byte_len)
                .sum(),
            total,
            main,
            components,
        }
    }
}

/// Whether a tensor is the scales of another one that is there.
pub(crate) fn is_scale(checkpoint: &Checkpoint, name: &str) -> bool {
    name.strip_suffix(SCALE_SUFFIX)
        .is_some_and(|weight| checkpoint.get(weight).is_some())
}
