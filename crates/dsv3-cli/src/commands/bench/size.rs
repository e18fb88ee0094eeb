//! What weights take that do not all have one format.

use std::collections::BTreeMap;

use dsv3_weights::{Component, ComponentPlan, Plan};

/// How many times as much each component of a checkpoint takes as it would in the format of most
/// weights: a recipe gives each its own. One for what is not there.
#[derive(Debug)]
pub(super) struct Size(BTreeMap<Component, f64>);

impl Size {
    /// From the bytes of each component, and what is planned of the same model in one format.
    pub(super) fn new(bytes: impl Iterator<Item = (Component, u64)>, planned: &Plan) -> Self {
        let times = bytes.filter_map(|(component, bytes)| {
            let planned = planned.components.get(&component)?.bytes;
            (planned > 0).then(|| (component, bytes as f64 / planned as f64))
        });
        Size(times.collect())
    }

    /// Bytes of a component of another model, of which so many are planned in that format.
    pub(super) fn bytes(&self, of: Component, planned: &ComponentPlan) -> f64 {
        self.0.get(&of).copied().unwrap_or(1.0) * planned.bytes as f64
    }
}
