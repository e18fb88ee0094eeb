//! Which tensors of a file are packed in groups, as its metadata say, and whether that can be.
//!
//! safetensors has no dtype for int4 with scales between, so a packed weight is a U8 tensor, and
//! the file's `__metadata__` says beside `"format":"pt"` what its bytes mean:
//! `"dsv3": "{\"version\":1,\"tensors\":{NAME:{\"format\":\"int4\",\"group\":32,\"shape\":[out,in]}}}"`.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::shown;
use crate::group::{GroupBits, GroupFormat};
use crate::layout::Layout;
use crate::{Dtype, Header, TensorFile, WeightsError, json};

/// The key in a file's metadata.
pub(crate) const METADATA_KEY: &str = "dsv3";

/// The version of the format, in files and in config.json.
pub(crate) const PACKED_VERSION: u64 = 1;

/// A packed weight: `[out, in]`, or `[experts, out, in]` for the routed experts of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedTensor {
    /// How its rows are to be read.
    pub format: GroupFormat,
    /// Dimensions of the weight, not of the bytes.
    pub shape: Vec<usize>,
}

impl PackedTensor {
    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Weights in it.
    pub fn num_elements(&self) -> u64 {
        self.shape.iter().map(|d| *d as u64).product()
    }

    /// Rows in it, those of all experts.
    fn num_rows(&self) -> u64 {
        let (_, outer) = self.shape.split_last().unwrap_or((&0, &[]));
        outer.iter().map(|d| *d as u64).product()
    }

    /// Bytes of its codes, without scales and padding.
    pub fn code_bytes(&self) -> u64 {
        self.num_rows() * self.format.code_bytes(self.columns()) as u64
    }

    /// The shape of the U8 tensor.
    pub(crate) fn byte_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(columns) = shape.last_mut() {
            *columns = self.format.row_bytes(*columns);
        }
        shape
    }
}

/// The packed tensors of all files, each checked against its bytes and the layout.
///
/// # Errors
/// [`WeightsError::PackedMetadata`], [`WeightsError::PackedTensor`].
pub(crate) fn packed_tensors(
    files: &[TensorFile],
    layout: &Layout,
) -> Result<HashMap<String, PackedTensor>, WeightsError> {
    let mut packed = HashMap::new();
    for file in files {
        let in_file = of_file(file.path(), file.header(), layout)?;
        packed.extend(in_file);
    }
    Ok(packed)
}

/// The packed tensors of one file.
fn of_file(
    file: &Path,
    header: &Header,
    layout: &Layout,
) -> Result<HashMap<String, PackedTensor>, WeightsError> {
    let text = header.metadata.get(METADATA_KEY);
    let entries = match (text, layout.args().packed) {
        (None, false) => return Ok(HashMap::new()),
        (Some(text), true) => parse(text).map_err(|problem| WeightsError::PackedMetadata {
            file: file.into(),
            problem,
        })?,
        (Some(_), false) => {
            return Err(WeightsError::PackedMetadata {
                file: file.into(),
                problem: "says that tensors are packed, and config.json has no `quantization_config` of method \"dsv3\": config.json is of another checkpoint".into(),
            });
        }
        (None, true) => {
            return Err(WeightsError::PackedMetadata {
                file: file.into(),
                problem: "is missing, which config.json says every file has (`quantization_config` of method \"dsv3\"): the file is of another checkpoint".into(),
            });
        }
    };
    let fault = |tensor: &str, problem: String| WeightsError::PackedTensor {
        file: file.into(),
        tensor: shown(tensor),
        problem,
    };
    let mut packed = HashMap::with_capacity(entries.len());
    for (name, entry) in entries {
        let tensor = entry.check(&name, layout).map_err(|p| fault(&name, p))?;
        packed.insert(name, tensor);
    }
    let mut found = 0;
    for entry in &header.tensors {
        let Some(tensor) = packed.get(&entry.name) else {
            // U8 means nothing else for a weight of the layout; others are nobody's business.
            if entry.dtype == Dtype::U8 && expected_shape(layout, &entry.name).is_some() {
                let problem = "is U8, and the metadata `dsv3` have no entry that says what its bytes mean: convert the checkpoint again";
                return Err(fault(&entry.name, problem.into()));
            }
            continue;
        };
        found += 1;
        if entry.dtype != Dtype::U8 {
            let problem = format!("has dtype {}; packed rows are U8", entry.dtype);
            return Err(fault(&entry.name, problem));
        }
        // With it the byte length: the header's own check has compared that with the shape.
        let bytes = tensor.byte_shape();
        if entry.shape != bytes {
            let problem = format!(
                "is {:?} bytes; {} of shape {:?} takes {bytes:?}. Header or metadata lie",
                entry.shape, tensor.format, tensor.shape
            );
            return Err(fault(&entry.name, problem));
        }
    }
    if found < packed.len() {
        let there = |name: &String| header.tensors.iter().any(|t| &t.name == name);
        let mut lost: Vec<&String> = packed.keys().filter(|name| !there(name)).collect();
        lost.sort();
        let name = lost.first().map_or("", |name| name.as_str());
        let problem = "has an entry in the metadata `dsv3` and is not in the file: fetch it again";
        return Err(fault(name, problem.into()));
    }
    Ok(packed)
}

