//! One safetensors file before it is written: its tensors, their places, its header.

use std::cmp::Reverse;
use std::fmt::Write as _;

use crate::checkpoint::SINGLE_FILE;
use crate::header::{MAX_HEADER_BYTES, TensorEntry};
use crate::packed::{METADATA_KEY, PackedTensor, metadata};
use crate::{Dtype, SCALE_SUFFIX, WeightsError};

/// An output tensor before it has a place.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// For rows packed in groups, which are U8: what the bytes mean.
    pub(crate) packed: Option<PackedTensor>,
}

impl Wanted {
    /// A tensor that says all of itself.
    pub(crate) fn plain(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            packed: None,
        }
    }

    /// A weight, or a stack of experts, packed in groups.
    pub(crate) fn packed(name: &str, tensor: PackedTensor) -> Self {
        Self {
            packed: Some(tensor.clone()),
            ..Self::plain(name, Dtype::U8, &tensor.byte_shape())
        }
    }

    /// A weight in fp8 and its block scales.
    pub(crate) fn fp8(name: &str, shape: &[usize], block: [usize; 2]) -> Vec<Self> {
        let sides = shape.iter().zip(block).map(|(d, b)| d.div_ceil(b));
        let scales = format!("{name}{SCALE_SUFFIX}");
        vec![
            Self::plain(name, Dtype::F8E4M3, shape),
            Self::plain(&scales, Dtype::F32, &sides.collect::<Vec<_>>()),
        ]
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().map(|d| *d as u64).product::<u64>() * self.dtype.size_bytes() as u64
    }
}

/// What makes a weight (with its scales, if it gets any) and where its outputs go.
#[derive(Debug)]
pub(crate) struct Job<T> {
    /// The weight's name.
    pub(crate) name: String,
    /// Where its values come from.
    pub(crate) task: T,
    /// Positions in the shard's `tensors`: the weight, then its scales.
    pub(crate) slots: Vec<usize>,
}

/// One output file.
#[derive(Debug)]
pub(crate) struct Shard<T> {
    pub(crate) file_name: String,
    /// Outputs with their places in the data.
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) jobs: Vec<Job<T>>,
    pub(crate) data_bytes: u64,
    /// Length prefix and JSON, padded so that the data starts at a multiple of 64.
    pub(crate) header: Vec<u8>,
    /// Whether the checkpoint has packed tensors, here or in another file.
    pub(crate) packed: bool,
}

impl<T> Shard<T> {
    pub(crate) fn file_bytes(&self) -> u64 {
        self.header.len() as u64 + self.data_bytes
    }

    /// Bytes of a job's outputs.
    pub(crate) fn bytes_of(&self, job: &Job<T>) -> u64 {
        let slots = job.slots.iter().filter_map(|s| self.tensors.get(*s));
        slots.map(|t| t.end - t.begin).sum()
    }
}

/// A weight's name, where its values come from, and its outputs.
type Draft<T> = (String, T, Vec<Wanted>);

