//! The ways in which a checkpoint can lie, and the ways in which a disk can refuse.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Dtype;

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
        "no space left while writing {path}: {needed} more bytes are needed there. Free that much and run the same command again; finished shards are kept"
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

    /// The file ends before its header length does.
    #[error(
        "{file} is {len} bytes long: too short for a safetensors file, which starts with 8 bytes of header length. The download was cut off: fetch it again"
    )]
    HeaderTruncated {
        /// The safetensors file.
        file: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// The header length is beyond the format's bound.
    #[error(
        "{file} claims a header of {claimed} bytes; the format allows {limit}. This is not a safetensors file, or it is damaged: fetch it again"
    )]
    HeaderTooLarge {
        /// The safetensors file.
        file: PathBuf,
        /// The length that it claims.
        claimed: u64,
        /// The format's bound.
        limit: u64,
    },
    /// The header would end behind the end of the file.
    #[error(
        "{file} claims a header of {claimed} bytes but holds only {available} after the length. The download was cut off: fetch it again"
    )]
    HeaderOutOfFile {
        /// The safetensors file.
        file: PathBuf,
        /// The length that it claims.
        claimed: u64,
        /// The bytes that are there.
        available: u64,
    },
    /// The header is not the JSON that the format demands.
    #[error("{file}: the header is not valid: {problem}. The file is damaged: fetch it again")]
    HeaderJson {
        /// The safetensors file.
        file: PathBuf,
        /// What the JSON reader found, with the tensor where known, line and column.
        problem: String,
    },
    /// One name stands twice in one header.
    #[error("{file}: tensor `{tensor}` is listed twice. Only its writer can say which is meant")]
    DuplicateTensor {
        /// The safetensors file.
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
    /// A dtype that this crate cannot measure.
    #[error("{file}: tensor `{tensor}` has unknown dtype `{dtype}`")]
    UnknownDtype {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dtype as written.
        dtype: String,
    },
    /// The product of a shape exceeds what can be counted.
    #[error(
        "{file}: tensor `{tensor}` of shape {shape:?} has more bytes than 64 bits can count. The header lies"
    )]
    ShapeOverflow {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape as written.
        shape: Vec<u64>,
    },
    /// A tensor ends before it begins.
    #[error("{file}: tensor `{tensor}` runs from {begin} to {end}, backwards. The header lies")]
    OffsetsReversed {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte, counted from the start of the data.
        begin: u64,
        /// One past the last byte.
        end: u64,
    },
    /// A tensor reaches past the end of the file.
    #[error(
        "{file}: tensor `{tensor}` runs from {begin} to {end} but the file holds {available} bytes of data. The download was cut off: fetch it again"
    )]
    OffsetsOutOfFile {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// First byte, counted from the start of the data.
        begin: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes of data in the file.
        available: u64,
    },
    /// Shape times dtype is not the number of bytes given.
    #[error(
        "{file}: tensor `{tensor}` of dtype {dtype} and shape {shape:?} needs {needed} bytes but its offsets span {given}. The header lies"
    )]
    ShapeBytesMismatch {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes that shape and dtype demand.
        needed: u64,
        /// Bytes between the offsets.
        given: u64,
    },
    /// Two tensors share bytes.
    #[error("{file}: tensors `{first}` and `{second}` overlap at byte {at}. The header lies")]
    Overlap {
        /// The safetensors file.
        file: PathBuf,
        /// The tensor that begins first.
        first: String,
        /// The tensor that begins inside it.
        second: String,
        /// Where the second begins.
        at: u64,
    },
    /// Bytes that belong to no tensor.
    #[error(
        "{file}: the data bytes from {begin} to {end} belong to no tensor. The header was shortened or the file has something hidden in it: fetch it again"
    )]
    Hole {
        /// The safetensors file.
        file: PathBuf,
        /// First unowned byte.
        begin: u64,
        /// One past the last unowned byte.
        end: u64,
    },

    /// The index is not the JSON that the layout demands.
    #[error("{file} is not a readable index: {problem}. Fetch it again")]
    IndexJson {
        /// The index file.
        file: PathBuf,
        /// What the JSON reader found.
        problem: String,
    },
    /// The index names something other than a file of its own folder.
    #[error(
        "{file} sends `{tensor}` to `{target}`, which is not a plain file name. An index may only name files beside it: do not use this checkpoint"
    )]
    IndexPathEscape {
        /// The index file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file as named by the index.
        target: String,
    },
    /// The index names a shard that is not there.
    #[error(
        "{shard} is named by the index and missing ({tensors} tensors live in it). Download that shard"
    )]
    MissingShard {
        /// Where the shard should be.
        shard: PathBuf,
        /// How many tensors the index puts there.
        tensors: usize,
    },
    /// The index says that a shard holds a tensor and it does not.
    #[error(
        "the index says that `{tensor}` is in {shard}, which does not hold it. Index and shards are of different downloads: fetch both again"
    )]
    IndexMismatch {
        /// The tensor.
        tensor: String,
        /// The shard that should hold it.
        shard: PathBuf,
    },
    /// A shard holds a tensor that the index does not know, or places elsewhere.
    #[error(
        "{shard} holds `{tensor}`, which the index does not place there. Index and shards are of different downloads: fetch both again"
    )]
    IndexUnlisted {
        /// The tensor.
        tensor: String,
        /// The shard that holds it.
        shard: PathBuf,
    },

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
        "element {index} of `{tensor}` in {file} is not a finite number. Converting would spread it over its block: the checkpoint is damaged"
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
        "{path} holds a half-finished checkpoint of other weights or with other options. Remove it, or choose another output"
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
    /// A folder that should hold an adapter.
    #[error(
        "{dir} holds no adapter: {missing} is not there. Name the folder that `dsv3 finetune` or PEFT's save_pretrained wrote (with safetensors, not .bin)"
    )]
    AdapterFolder {
        /// The folder.
        dir: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// An adapter's configuration that can't be read, or asks for what is not supported.
    #[error("{file}: field `{field}` {problem}")]
    AdapterField {
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
    AdapterTensor {
        /// The adapter's safetensors file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// Factors of what the base does not have, or of what can't be changed.
    #[error("{file} changes `{module}`, {problem}")]
    AdapterModule {
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
    AdapterShape {
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
    AdapterRank {
        /// The adapter's safetensors file.
        file: PathBuf,
        /// The module.
        module: String,
        /// The rank of its factors.
        found: usize,
        /// What `r` or `rank_pattern` says.
        expected: usize,
    },
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
