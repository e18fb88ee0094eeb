//! Building checkpoints, honest and hostile ones.
#![allow(dead_code)] // each test binary uses its own part

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dsv3_weights::{Checkpoint, Dtype};

/// The folder of a golden checkpoint.
pub(crate) fn golden_dir(set: &str) -> PathBuf {
    format!(
        "{}/../../fixtures/golden/{set}/model",
        env!("CARGO_MANIFEST_DIR")
    )
    .into()
}

/// A golden checkpoint.
pub(crate) fn golden(set: &str) -> Checkpoint {
    Checkpoint::open(golden_dir(set)).unwrap()
}

/// A tensor to be written: name, dtype as text, shape, data.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<u8>,
}

impl Raw {
    pub(crate) fn new(name: &str, dtype: Dtype, shape: &[u64], data: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            dtype: dtype.name().into(),
            shape: shape.to_vec(),
            data,
        }
    }
}

/// Every tensor of a checkpoint, to be changed and written again.
pub(crate) fn tensors_of(checkpoint: &Checkpoint) -> Vec<Raw> {
    let raw = |t: dsv3_weights::TensorView<'_>| {
        let shape: Vec<u64> = t.shape().iter().map(|d| *d as u64).collect();
        Raw::new(t.name(), t.dtype(), &shape, t.bytes().to_vec())
    };
    checkpoint.tensors().map(raw).collect()
}

/// A well-formed safetensors file of these tensors.
pub(crate) fn safetensors_bytes(tensors: &[Raw]) -> Vec<u8> {
    let mut at = 0;
    let mut entries = Vec::new();
    for t in tensors {
        let end = at + t.data.len();
        let name = serde_json::Value::from(t.name.as_str());
        entries.push(format!(
            r#"{name}:{{"dtype":"{}","shape":{:?},"data_offsets":[{at},{end}]}}"#,
            t.dtype, t.shape
        ));
        at = end;
    }
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.data.clone()).collect();
    file_bytes(&format!("{{{}}}", entries.join(",")), &data)
}

/// A safetensors file of this header text and this data.
pub(crate) fn file_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// A folder with this model file and the configuration of a golden set.
pub(crate) fn write_checkpoint(dir: &Path, set: &str, model: &[u8]) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::copy(golden_dir(set).join("config.json"), dir.join("config.json")).unwrap();
    std::fs::write(dir.join("model.safetensors"), model).unwrap();
}

/// Every file of a folder with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries
        .map(|p| (p.file_name().unwrap().into(), std::fs::read(&p).unwrap()))
        .collect()
}
