//! One mapped safetensors file, and views of its tensors.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::shown;
use crate::header::TensorEntry;
use crate::{Dtype, Header, WeightsError, decode, mapping};

/// A safetensors file, mapped and checked. Nothing is copied.
#[derive(Debug, Clone)]
pub struct TensorFile {
    path: PathBuf,
    data: Bytes,
    header: Header,
}

impl TensorFile {
    /// Maps the file and checks its whole header.
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::NotAFile`], and one variant for each way in which a
    /// header can lie.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref().to_path_buf();
        let data = mapping::map_file(&path)?;
        let header = Header::parse_named(&path, &data, data.len() as u64)?;
        Ok(Self { path, data, header })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checked header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's length in bytes.
    pub fn byte_len(&self) -> u64 {
        self.data.len() as u64
    }

    /// The whole file as it lies on the disk: length prefix, header, data.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.data
    }

    /// Views of all tensors, in the order of their data.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.header.tensors.iter().map(|entry| self.view(entry))
    }

    /// The tensor of this name, by a walk through the header; [`crate::Checkpoint`] has a map.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        let entry = self.header.tensors.iter().find(|t| t.name == name);
        entry
            .map(|e| self.view(e))
            .ok_or_else(|| WeightsError::MissingTensor {
                tensor: shown(name),
                location: self.path.clone(),
            })
    }

    pub(crate) fn entry(&self, position: usize) -> Option<TensorView<'_>> {
        self.header
            .tensors
            .get(position)
            .map(|entry| self.view(entry))
    }

    fn view<'a>(&'a self, entry: &'a TensorEntry) -> TensorView<'a> {
        TensorView { file: self, entry }
    }
}

/// A tensor of a mapped file: its name, type and shape, and its bytes where they lie.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    file: &'a TensorFile,
    entry: &'a TensorEntry,
}

impl<'a> TensorView<'a> {
    /// The tensor's name.
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    /// The file that holds it.
    pub fn file(&self) -> &'a Path {
        &self.file.path
    }

    /// Number of elements.
    pub fn num_elements(&self) -> usize {
        // Checked when the header was read: the product in bytes fits 64 bits.
        self.entry.shape.iter().product()
    }

    /// Length of the data in bytes.
    pub fn byte_len(&self) -> u64 {
        self.entry.byte_len()
    }

    /// The data, little-endian and row-major, without a copy; the slice keeps the map alive.
    ///
    /// The bytes may start at any address: safetensors promises no alignment.
    pub fn bytes(&self) -> Bytes {
        self.range()
            .map_or_else(Bytes::new, |r| self.file.data.slice(r))
    }

    /// The data as a plain slice.
    pub fn as_slice(&self) -> &'a [u8] {
        self.range()
            .and_then(|r| self.file.data.get(r))
            .unwrap_or_default()
    }

    /// Where the data lies in the file; inside the map, because the header was checked against
    /// the map's own length.
    pub(crate) fn range(&self) -> Option<std::ops::Range<usize>> {
        let start = self.file.header.data_start;
        let begin = usize::try_from(start + self.entry.begin).ok()?;
        let end = usize::try_from(start + self.entry.end).ok()?;
        (begin <= end && end <= self.file.data.len()).then_some(begin..end)
    }

    /// The values as f32. For F8_E4M3 these are the bare codes' values, without any scale.
    ///
    /// # Errors
    /// [`WeightsError::WrongDtype`] unless the dtype is F32, BF16, F16, F8_E4M3 or F8_E8M0.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>, WeightsError> {
        decode::to_f32(self.dtype(), self.as_slice()).ok_or_else(|| WeightsError::WrongDtype {
            file: self.file.path.clone(),
            tensor: shown(self.name()),
            found: self.dtype(),
            expected: "F32, BF16, F16, F8_E4M3 and F8_E8M0",
        })
    }

    /// That an element is no number to compute with.
    pub(crate) fn not_finite(&self, index: usize) -> WeightsError {
        WeightsError::NotFinite {
            file: self.file.path.clone(),
            tensor: shown(self.name()),
            index,
        }
    }

    /// Refuses a shape that is not `expected`.
    ///
    /// # Errors
    /// [`WeightsError::WrongShape`].
    pub fn expect_shape(&self, expected: &[usize]) -> Result<(), WeightsError> {
        if self.shape() == expected {
            return Ok(());
        }
        Err(WeightsError::WrongShape {
            file: self.file.path.clone(),
            tensor: shown(self.name()),
            expected: expected.to_vec(),
            found: self.shape().to_vec(),
        })
    }
}
