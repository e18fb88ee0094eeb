//! What a parameter takes.

use std::collections::BTreeMap;

use dsv3_weights::{Component, ComponentPlan};

/// How many bytes a parameter of each component takes in a checkpoint, scales and padding
/// included: a recipe gives each its own format.
#[derive(Debug)]
pub(super) struct Size {
    of: BTreeMap<Component, f64>,
    /// Of all of them, for components that are not there.
    all: f64,
}

impl Size {
    /// From components with their parameters and bytes.
    pub(super) fn new(counts: impl Iterator<Item = (Component, u64, u64)>) -> Self {
        let main = counts.filter(|(of, parameters, _)| {
            !of.is_mtp() && *of != Component::Other && *parameters > 0
        });
        let (mut of, mut parameters, mut bytes) = (BTreeMap::new(), 0.0, 0.0);
        for (component, of_it, bytes_of_it) in main {
            parameters += of_it as f64;
            bytes += bytes_of_it as f64;
            of.insert(component, bytes_of_it as f64 / of_it as f64);
        }
        Size {
            of,
            all: bytes / f64::max(parameters, 1.0),
        }
    }

    /// Bytes of a component of another model.
    pub(super) fn bytes(&self, of: Component, planned: &ComponentPlan) -> f64 {
        let each = self.of.get(&of).copied().unwrap_or(self.all);
        each * planned.parameters as f64
    }
}
