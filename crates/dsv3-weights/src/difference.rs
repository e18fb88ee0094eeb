//! How far the values of one checkpoint lie from those of another, tensor by tensor.

use crate::layout::{Component, Layout, TensorSpec};
use crate::{Checkpoint, WeightsError};

/// One weight of two checkpoints held against each other.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TensorDifference {
    /// Its name in the published layout.
    pub name: String,
    /// What it is for.
    pub component: Component,
    /// Values.
    pub elements: u64,
    /// `‖other − base‖ / ‖base‖`; 0 where both are zero.
    pub relative_rms: f64,
    /// The largest difference of two values.
    pub max_abs: f32,
}

/// The differences of one component's weights together.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ComponentDifference {
    /// What they are for.
    pub component: Component,
    /// Weights.
    pub tensors: u64,
    /// Values.
    pub elements: u64,
    /// Root of the mean of the weights' squared relative differences, by number of values.
    pub relative_rms: f64,
    /// The weight that is furthest off, and how far.
    pub worst: (String, f64),
}

impl TensorDifference {
    fn new(name: String, component: Component, base: &[f32], other: &[f32]) -> Self {
        let (mut error, mut size, mut max_abs) = (0f64, 0f64, 0f32);
        for (base, other) in base.iter().zip(other) {
            let difference = other - base;
            error += f64::from(difference).powi(2);
            size += f64::from(*base).powi(2);
            max_abs = max_abs.max(difference.abs());
        }
        let relative_rms = match error == 0.0 {
            true => 0.0,
            false => (error / size).sqrt(),
        };
        TensorDifference {
            name,
            component,
            elements: base.len() as u64,
            relative_rms,
            max_abs,
        }
    }
}

/// Every weight of `base` against the one of the same name in `other`, whatever formats they are
/// in. Two weights are in memory at a time. `on_tensor` hears of each, and how many there are.
///
/// Weights of MTP modules that either of the two lacks are left out, as the model runs without
/// them: many checkpoints have them cut off, and then there is nothing to compare. How many were
/// compared stands in [`ComponentDifference::tensors`].
///
/// # Errors
/// [`WeightsError::OtherModel`] where the configurations differ in anything that a weight's shape
/// follows from, [`WeightsError::MissingTensor`] for a weight of the main model, and what else is
/// wrong with either checkpoint.
pub fn differences(
    base: &Checkpoint,
    other: &Checkpoint,
    on_tensor: &mut dyn FnMut(&TensorDifference, u64),
) -> Result<Vec<TensorDifference>, WeightsError> {
    let layout = Layout::new(base.args());
    let others = Layout::new(other.args());
    let shapes = |(a, b): (TensorSpec, TensorSpec)| a.name == b.name && a.shape == b.shape;
    if layout.num_tensors() != others.num_tensors()
        || !layout.tensors().zip(others.tensors()).all(shapes)
    {
        return Err(WeightsError::OtherModel {
            base: base.dir().into(),
            other: other.dir().into(),
        });
    }
    let both = |name: &str| base.holds_weight(name) && other.holds_weight(name);
    let compared = || {
        let tensors = layout.tensors();
        tensors.filter(|spec| !spec.component.is_mtp() || both(&spec.name))
    };
    let total = compared().count() as u64;
    let mut all = Vec::new();
    for spec in compared() {
        let read = |checkpoint: &Checkpoint| match spec.shape[..] {
            [rows, columns] => checkpoint.matrix_f32(&spec.name, [rows, columns]),
            _ => checkpoint.vector(&spec.name, spec.shape.iter().product()),
        };
        let (ours, theirs) = (read(base)?, read(other)?);
        let difference = TensorDifference::new(spec.name.clone(), spec.component, &ours, &theirs);
        on_tensor(&difference, total);
        all.push(difference);
    }
    Ok(all)
}

/// The same by component, in the order of reports.
pub fn by_component(differences: &[TensorDifference]) -> Vec<ComponentDifference> {
    let mut components: Vec<Component> = differences.iter().map(|d| d.component).collect();
    components.sort_unstable();
    components.dedup();
    let sum = |component: Component| {
        let of = || differences.iter().filter(move |d| d.component == component);
        let elements: u64 = of().map(|d| d.elements).sum();
        let squares = of().map(|d| d.relative_rms.powi(2) * d.elements as f64);
        let worst = of().max_by(|a, b| a.relative_rms.total_cmp(&b.relative_rms))?;
        Some(ComponentDifference {
            component,
            tensors: of().count() as u64,
            elements,
            relative_rms: (squares.sum::<f64>() / elements.max(1) as f64).sqrt(),
            worst: (worst.name.clone(), worst.relative_rms),
        })
    };
    components.into_iter().filter_map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, component: Component, base: &[f32], other: &[f32]) -> TensorDifference {
        TensorDifference::new(name.to_owned(), component, base, other)
    }

    /// Breaks with: a difference measured against the wrong checkpoint, a root left out, a mean
    /// that counts a small weight as much as a large one.
    #[test]
    fn differences_are_relative_and_weighed_by_size() {
        let small = tensor("a", Component::Attention, &[3.0, 4.0], &[3.0, 9.0]);
        assert_eq!((small.relative_rms, small.max_abs), (1.0, 5.0));
        let same = tensor("b", Component::Attention, &[0.0; 6], &[0.0; 6]);
        assert_eq!(same.relative_rms, 0.0);
        let norm = tensor("n", Component::Norm, &[1.0], &[0.5]);
        let [norms, attention] = &by_component(&[small, same, norm])[..] else {
            panic!("two components")
        };
        assert_eq!(
            (norms.component, norms.relative_rms),
            (Component::Norm, 0.5)
        );
        assert_eq!((attention.tensors, attention.elements), (2, 8));
        assert_eq!(attention.relative_rms, 0.5); // 1 in 2 of 8 values
        assert_eq!(attention.worst, ("a".to_owned(), 1.0));
    }
}
