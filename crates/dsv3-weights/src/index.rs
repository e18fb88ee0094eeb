//! `model.safetensors.index.json`: which shard holds which tensor, taken as a claim.

use std::collections::HashMap;
use std::fmt;
use std::path::{Component, Path};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{IndexError, shown};
use crate::{WeightsError, json};

/// The longest index that is read; V3.1's has 9 MB.
pub(crate) const MAX_INDEX_BYTES: u64 = 100_000_000;

/// The claims of an index: tensors by name, each with the position of its file in `files`.
///
/// `metadata.total_size` is deliberately not read: published indexes hold a number that is not
/// the bytes on disk.
#[derive(Debug)]
pub(crate) struct Index {
    /// Shards in the order of their names.
    pub(crate) files: Vec<String>,
    /// Tensor name to position in `files`.
    pub(crate) weight_map: HashMap<String, usize>,
}

impl Index {
    pub(crate) fn read(path: &Path) -> Result<Self, WeightsError> {
        let text = json::read_bounded(path, MAX_INDEX_BYTES)?;
        Self::parse(path, &text)
    }

    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self, WeightsError> {
        let fault = |problem| {
            WeightsError::Index(IndexError::Json {
                file: path.into(),
                problem,
            })
        };
        let raw: RawIndex = json::check_depth(text)
            .and_then(|()| serde_json::from_slice(text).map_err(|e| json::problem(&e)))
            .map_err(fault)?;
        let WeightMap { files, entries } = raw.weight_map;
        // Files are few and in order of first mention; sort them and renumber the entries.
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by(|a, b| files[*a].cmp(&files[*b]));
        let mut position = vec![0; files.len()];
        for (new, old) in order.iter().enumerate() {
            position[*old] = new;
        }
        let mut weight_map = HashMap::with_capacity(entries.len());
        for (tensor, file) in entries {
            if !is_plain_file_name(&files[file]) {
                return Err(IndexError::PathEscape {
                    file: path.into(),
                    tensor: shown(&tensor),
                    target: shown(&files[file]),
                }
                .into());
            }
            if let Some(tensor) = insert_new(&mut weight_map, tensor, position[file]) {
                return Err(WeightsError::DuplicateTensor {
                    file: path.into(),
                    tensor: shown(&tensor),
                });
            }
        }
        let files = order.into_iter().map(|old| files[old].clone()).collect();
        Ok(Self { files, weight_map })
    }
}

/// Inserts a new key, or gives the key back if it is there already.
fn insert_new(map: &mut HashMap<String, usize>, key: String, value: usize) -> Option<String> {
    if map.contains_key(&key) {
        return Some(key);
    }
    map.insert(key, value);
    None
}

/// One ordinary path component, on every system: no separators of either kind, no drive, no dots.
fn is_plain_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(c)), None) if c.to_str() == Some(name)
    );
    single && !name.contains(['/', '\\', ':', '\0'])
}

#[derive(serde::Deserialize)]
struct RawIndex {
    weight_map: WeightMap,
}

/// The map as written, duplicates kept, file names stored once each.
struct WeightMap {
    files: Vec<String>,
    entries: Vec<(String, usize)>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = WeightMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of file names by tensor name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut known: HashMap<String, usize> = HashMap::new();
                let mut files = Vec::new();
                let mut entries = Vec::new();
                while let Some(tensor) = map.next_key::<String>()? {
                    let file = map.next_value::<String>().map_err(|e| {
                        A::Error::custom(format_args!("tensor `{}`: {e}", shown(&tensor)))
                    })?;
                    let position = *known.entry(file).or_insert_with_key(|file| {
                        files.push(file.clone());
                        files.len() - 1
                    });
                    entries.push((tensor, position));
                }
                Ok(WeightMap { files, entries })
            }
        }
        d.deserialize_map(MapVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that passes here is joined to the checkpoint's folder and opened.
    #[test]
    fn only_plain_names_pass() {
        assert!(is_plain_file_name("model-00001-of-000163.safetensors"));
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a/",
            "./a",
            "a\\b",
            "C:x",
            "a\0b",
        ] {
            assert!(!is_plain_file_name(bad), "{bad:?}");
        }
    }
}
