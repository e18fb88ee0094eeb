//! A run's state on disk: enough to go on to the same losses.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::export::write_file;
use crate::parameters::{Moments, ParameterSet};

const FILE: &str = "state.safetensors";
const PROGRESS: &str = "progress";

/// Where a run stands, beside its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunProgress<P> {
    /// Steps taken.
    pub step: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Where the data stands.
    pub data: P,
    /// A fingerprint of what the run was told to do; a different one is refused.
    pub recipe: String,
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Write the state of a run to `dir`, in one file and one rename.
///
/// # Errors
/// [`TrainError::Write`], [`TrainError::Device`].
pub fn save_state<P: Serialize>(
    dir: &Path,
    parameters: &ParameterSet,
    progress: &RunProgress<P>,
) -> Result<(), TrainError> {
    let path = dir.join(FILE);
    let failed = |source| TrainError::Write {
        path: path.clone(),
        source,
    };
    let mut tensors = Vec::new();
    for parameter in parameters.iter() {
        let name = &parameter.name;
        tensors.push((format!("value.{name}"), bytes(&parameter.values()?)));
        if let Some(moments) = parameter.moments()? {
            tensors.push((format!("first.{name}"), bytes(&moments.first)));
            tensors.push((format!("second.{name}"), bytes(&moments.second)));
            let time = (moments.time as u64).to_le_bytes();
            tensors.push((format!("time.{name}"), time.to_vec()));
        }
    }
    let views = tensors.iter().map(|(name, bytes)| {
        let (dtype, len) = match name.starts_with("time.") {
            true => (Dtype::U64, 1),
            false => (Dtype::F32, bytes.len() / 4),
        };
        TensorView::new(dtype, vec![len], bytes).map(|view| (name.as_str(), view))
    });
    let views = views
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let progress =
        serde_json::to_string(progress).map_err(|error| failed(std::io::Error::other(error)))?;
    let metadata = [(PROGRESS.to_owned(), progress)].into();
    let data = safetensors::serialize(views, Some(metadata))
        .map_err(|error| failed(std::io::Error::other(error)))?;
    fs::create_dir_all(dir).map_err(failed)?;
    write_file(&path, &data)
}

/// Whether `dir` holds the state of a run.
pub fn has_state(dir: &Path) -> bool {
    dir.join(FILE).is_file()
}

/// Read the state of a run into `parameters`.
///
/// # Errors
/// [`TrainError::State`] when the file is none, or of another model.
pub fn load_state<P: DeserializeOwned>(
    dir: &Path,
    parameters: &mut ParameterSet,
) -> Result<RunProgress<P>, TrainError> {
    let path = dir.join(FILE);
    let wrong = |problem: String| TrainError::State {
        path: path.clone(),
        problem,
    };
    let data = fs::read(&path).map_err(|source| TrainError::Read {
        path: path.clone(),
        source,
    })?;
    let (_, metadata) =
        SafeTensors::read_metadata(&data).map_err(|error| wrong(error.to_string()))?;
    let progress = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(PROGRESS))
        .ok_or_else(|| wrong("it does not say where the run stood".into()))?;
    let progress = serde_json::from_str(progress).map_err(|error| wrong(error.to_string()))?;
    let tensors = SafeTensors::deserialize(&data).map_err(|error| wrong(error.to_string()))?;
    let read = |prefix: &str, name: &str, len: usize| -> Result<Vec<f32>, TrainError> {
        let view = tensors
            .tensor(&format!("{prefix}.{name}"))
            .map_err(|error| wrong(error.to_string()))?;
        let (values, _) = view.data().as_chunks::<4>();
        match view.dtype() == Dtype::F32 && values.len() == len {
            true => Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            false => Err(wrong(format!(
                "{prefix}.{name} has {} values where the model has {len}; is it another model's?",
                values.len()
            ))),
        }
    };
    for parameter in parameters.iter_mut() {
        let (name, len) = (parameter.name.clone(), parameter.shape.iter().product());
        let values = read("value", &name, len)?;
        let moments = match tensors.tensor(&format!("time.{name}")) {
            Ok(time) => {
                let time = time.data().first_chunk::<8>().copied().unwrap_or_default();
                Some(Moments {
                    time: u64::from_le_bytes(time) as usize,
                    first: read("first", &name, len)?,
                    second: read("second", &name, len)?,
                })
            }
            Err(_) => None,
        };
        parameter.restore(values, moments);
    }
    Ok(progress)
}
