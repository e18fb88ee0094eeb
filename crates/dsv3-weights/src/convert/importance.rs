//! Which columns of a weight matter, as a calibration found out.

use std::collections::BTreeMap;

use crate::WeightsError;
use crate::group::check_importance;

/// For weights by name, how much an error in each column counts: the mean square of what the
/// column is multiplied with. Weights that are not named count all columns the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance(BTreeMap<String, Vec<f32>>);

impl Importance {
    /// From names in the published layout and values `[in]`.
    ///
    /// # Errors
    /// [`WeightsError::CannotPack`] for a value that is negative or not finite.
    pub fn new(by_weight: BTreeMap<String, Vec<f32>>) -> Result<Self, WeightsError> {
        for values in by_weight.values() {
            check_importance(values)?;
        }
        Ok(Self(by_weight))
    }

    /// How many weights it knows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That of weight `name` with so many columns. Where nothing at all reached a weight, or where
    /// the numbers are another weight's, all columns count the same.
    pub(super) fn of(&self, name: &str, columns: usize) -> Option<&[f32]> {
        let values = self.0.get(name)?;
        let fits = values.len() == columns && values.iter().any(|value| *value > 0.0);
        fits.then_some(values)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.0
            .iter()
            .map(|(name, values)| (name.as_str(), &values[..]))
    }
}
