//! What a model's weights are multiplied with.

use std::collections::BTreeMap;
use std::sync::Arc;

use dsv3_kernels::InputSquares;

use crate::parameters::ParameterMut;
use crate::transformer::Transformer;

/// Watches the inputs of every linear layer of a model.
#[derive(Debug, Default)]
pub struct Calibration(BTreeMap<String, Arc<InputSquares>>);

impl Calibration {
    /// Watch `model` from now on. Its routed experts then run one by one, which is slower.
    pub fn watch(model: &mut Transformer) -> Self {
        let mut watchers = BTreeMap::new();
        model.visit_parameters(&mut |name, parameter| {
            if let ParameterMut::Matrix(weight) = parameter {
                let watcher = Arc::new(InputSquares::default());
                *weight = weight.clone().watched(watcher.clone());
                watchers.insert(name.to_owned(), watcher);
            }
        });
        Calibration(watchers)
    }

    /// The mean square of each input column `[in]`, by the weight's name in the published layout.
    /// A weight that nothing reached, such as an expert that no token chose, is not among them.
    pub fn mean_squares(&self) -> BTreeMap<String, Vec<f32>> {
        let found = self.0.iter();
        let found = found.filter_map(|(name, watcher)| Some((name.clone(), watcher.mean()?)));
        found.collect()
    }

    /// Weights that nothing reached so far. Those of `kv_b_proj` are always among them: attention
    /// meets that weight in a form of its own.
    pub fn unreached(&self) -> usize {
        self.0
            .values()
            .filter(|watcher| watcher.rows() == 0)
            .count()
    }
}