/// Lays out the files: a shard ends before it would exceed `shard_bytes`; a weight and its scales
/// are never parted. The first one has room for a note, if there is to be one.
pub(crate) fn plan<T>(
    drafts: impl IntoIterator<Item = Result<Draft<T>, WeightsError>>,
    shard_bytes: u64,
    note: Note,
) -> Result<Vec<Shard<T>>, WeightsError> {
    if shard_bytes == 0 {
        let problem = "is 0; at least 1".to_owned();
        return Err(WeightsError::BadOption {
            option: "shard bytes",
            problem,
        });
    }
    let mut files: Vec<Vec<Draft<T>>> = vec![Vec::new()];
    let mut filled = 0u64;
    for draft in drafts {
        let draft = draft?;
        let bytes: u64 = draft.2.iter().map(Wanted::bytes).sum();
        if filled > 0 && filled.saturating_add(bytes) > shard_bytes {
            files.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(file) = files.last_mut() {
            file.push(draft);
        }
    }
    let count = files.len();
    // Each file says what is packed in it, also where that is nothing.
    let packed = files.iter().flatten().flat_map(|draft| &draft.2);
    let packed = packed.into_iter().any(|w| w.packed.is_some());
    let files = files.into_iter().enumerate();
    files
        .map(|(i, file)| {
            let note = if i == 0 { note } else { Note::None };
            shard(i, count, file, packed, note)
        })
        .collect()
}

/// Gives every output its place: packed rows first, whose lengths are multiples of 64, then wide
/// elements before narrow ones, so that all of them are aligned.
fn shard<T>(
    number: usize,
    count: usize,
    file: Vec<Draft<T>>,
    packed: bool,
    note: Note,
) -> Result<Shard<T>, WeightsError> {
    let (mut jobs, mut all) = (Vec::new(), Vec::new());
    for (name, task, wanted) in file {
        let slots = (all.len()..all.len() + wanted.len()).collect();
        jobs.push(Job { name, task, slots });
        all.extend(wanted);
    }
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|i| Reverse((all[*i].packed.is_some(), all[*i].dtype.size_bytes())));
    let mut place = vec![0; all.len()];
    let mut tensors = Vec::with_capacity(all.len());
    let mut at = 0;
    for (slot, i) in order.iter().enumerate() {
        let Wanted {
            name, dtype, shape, ..
        } = &all[*i];
        let end = at + all[*i].bytes();
        place[*i] = slot;
        let (name, shape) = (name.clone(), shape.clone());
        tensors.push(TensorEntry {
            name,
            dtype: *dtype,
            shape,
            begin: at,
            end,
        });
        at = end;
    }
    for slot in jobs.iter_mut().flat_map(|j| &mut j.slots) {
        *slot = place[*slot];
    }
    let meanings = packed.then(|| {
        let in_order = order.iter().filter_map(|i| all.get(*i));
        metadata(in_order.filter_map(|w| Some((w.name.as_str(), w.packed.as_ref()?))))
    });
    let header = header(&tensors, meanings.as_deref(), note)?;
    let file_name = if count == 1 {
        SINGLE_FILE.to_owned()
    } else {
        format!("model-{:05}-of-{count:05}.safetensors", number + 1)
    };
    Ok(Shard {
        file_name,
        tensors,
        jobs,
        data_bytes: at,
        header,
        packed,
    })
}

/// Whether a header has room for what is known only when all is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// It has none.
    None,
    /// [`ROUNDING_ROOM`] bytes.
    Room,
}

/// The key in a file's metadata under which stands what rounding cost.
pub(crate) const ROUNDING_KEY: &str = "dsv3_rounding";

/// Bytes that are kept free for it.
const ROUNDING_ROOM: usize = 8192;

/// Where the room of a header begins, its first quotation mark included, and what to write there:
/// the text as a JSON string, blanks behind it. `None` where there is no room, or not enough.
pub(super) fn noted(header: &[u8], text: &str) -> Option<(u64, Vec<u8>)> {
    let key = format!("\"{ROUNDING_KEY}\":");
    let found = header
        .windows(key.len())
        .position(|bytes| bytes == key.as_bytes())?;
    let mut value = serde_json::Value::from(text).to_string().into_bytes();
    let whole = ROUNDING_ROOM + 2;
    if value.len() > whole {
        return None;
    }
    value.resize(whole, b' ');
    Some(((found + key.len()) as u64, value))
}

/// The data starts at a multiple of this.
const DATA_ALIGN: usize = 64;

/// Bytes in front of the JSON.
const LENGTH_PREFIX: usize = 8;

/// Length prefix and JSON of a safetensors file; `packed` says what packed tensors mean.
fn header(
    tensors: &[TensorEntry],
    packed: Option<&str>,
    note: Note,
) -> Result<Vec<u8>, WeightsError> {
    // transformers refuses files whose metadata do not name a format.
    let mut json = String::from(r#"{"__metadata__":{"format":"pt""#);
    if note == Note::Room {
        let _ = write!(json, r#","{ROUNDING_KEY}":"{:ROUNDING_ROOM$}""#, "");
    }
    if let Some(packed) = packed {
        let packed = serde_json::Value::from(packed);
        let _ = write!(json, r#","{METADATA_KEY}":{packed}"#);
    }
    json.push('}');
    for t in tensors {
        let name = serde_json::Value::from(t.name.as_str());
        let _ = write!(
            json,
            r#",{name}:{{"dtype":"{}","shape":{:?},"data_offsets":[{},{}]}}"#,
            t.dtype, t.shape, t.begin, t.end
        );
    }
    json.push('}');
    while !(LENGTH_PREFIX + json.len()).is_multiple_of(DATA_ALIGN) {
        json.push(' ');
    }
    if json.len() as u64 > MAX_HEADER_BYTES {
        return Err(WeightsError::BadOption {
            option: "shard bytes",
            problem: "is so large that a header would exceed the format's bound; use less".into(),
        });
    }
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json.as_bytes());
    Ok(header)
}