/// The shape of a weight that may be packed.
fn expected_shape(layout: &Layout, name: &str) -> Option<Vec<usize>> {
    let spec = layout.spec_of(name).filter(|s| s.name == name);
    let spec = spec.or_else(|| layout.stack_of(name));
    spec.map(|s| s.shape)
}

/// The metadata's text for these tensors, in their order.
pub(crate) fn metadata<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a PackedTensor)>,
) -> String {
    let entries = tensors.into_iter().map(|(name, tensor)| {
        let entry = serde_json::json!({
            "format": tensor.format.bits().name(),
            "group": tensor.format.group(),
            "shape": tensor.shape,
        });
        (name.to_owned(), entry)
    });
    let entries: serde_json::Map<_, _> = entries.collect();
    serde_json::json!({ "version": PACKED_VERSION, "tensors": entries }).to_string()
}

/// An entry as written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    format: String,
    group: u64,
    shape: Vec<u64>,
}

impl RawEntry {
    /// What the entry says, if it can be said of a weight of this name.
    fn check(self, name: &str, layout: &Layout) -> Result<PackedTensor, String> {
        let Some(bits) = GroupBits::from_name(&self.format) else {
            return Err(format!(
                "has format `{}`; known are int8 and int4. A newer dsv3 may have written it",
                shown(&self.format)
            ));
        };
        let group = usize::try_from(self.group).unwrap_or(usize::MAX);
        let format = GroupFormat::new(bits, group).map_err(|_| {
            format!(
                "has groups of {}, which is no multiple of 32 from 32 to 65536",
                self.group
            )
        })?;
        let Some(expected) = expected_shape(layout, name) else {
            return Err("is packed and not of the published layout".into());
        };
        let same = self.shape.len() == expected.len()
            && self
                .shape
                .iter()
                .zip(&expected)
                .all(|(a, b)| *a == *b as u64);
        if !same {
            return Err(format!(
                "is said to be {:?}; config.json implies {expected:?}. One of the two belongs to another model",
                self.shape.iter().take(8).collect::<Vec<_>>()
            ));
        }
        if !layout.may_be_packed(name) {
            return Err("is packed, which only matrices that activations are multiplied by may be: convert the checkpoint again".into());
        }
        let columns = expected.last().copied().unwrap_or(0);
        if !GroupFormat::fits(columns) {
            return Err(format!(
                "is packed with {columns} columns, which is no multiple of 32"
            ));
        }
        Ok(PackedTensor {
            format,
            shape: expected,
        })
    }
}

fn parse(text: &str) -> Result<Vec<(String, RawEntry)>, String> {
    let raw: RawMetadata = json::check_depth(text.as_bytes())
        .and_then(|()| serde_json::from_str(text).map_err(|e| json::problem(&e)))
        .map_err(|problem| format!("is not readable: {problem}"))?;
    if raw.version != PACKED_VERSION {
        return Err(format!(
            "has version {}; this program reads {PACKED_VERSION}. Convert with this version, or read with the one that wrote it",
            raw.version
        ));
    }
    Ok(raw.tensors.0)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetadata {
    version: u64,
    tensors: RawEntries,
}

/// In the order of the text; a name given twice is refused, where a map would keep one of the two.
struct RawEntries(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for RawEntries {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = RawEntries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of packed tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEntries, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), std::collections::HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format_args!(
                            "tensor `{}` is given twice",
                            shown(&name)
                        )));
                    }
                    let entry = map.next_value().map_err(|e| {
                        A::Error::custom(format_args!("tensor `{}`: {e}", shown(&name)))
                    })?;
                    entries.push((name, entry));
                }
                Ok(RawEntries(entries))
            }
        }
        d.deserialize_map(EntriesVisitor)
    }
}
