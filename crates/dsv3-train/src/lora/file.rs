//! An adapter in PEFT's files.

use std::path::Path;

use dsv3_weights::AdapterConfig;
use dsv3_weights::adapter::{ADAPTER_CONFIG, ADAPTER_MODEL};
use safetensors::tensor::{Dtype, TensorView};

use crate::error::TrainError;
use crate::export::write_file;
use crate::parameters::{Parameter, ParameterSet};

/// Write the factors of `parameters` to `dir` as `adapter_model.safetensors` (f32) and their
/// configuration as `adapter_config.json`, each by a rename. The factors come first: a folder with
/// a configuration has both.
///
/// # Errors
/// [`TrainError::Write`], [`TrainError::Device`].
pub fn write_adapter(
    dir: &Path,
    parameters: &ParameterSet,
    config: &AdapterConfig,
) -> Result<(), TrainError> {
    let path = dir.join(ADAPTER_MODEL);
    let failed = |error| TrainError::Write {
        path: path.clone(),
        source: std::io::Error::other(error),
    };
    let bytes = |parameter: &Parameter| -> Result<Vec<u8>, TrainError> {
        let values = parameter.values()?;
        Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    };
    let mut tensors = Vec::new();
    for (_, a, b) in parameters.factors() {
        for parameter in [a, b] {
            tensors.push((&parameter.name, &parameter.shape, bytes(parameter)?));
        }
    }
    // The map behind them has no order of its own.
    tensors.sort_by_key(|(name, ..)| *name);
    let views = tensors.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, (*shape).clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let data = safetensors::serialize(views, Some(metadata)).map_err(failed)?;
    write_file(&path, &data)?;
    write_file(&dir.join(ADAPTER_CONFIG), config.to_json().as_bytes())
}
