//! Whether a checkpoint holds what its configuration implies.

use std::collections::HashSet;
use std::fmt;

use crate::error::shown;
use crate::layout::Layout;
use crate::{Checkpoint, Dtype, SCALE_SUFFIX, WeightsError};

/// Something about a checkpoint that does not stop it from being run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// `num_nextn_predict_layers` promises MTP modules whose tensors are not (all) there, as in
    /// many conversions. The main model runs without them.
    MissingMtp {
        /// How many tensors are missing.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Tensors that the layout does not know. They are left alone.
    ExtraTensors {
        /// How many there are.
        count: usize,
        /// Up to eight names.
        first: Vec<String>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingMtp { count, first } => write!(
                f,
                "{count} tensors of the MTP modules are missing, beginning with `{first}`; the model runs, without drafting"
            ),
            Self::ExtraTensors { count, first } => write!(
                f,
                "{count} tensors are not of the published layout and stay unused, beginning with {first:?}"
            ),
        }
    }
}

/// How many names an error or a warning lists.
const LISTED: usize = 8;

impl Checkpoint {
    /// Checks that every tensor of the layout is there with the right shape and a readable dtype,
    /// and that fp8 weights have scales of the right shape. Reads headers only, no data.
    ///
    /// # Errors
    /// [`WeightsError::IncompleteLayout`], [`WeightsError::WrongShape`],
    /// [`WeightsError::WrongDtype`], [`WeightsError::MissingScale`],
    /// [`WeightsError::UndeclaredQuantization`]. Missing MTP tensors and tensors of no known
    /// purpose are only warned of.
    pub fn verify(&self) -> Result<Vec<Warning>, WeightsError> {
        let layout = Layout::new(self.args());
        let mut known: HashSet<String> = HashSet::with_capacity(self.num_tensors());
        let mut missing: Vec<String> = Vec::new();
        let mut missing_mtp: Vec<String> = Vec::new();
        let (mut missing_count, mut missing_mtp_count) = (0, 0);
        for spec in layout.tensors() {
            // Packed tensors were checked against the layout when the folder was opened.
            if self.packed(&spec.name).is_some() {
                known.insert(spec.name);
                continue;
            }
            if let Some((place, _)) = self.stack_holding(&spec.name) {
                known.insert(place.stack);
                continue;
            }
            let Some(tensor) = self.get(&spec.name) else {
                let (list, count) = if spec.component.is_mtp() {
                    (&mut missing_mtp, &mut missing_mtp_count)
                } else {
                    (&mut missing, &mut missing_count)
                };
                *count += 1;
                if list.len() < LISTED {
                    list.push(spec.name);
                }
                continue;
            };
            tensor.expect_shape(&spec.shape)?;
            match tensor.dtype() {
                Dtype::F32 | Dtype::BF16 | Dtype::F16 => {}
                Dtype::F8E4M3 if spec.quantizable => {
                    known.insert(self.scale_tensor(&tensor)?.1.name().to_owned());
                }
                found => {
                    return Err(WeightsError::WrongDtype {
                        file: tensor.file().into(),
                        tensor: spec.name,
                        found,
                        expected: if spec.quantizable {
                            "F32, BF16, F16 and F8_E4M3"
                        } else {
                            "F32, BF16 and F16"
                        },
                    });
                }
            }
            known.insert(spec.name);
        }
        if missing_count > 0 {
            return Err(WeightsError::IncompleteLayout {
                location: self.dir().into(),
                count: missing_count,
                first: missing,
            });
        }
        let mut warnings = Vec::new();
        if let Some(first) = missing_mtp.into_iter().next() {
            warnings.push(Warning::MissingMtp {
                count: missing_mtp_count,
                first,
            });
        }
        let extra = || self.tensors().filter(|t| !known.contains(t.name()));
        let count = extra().count();
        if count > 0 {
            let first = extra().take(LISTED).map(|t| shown(t.name())).collect();
            warnings.push(Warning::ExtraTensors { count, first });
        }
        Ok(warnings)
    }

    /// Counts fp8 weights by whether all their scales are powers of two. Reads every scale tensor
    /// (166 MB for V3.1), no weights.
    ///
    /// # Errors
    /// As [`Checkpoint::linear`] for a weight whose scales are missing or impossible.
    pub fn scale_census(&self) -> Result<ScaleCensus, WeightsError> {
        let mut census = ScaleCensus::default();
        for weight in self.tensors().filter(|t| t.dtype() == Dtype::F8E4M3) {
            if weight.name().ends_with(SCALE_SUFFIX) {
                continue;
            }
            let (_, scales) = self.block_scales(&weight)?;
            if scales.iter().all(|s| crate::fp8::is_power_of_two(*s)) {
                census.power_of_two += 1;
            } else {
                census.any_value += 1;
                census
                    .first_any_value
                    .get_or_insert_with(|| shown(weight.name()));
            }
        }
        Ok(census)
    }
}

/// How the fp8 weights of a checkpoint are scaled.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScaleCensus {
    /// Weights all of whose scales are powers of two.
    pub power_of_two: u64,
    /// Weights with at least one other scale.
    pub any_value: u64,
    /// The first of the latter.
    pub first_any_value: Option<String>,
}
