//! What a checkpoint holds, by component.

use std::collections::BTreeMap;

use crate::layout::{Component, Layout};
use crate::{Checkpoint, GroupFormat, ModelArgs, SCALE_SUFFIX};

/// Counts of one component's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ComponentInventory {
    /// Tensors, scale tensors too.
    pub tensors: u64,
    /// Weights and biases; scales are not parameters.
    pub parameters: u64,
    /// Bytes of weights and biases.
    pub weight_bytes: u64,
    /// Bytes of block scales, and of packed rows' scales and padding.
    pub scale_bytes: u64,
    /// Sum of the two.
    pub bytes: u64,
    /// Tensors by dtype, under the names of the safetensors format; packed ones as int8 and int4.
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

/// Counts of the tensors in one packed format.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PackedInventory {
    /// Tensors; a layer's routed experts are two.
    pub tensors: u64,
    /// Weights in them.
    pub parameters: u64,
    /// Bytes of them, scales and padding too.
    pub bytes: u64,
}

impl PackedInventory {
    /// Bits that a weight takes, with its share of scales and padding.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes as f64 / self.parameters.max(1) as f64
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
    /// Each packed format that is there, as `int4/32`: codes, and columns of a group.
    pub packed: BTreeMap<String, PackedInventory>,
}

impl Inventory {
    /// Counts all tensors of a checkpoint. Reads no data.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let layout = Layout::new(checkpoint.args());
        let mut components: BTreeMap<Component, ComponentInventory> = BTreeMap::new();
        let mut packed: BTreeMap<GroupFormat, PackedInventory> = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            let entry = components
                .entry(layout.component_of(tensor.name()))
                .or_default();
            entry.tensors += 1;
            entry.bytes += tensor.byte_len();
            let mut dtype = tensor.dtype().name();
            if let Some(weight) = checkpoint.packed(tensor.name()) {
                dtype = weight.format.bits().name();
                entry.parameters += weight.num_elements();
                entry.weight_bytes += weight.code_bytes();
                entry.scale_bytes += tensor.byte_len() - weight.code_bytes();
                let counts = packed.entry(weight.format).or_default();
                counts.tensors += 1;
                counts.parameters += weight.num_elements();
                counts.bytes += tensor.byte_len();
            } else if is_scale(checkpoint, tensor.name()) {
                entry.scale_bytes += tensor.byte_len();
            } else {
                entry.parameters += tensor.num_elements() as u64;
                entry.weight_bytes += tensor.byte_len();
            }
            *entry.dtypes.entry(dtype).or_default() += 1;
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
            packed: packed
                .into_iter()
                .map(|(format, counts)| (format.to_string(), counts))
                .collect(),
        }
    }

    /// Bytes of weights and scales that one token's pass reads of a model of this configuration, as
    /// they lie in the files: the chosen ones of the routed experts (`num_experts_per_tok`), one
    /// row of the embedding and all of it where it is the head too, everything else. MTP modules are
    /// not read.
    pub fn weight_bytes_read(&self, args: &ModelArgs) -> u64 {
        let known = self.components.iter();
        let main = known.filter(|(of, _)| !of.is_mtp() && **of != Component::Other);
        let read = main.map(|(component, counts)| match component {
            Component::RoutedExperts => {
                let chosen = u128::from(counts.bytes) * args.num_experts_per_tok as u128;
                let bytes = chosen / args.n_routed_experts.max(1) as u128;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Component::Embedding => {
                let row = counts.bytes / args.vocab_size.max(1) as u64;
                let head = if args.tie_word_embeddings {
                    counts.bytes
                } else {
                    0
                };
                row.saturating_add(head)
            }
            _ => counts.bytes,
        });
        read.fold(0, u64::saturating_add)
    }
}

/// Whether a tensor is the scales of another one that is there.
pub(crate) fn is_scale(checkpoint: &Checkpoint, name: &str) -> bool {
    name.strip_suffix(SCALE_SUFFIX)
        .is_some_and(|weight| checkpoint.get(weight).is_some())
}
