//! The ways in which a checkpoint can lie, and the ways in which a disk can refuse.

mod adapter;
mod header;
mod index;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use adapter::AdapterError;
pub use header::HeaderError;
pub use index::IndexError;

use crate::Dtype;
use crate::memory_size::human_bytes;

/// Everything that can go wrong between a directory and a list of named tensors.
///
/// A message says what was wrong, in which file, tensor or field, and what would mend it. Names
/// that come from a file are shortened and escaped before they are shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb: "open", "map", "rename".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The disk filled while something was written.
    #[error(
        "no space left while writing {path}: {} ({needed} bytes) more are needed there. Free that much and run the same command again; finished shards are kept",
        human_bytes(*needed)
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes still to be written, this file and all that follow.
        needed: u64,
    },
    /// The path is not a directory.
    #[error(
        "{path} is not a directory. Name the folder that holds config.json and the .safetensors files"
    )]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// A name that should be an ordinary file is a directory, a pipe or a device.
    #[error("{path} is not an ordinary file, so it cannot be mapped. Put the real file there")]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// No weights in the directory.
    #[error(
        "{dir} holds neither model.safetensors nor model.safetensors.index.json. Download the weights into it, or name the folder that has them"
    )]
    NoWeights {
        /// The directory searched.
        dir: PathBuf,
    },
    /// A JSON file is larger than any honest one.
    #[error(
        "{path} is {size} bytes long; at most {limit} are read. It is not what its name says: fetch it again"
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },

    /// `config.json` is not JSON, or nested beyond reason.
    #[error("{file} is not a readable configuration: {problem}. Fetch config.json again")]
    ConfigJson {
        /// The configuration file.
        file: PathBuf,
        /// What the JSON reader found, with line and column.
        problem: String,
    },
    /// A field of `config.json` is missing or impossible.
    #[error("{file}: field `{field}` {problem}")]
    ConfigField {
        /// The configuration file.
        file: PathBuf,
        /// The field's published name, with a dot for nested ones.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The header of a safetensors file lies.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// One name stands twice in one header, or in one index.
    #[error("{file}: tensor `{tensor}` is listed twice. Only its writer can say which is meant")]
    DuplicateTensor {
        /// The safetensors file, or the index.
        file: PathBuf,
        /// The name.
        tensor: String,
    },
    /// One name stands in two shards.
    #[error(
        "tensor `{tensor}` is in both {first} and {second}. Two downloads may be mixed in one folder: remove the stale shards"
    )]
    DuplicateAcrossFiles {
        /// The name.
        tensor: String,
        /// The shard that was read first.
        first: PathBuf,
        /// The other shard.
        second: PathBuf,
    },
    /// model.safetensors.index.json lies.
    #[error(transparent)]
    Index(#[from] IndexError),

    /// A tensor that the model needs is not in the checkpoint.
    #[error("tensor `{tensor}` is not in {location}")]
    MissingTensor {
        /// The name.
        tensor: String,
        /// The directory or file searched.
        location: PathBuf,
    },
    /// Two checkpoints that are not versions of one model.
    #[error(
        "{base} and {other} have weights of different names or shapes: only two versions of one model can be compared"
    )]
    OtherModel {
        /// The one.
        base: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Several tensors that the published layout demands are missing.
    #[error(
        "{count} tensors of the layout that config.json describes are not in {location}; the first are {first:?}. config.json may belong to another model, or shards are missing"
    )]
    IncompleteLayout {
        /// The directory searched.
        location: PathBuf,
        /// How many are missing.
        count: usize,
        /// Up to eight of their names.
        first: Vec<String>,
    },
    /// A tensor's shape is not what `config.json` implies.
    #[error(
        "tensor `{tensor}` in {file} has shape {found:?}; config.json implies {expected:?}. One of the two belongs to another model"
    )]
    WrongShape {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the configuration implies.
        expected: Vec<usize>,
        /// What the header says.
        found: Vec<usize>,
    },
    /// An fp8 weight that is not a matrix cannot have block scales.
    #[error(
        "tensor `{tensor}` in {file} is F8_E4M3 with shape {found:?}; block scales need two dimensions"
    )]
    NotAMatrix {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the header says.
        found: Vec<usize>,
    },
    /// A tensor's dtype is not one that can be read in this place.
    #[error("tensor `{tensor}` in {file} has dtype {found}; readable here are {expected}")]
    WrongDtype {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the header says.
        found: Dtype,
        /// The dtypes accepted here.
        expected: &'static str,
    },
    /// An fp8 weight without its scales.
    #[error(
        "tensor `{tensor}` in {file} is F8_E4M3 but `{tensor}_scale_inv` is not in the checkpoint. Without its scales the weight means nothing: fetch the shard that has them"
    )]
    MissingScale {
        /// The file that holds the weight.
        file: PathBuf,
        /// The weight.
        tensor: String,
    },
    /// An fp8 weight in a checkpoint whose configuration names no block size.
    #[error(
        "tensor `{tensor}` in {file} is F8_E4M3 but config.json has no `quantization_config`. Restore that section: it holds `weight_block_size`"
    )]
    UndeclaredQuantization {
        /// The file that holds the weight.
        file: PathBuf,
        /// The weight.
        tensor: String,
    },
    /// A scale that is NaN, infinite, zero or negative.
    #[error(
        "scale {index} of `{tensor}` in {file} is {value}; scales must be finite and above zero. The file is damaged: fetch it again"
    )]
    BadScale {
        /// The file that holds the scales.
        file: PathBuf,
        /// The scale tensor.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// The value found.
        value: f32,
    },
    /// A weight that is NaN or infinite, or becomes so in the target format.
    #[error(
        "element {index} of `{tensor}` in {file} is not a finite number and would spread to others: the checkpoint is damaged; take the file anew, or from whoever made it"
    )]
    NotFinite {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position in row-major order.
        index: usize,
    },
    /// A value that has no packed form.
    #[error(
        "{what} {index} is {value}; packing needs finite numbers within the reach of an f16 scale"
    )]
    CannotPack {
        /// What was passed.
        what: &'static str,
        /// Position in row-major order.
        index: usize,
        /// The value found.
        value: f32,
    },
    /// The metadata that say how a file is packed cannot be believed.
    #[error("{file}: the metadata key `dsv3` {problem}")]
    PackedMetadata {
        /// The safetensors file.
        file: PathBuf,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// What the metadata say of one packed tensor does not fit it.
    #[error("{file}: tensor `{tensor}` {problem}")]
    PackedTensor {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// An expert's weight asked for by its published name, which lies among others.
    #[error(
        "tensor `{tensor}` is not in {file} by itself: this packed checkpoint holds all experts of the layer in `{stack}`. Read that (`Checkpoint::stacked_experts`), or convert the original to bf16"
    )]
    StackedExpert {
        /// The file that holds the stack.
        file: PathBuf,
        /// The expert's weight.
        tensor: String,
        /// The stack.
        stack: String,
    },
    /// A packed checkpoint where only others can be converted.
    #[error(
        "{dir} is packed (int8 or int4) already; packing again would round twice. Convert from the checkpoint that it was made of"
    )]
    PackedSource {
        /// The checkpoint's folder.
        dir: PathBuf,
    },
    /// A recipe that cannot be followed.
    #[error("{file}, line {line}: {problem}")]
    Recipe {
        /// The recipe.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Numbers that a caller passed do not fit each other.
    #[error("{what}: expected {expected} values, got {given}")]
    WrongLength {
        /// What was passed.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there were.
        given: usize,
    },

    /// A memory size that cannot be read.
    #[error(
        "cannot read `{text}` as a memory size: {problem}. Write for example 80GiB, 24GB or 80GiBx8"
    )]
    MemorySize {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A plan whose numbers exceed 64 bits.
    #[error(
        "{what} exceed what 64 bits can count. Ask for a shorter context, fewer sequences or fewer tokens a batch"
    )]
    PlanOverflow {
        /// What was being counted.
        what: &'static str,
    },

    /// The directory to write already exists.
    #[error("{path} exists already. Choose another name, or remove it first")]
    OutputExists {
        /// The directory.
        path: PathBuf,
    },
    /// A half-finished checkpoint of something else is in the way.
    #[error(
        "{path} holds a half-finished checkpoint of other weights, with other options, or of another version of dsv3. Remove it, or choose another output"
    )]
    ForeignPartial {
        /// The partial directory.
        path: PathBuf,
    },
    /// Another process is writing the same checkpoint.
    #[error("another process is writing {path}. Wait for it to end")]
    PartialInUse {
        /// The partial directory.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error(
        "stopped; what is finished lies in {partial}. Run the same command again to go on from there"
    )]
    Interrupted {
        /// The partial directory.
        partial: PathBuf,
    },
    /// An adapter cannot be read or applied.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// An option that makes no sense.
    #[error("option `{option}` {problem}")]
    BadOption {
        /// The option's name.
        option: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl WeightsError {
    /// For `map_err`: an I/O error with what was tried and where.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// For `map_err` of a write: a full disk is named as such, with the bytes still needed.
    pub(crate) fn write(
        path: impl AsRef<Path>,
        needed: u64,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path, needed },
            _ => Self::Io {
                action: "write",
                path,
                source,
            },
        }
    }
}

/// A name out of a file, fit to be shown: control characters escaped, at most 120 characters.
pub(crate) fn shown(name: &str) -> String {
    const LIMIT: usize = 120;
    let mut text: String = name
        .chars()
        .take(LIMIT)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(LIMIT).is_some() {
        text.push('…');
    }
    text
}
