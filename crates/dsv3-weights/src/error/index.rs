//! The ways in which model.safetensors.index.json can lie.

use std::path::PathBuf;

/// What model.safetensors.index.json says of the files beside it, and is not so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The index is not the JSON that the layout demands.
    #[error("{file} is not a readable index: {problem}. Fetch it again")]
    Json {
        /// The index file.
        file: PathBuf,
        /// What the JSON reader found.
        problem: String,
    },
    /// The index names something other than a file of its own folder.
    #[error(
        "{file} sends `{tensor}` to `{target}`, which is not a plain file name. An index may only name files beside it: do not use this checkpoint"
    )]
    PathEscape {
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
    Mismatch {
        /// The tensor.
        tensor: String,
        /// The shard that should hold it.
        shard: PathBuf,
    },
    /// A shard holds a tensor that the index does not know, or places elsewhere.
    #[error(
        "{shard} holds `{tensor}`, which the index does not place there. Index and shards are of different downloads: fetch both again"
    )]
    Unlisted {
        /// The tensor.
        tensor: String,
        /// The shard that holds it.
        shard: PathBuf,
    },
}
