//! The header of one safetensors file, believed only after every claim in it has been checked.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{HeaderError, shown};
use crate::{Dtype, WeightsError, json};

/// The longest header that is read; the safetensors format's own bound.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The most dimensions a tensor may have. Model weights have one or two; the bound keeps a header
/// from growing by listing dimensions.
pub const MAX_DIMENSIONS: usize = 8;

/// One tensor of a header, its claims checked against each other and against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the data.
    pub begin: u64,
    /// One past the last byte.
    pub end: u64,
}

impl TensorEntry {
    /// Bytes of data.
    pub fn byte_len(&self) -> u64 {
        self.end - self.begin
    }
}

/// What a safetensors file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Tensors in the order of their data.
    pub tensors: Vec<TensorEntry>,
    /// The free text of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Where the data starts, counted from the start of the file.
    pub data_start: u64,
}

impl Header {
    /// Reads and checks the header of a file of `file_len` bytes that begins with `bytes`.
    ///
    /// `bytes` must reach at least to the end of the header; the data need not be there. What is
    /// allocated is in proportion to the header's true length, never to what it claims.
    ///
    /// # Errors
    /// One variant of [`WeightsError`] for each way in which a header can lie.
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Self, WeightsError> {
        Self::parse_named(Path::new("safetensors"), bytes, file_len)
    }

    /// As [`Header::parse`], naming `file` in errors.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn parse_named(file: &Path, bytes: &[u8], file_len: u64) -> Result<Self, WeightsError> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(HeaderError::Truncated {
                file: file.into(),
                len: file_len,
            }
            .into());
        };
        if file_len < 8 {
            return Err(HeaderError::Truncated {
                file: file.into(),
                len: file_len,
            }
            .into());
        }
        let claimed = u64::from_le_bytes(*prefix);
        if claimed > MAX_HEADER_BYTES {
            let limit = MAX_HEADER_BYTES;
            return Err(HeaderError::TooLarge {
                file: file.into(),
                claimed,
                limit,
            }
            .into());
        }
        let available = (file_len - 8).min(rest.len() as u64);
        let Some(text) = usize::try_from(claimed)
            .ok()
            .filter(|_| claimed <= available)
            .and_then(|n| rest.get(..n))
        else {
            return Err(HeaderError::OutOfFile {
                file: file.into(),
                claimed,
                available,
            }
            .into());
        };
        let raw: RawHeader = json::check_depth(text)
            .and_then(|()| serde_json::from_slice(text).map_err(|e| json::problem(&e)))
            .map_err(|problem| HeaderError::Json {
                file: file.into(),
                problem,
            })?;
        let data_len = file_len - 8 - claimed;
        let mut tensors = Vec::with_capacity(raw.tensors.len());
        for (name, entry) in raw.tensors {
            tensors.push(check_entry(file, name, entry, data_len)?);
        }
        check_names(file, &tensors)?;
        tensors.sort_by_key(|t| (t.begin, t.end));
        check_cover(file, &tensors, data_len)?;
        Ok(Self {
            tensors,
            metadata: raw.metadata,
            data_start: 8 + claimed,
        })
    }
}

fn check_entry(
    file: &Path,
    name: String,
    raw: RawEntry,
    data_len: u64,
) -> Result<TensorEntry, WeightsError> {
    let tensor = || shown(&name);
    let Some(dtype) = Dtype::from_name(&raw.dtype) else {
        return Err(HeaderError::UnknownDtype {
            file: file.into(),
            tensor: tensor(),
            dtype: shown(&raw.dtype),
        }
        .into());
    };
    let dims = raw.shape.0;
    // Zero anywhere makes the product zero, yet a later dimension must still fit a usize.
    let needed = dims
        .iter()
        .try_fold(dtype.size_bytes() as u64, |n, d| n.checked_mul(*d));
    let shape: Option<Vec<usize>> = dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let (Some(needed), Some(shape)) = (needed, shape) else {
        let (file, tensor) = (file.into(), tensor());
        return Err(HeaderError::ShapeOverflow {
            file,
            tensor,
            shape: dims,
        }
        .into());
    };
    let (begin, end) = raw.data_offsets;
    if begin > end {
        return Err(HeaderError::OffsetsReversed {
            file: file.into(),
            tensor: tensor(),
            begin,
            end,
        }
        .into());
    }
    if end - begin != needed {
        return Err(HeaderError::ShapeBytesMismatch {
            file: file.into(),
            tensor: tensor(),
            dtype,
            shape: dims,
            needed,
            given: end - begin,
        }
        .into());
    }
    if end > data_len {
        return Err(HeaderError::OffsetsOutOfFile {
            file: file.into(),
            tensor: tensor(),
            begin,
            end,
            available: data_len,
        }
        .into());
    }
    Ok(TensorEntry {
        name,
        dtype,
        shape,
        begin,
        end,
    })
}

fn check_names(file: &Path, tensors: &[TensorEntry]) -> Result<(), WeightsError> {
    let mut seen = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|t| !seen.insert(t.name.as_str())) {
        Some(t) => Err(WeightsError::DuplicateTensor {
            file: file.into(),
            tensor: shown(&t.name),
        }),
        None => Ok(()),
    }
}

/// Every data byte belongs to exactly one tensor. Tensors without bytes may lie anywhere.
fn check_cover(file: &Path, sorted: &[TensorEntry], data_len: u64) -> Result<(), WeightsError> {
    let mut last: Option<&TensorEntry> = None;
    for t in sorted.iter().filter(|t| t.begin < t.end) {
        let reached = last.map_or(0, |l| l.end);
        if t.begin < reached {
            return Err(HeaderError::Overlap {
                file: file.into(),
                first: last.map(|l| shown(&l.name)).unwrap_or_default(),
                second: shown(&t.name),
                at: t.begin,
            }
            .into());
        }
        if t.begin > reached {
            return Err(HeaderError::Hole {
                file: file.into(),
                begin: reached,
                end: t.begin,
            }
            .into());
        }
        last = Some(t);
    }
    let reached = last.map_or(0, |l| l.end);
    if reached < data_len {
        return Err(HeaderError::Hole {
            file: file.into(),
            begin: reached,
            end: data_len,
        }
        .into());
    }
    Ok(())
}

/// The header's JSON object, in file order, duplicates kept so that they can be refused.
struct RawHeader {
    tensors: Vec<(String, RawEntry)>,
    metadata: BTreeMap<String, String>,
}

/// One tensor as written. A field given twice is an error of the derived reader.
#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    shape: RawShape,
    data_offsets: (u64, u64),
}

struct RawShape(Vec<u64>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader {
                    tensors: Vec::new(),
                    metadata: BTreeMap::new(),
                };
                let mut metadata_seen = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if std::mem::replace(&mut metadata_seen, true) {
                            return Err(A::Error::custom("`__metadata__` is given twice"));
                        }
                        header.metadata = map.next_value()?;
                    } else {
                        let entry = map.next_value().map_err(|e| {
                            A::Error::custom(format_args!("tensor `{}`: {e}", shown(&name)))
                        })?;
                        header.tensors.push((name, entry));
                    }
                }
                Ok(header)
            }
        }
        d.deserialize_map(HeaderVisitor)
    }
}

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = RawShape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_DIMENSIONS} dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawShape, A::Error> {
                let mut dims = Vec::new();
                while let Some(d) = seq.next_element()? {
                    if dims.len() == MAX_DIMENSIONS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_DIMENSIONS} dimensions"
                        )));
                    }
                    dims.push(d);
                }
                Ok(RawShape(dims))
            }
        }
        d.deserialize_seq(ShapeVisitor)
    }
}
