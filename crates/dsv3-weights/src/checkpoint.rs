//! A checkpoint's folder: the configuration, and every tensor by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{IndexError, shown};
use crate::index::Index;
use crate::layout::Layout;
use crate::output::ROUNDING_KEY;
use crate::packed::{PackedTensor, packed_tensors};
use crate::{ModelArgs, TensorFile, TensorView, WeightsError};

/// Name of the file of an unsharded checkpoint.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// Name of the index of a sharded checkpoint.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
/// Name of the configuration.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// A checkpoint in the published layout, mapped into memory and checked.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    args: ModelArgs,
    files: Vec<TensorFile>,
    by_name: HashMap<String, (usize, usize)>, // file, position in its header
    pub(crate) packed: HashMap<String, PackedTensor>,
}

impl Checkpoint {
    /// Opens `dir`: reads `config.json`, maps `model.safetensors`, or every shard that
    /// `model.safetensors.index.json` names, and checks all headers, and
    /// what they say of packed tensors. The index's `total_size` is not trusted. If both exist the single file counts, as in transformers.
    ///
    /// Tensor data is not read: opening costs the headers only. The files must not be truncated
    /// while they are mapped; the operating system ends a process that reads behind the end.
    ///
    /// # Errors
    /// A variant of [`WeightsError`] for everything that can be wrong with a folder, a
    /// configuration, an index or a header.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let dir = dir.as_ref().to_path_buf();
        let metadata = std::fs::metadata(&dir).map_err(WeightsError::io("open", &dir))?;
        if !metadata.is_dir() {
            return Err(WeightsError::NotADirectory { path: dir });
        }
        let args = ModelArgs::from_file(dir.join(CONFIG_FILE))?;
        let (single, index) = (dir.join(SINGLE_FILE), dir.join(INDEX_FILE));
        let (files, index) = if single.exists() {
            (vec![TensorFile::open(single)?], None)
        } else if index.exists() {
            let index = Index::read(&index)?;
            (open_shards(&dir, &index)?, Some(index))
        } else {
            return Err(WeightsError::NoWeights { dir });
        };
        let by_name = names(&files)?;
        if let Some(index) = index {
            check_index(&index, &files, &by_name)?;
        }
        let packed = packed_tensors(&files, &Layout::new(&args))?;
        Ok(Self {
            dir,
            args,
            files,
            by_name,
            packed,
        })
    }

    /// The folder that was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration.
    pub fn args(&self) -> &ModelArgs {
        &self.args
    }

    /// The safetensors files, in the order of their names.
    pub fn files(&self) -> &[TensorFile] {
        &self.files
    }

    /// How many tensors all files hold.
    pub fn num_tensors(&self) -> usize {
        self.by_name.len()
    }

    /// Bytes of tensor data in all files, counted from the headers.
    pub fn data_bytes(&self) -> u64 {
        self.tensors().map(|t| t.byte_len()).sum()
    }

    /// All tensors, file by file, in the order of their data.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.files.iter().flat_map(TensorFile::tensors)
    }

    /// What rounding cost, where whoever converted the checkpoint had it measured and written
    /// down ([`Written::set_rounding`](crate::Written::set_rounding)): JSON. Nothing was checked.
    pub fn rounding(&self) -> Option<&str> {
        let mut notes = self.files.iter().map(|file| &file.header().metadata);
        let text = notes
            .find_map(|metadata| metadata.get(ROUNDING_KEY))?
            .trim();
        (!text.is_empty()).then_some(text)
    }

    /// The tensor of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (file, position) = *self.by_name.get(name)?;
        self.files.get(file)?.entry(position)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`] with the name and the folder.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        self.get(name).ok_or_else(|| WeightsError::MissingTensor {
            tensor: shown(name),
            location: self.dir.clone(),
        })
    }
}

fn open_shards(dir: &Path, index: &Index) -> Result<Vec<TensorFile>, WeightsError> {
    let mut files = Vec::with_capacity(index.files.len());
    for (position, name) in index.files.iter().enumerate() {
        let path = dir.join(name);
        if !path.exists() {
            let tensors = index
                .weight_map
                .values()
                .filter(|p| **p == position)
                .count();
            return Err(IndexError::MissingShard {
                shard: path,
                tensors,
            }
            .into());
        }
        files.push(TensorFile::open(path)?);
    }
    Ok(files)
}

fn names(files: &[TensorFile]) -> Result<HashMap<String, (usize, usize)>, WeightsError> {
    let total = files.iter().map(|f| f.header().tensors.len()).sum();
    let mut by_name: HashMap<String, (usize, usize)> = HashMap::with_capacity(total);
    for (number, file) in files.iter().enumerate() {
        for (position, entry) in file.header().tensors.iter().enumerate() {
            if let Some((first, _)) = by_name.insert(entry.name.clone(), (number, position)) {
                return Err(WeightsError::DuplicateAcrossFiles {
                    tensor: shown(&entry.name),
                    first: files[first].path().into(),
                    second: file.path().into(),
                });
            }
        }
    }
    Ok(by_name)
}

/// Index and shards must tell the same story.
fn check_index(
    index: &Index,
    files: &[TensorFile],
    by_name: &HashMap<String, (usize, usize)>,
) -> Result<(), WeightsError> {
    for (tensor, claimed) in &index.weight_map {
        if by_name.get(tensor).is_none_or(|(file, _)| file != claimed) {
            return Err(IndexError::Mismatch {
                tensor: shown(tensor),
                shard: files[*claimed].path().into(),
            }
            .into());
        }
    }
    match by_name
        .iter()
        .find(|(tensor, _)| !index.weight_map.contains_key(*tensor))
    {
        Some((tensor, (file, _))) => Err(IndexError::Unlisted {
            tensor: shown(tensor),
            shard: files[*file].path().into(),
        }
        .into()),
        None => Ok(()),
    }
}
