//! The ways in which the header of a safetensors file can lie.

use std::path::PathBuf;

use crate::Dtype;

/// What a safetensors file says of its tensors, and cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file ends before its header length does.
    #[error(
        "{file} is {len} bytes long: too short for a safetensors file, which starts with 8 bytes of header length. The download was cut off: fetch it again"
    )]
    Truncated {
        /// The safetensors file.
        file: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// The header length is beyond the format's bound.
    #[error(
        "{file} claims a header of {claimed} bytes; the format allows {limit}. This is not a safetensors file, or it is damaged: fetch it again"
    )]
    TooLarge {
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
    OutOfFile {
        /// The safetensors file.
        file: PathBuf,
        /// The length that it claims.
        claimed: u64,
        /// The bytes that are there.
        available: u64,
    },
    /// The header is not the JSON that the format demands.
    #[error("{file}: the header is not valid: {problem}. The file is damaged: fetch it again")]
    Json {
        /// The safetensors file.
        file: PathBuf,
        /// What the JSON reader found, with the tensor where known, line and column.
        problem: String,
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
}
