//! The ways in which an adapter's folder can be wrong.

use std::path::PathBuf;

/// What keeps an adapter from being read or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A folder that should hold an adapter.
    #[error(
        "{dir} holds no adapter: {missing} is not there. Name the folder that `dsv3 finetune` or PEFT's save_pretrained wrote (with safetensors, not .bin)"
    )]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// An adapter's configuration that can't be read, or asks for what is not supported.
    #[error("{file}: field `{field}` {problem}")]
    Field {
        /// `adapter_config.json`
        file: PathBuf,
        /// The field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A tensor that is no factor of LoRA, or is one without its other half or with values that
    /// are none.
    #[error("{file}: tensor `{tensor}`: {problem}")]
    Tensor {
        /// The adapter's safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// Factors of what the base does not have, or of what can't be changed.
    #[error("{file} changes `{module}`, {problem}")]
    Module {
        /// The adapter's safetensors file.
        file: PathBuf,
        /// The module.
        module: String,
        /// Why that can't be, and how to mend it.
        problem: String,
    },
    /// Factors of a weight of another shape.
    #[error(
        "{file}: tensor `{tensor}` has shape {found:?} where the base needs {expected}. The adapter belongs to another base model: name that one"
    )]
    Shape {
        /// The adapter's safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that fits.
        expected: String,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// Factors of another rank than their configuration says.
    #[error(
        "{file}: the factors of `{module}` have rank {found}, adapter_config.json says {expected}. The two files are of different adapters: copy both from one"
    )]
    Rank {
        /// The adapter's safetensors file.
        file: PathBuf,
        /// The module.
        module: String,
        /// The rank of its factors.
        found: usize,
        /// What `r` or `rank_pattern` says.
        expected: usize,
    },
}
