//! The first pass: what becomes of every tensor, and where it will lie.

use std::fmt::Write as _;

use crate::checkpoint::SINGLE_FILE;
use crate::header::{MAX_HEADER_BYTES, TensorEntry};
use crate::inventory::is_scale;
use crate::layout::{Layout, TensorSpec};
use crate::{Adapter, Checkpoint, Dtype, SCALE_SUFFIX, ScaleFmt, TensorView, WeightsError, fp8};

use super::ConvertOptions;

/// What becomes of a source tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Its bytes as they are; floats of the layout are checked for NaN and infinity.
    Copy { check: bool },
    /// fp8 codes as they are, scales as f32.
    CopyQuantized,
    /// A float format to another.
    Cast(Dtype),
    /// fp8 blocks to floats.
    Dequantize,
    /// Floats to fp8 blocks.
    Quantize,
    /// fp8 blocks to fp8 blocks with other scales.
    Requantize,
}

/// One source tensor (with its scales, if it has any) and where its outputs go.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) source: String,
    pub(super) action: Action,
    /// Whether an adapter changes it.
    pub(super) merged: bool,
    /// Positions in the shard's `tensors`: the weight, then its scales if it gets any.
    pub(super) slots: Vec<usize>,
}

/// One output file.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) file_name: String,
    /// Outputs with their places in the data.
    pub(super) tensors: Vec<TensorEntry>,
    pub(super) tasks: Vec<Task>,
    pub(super) data_bytes: u64,
    /// Length prefix and JSON, padded so that the data starts at a multiple of 8.
    pub(super) header: Vec<u8>,
}

impl Shard {
    pub(super) fn file_bytes(&self) -> u64 {
        self.header.len() as u64 + self.data_bytes
    }
}

/// The whole output.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    pub(super) shards: Vec<Shard>,
    pub(super) block: [usize; 2],
    pub(super) scale_fmt: Option<ScaleFmt>,
    /// Of everything that is neither fp8 nor f32 in all formats.
    pub(super) float: Dtype,
    /// What is merged in.
    pub(super) adapter: Option<&'a Adapter>,
}

/// An output tensor before it has a place.
struct Wanted {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Wanted {
    fn bytes(&self) -> u64 {
        self.shape.iter().map(|d| *d as u64).product::<u64>() * self.dtype.size_bytes() as u64
    }
}

impl<'a> Outputs<'a> {
    /// Decides about every tensor, in the order in which the source's files hold them.
    pub(super) fn plan(
        checkpoint: &Checkpoint,
        adapter: Option<&'a Adapter>,
        options: &ConvertOptions,
    ) -> Result<Self, WeightsError> {
        let layout = Layout::new(checkpoint.args());
        let block = checkpoint
            .args()
            .quantization
            .map_or([128, 128], |q| q.weight_block_size);
        let (scale_fmt, float) = (options.format.scale_fmt(), options.format.float());
        let mut drafts: Vec<Vec<(Task, Vec<Wanted>)>> = vec![Vec::new()];
        let mut filled = 0u64;
        for tensor in checkpoint
            .tensors()
            .filter(|t| !is_scale(checkpoint, t.name()))
        {
            let spec = layout
                .spec_of(tensor.name())
                .filter(|s| s.name == tensor.name());
            let merged = adapter.is_some_and(|a| a.get(tensor.name()).is_some());
            let action = match action(checkpoint, &tensor, spec.as_ref(), scale_fmt, float)? {
                // Its values change, so its bytes can't be copied.
                Action::Copy { .. } if merged => Action::Cast(float),
                Action::CopyQuantized if merged => Action::Requantize,
                action => action,
            };
            let wanted = wanted(&tensor, action, block, float);
            let bytes: u64 = wanted.iter().map(Wanted::bytes).sum();
            if filled > 0 && filled.saturating_add(bytes) > options.shard_bytes {
                drafts.push(Vec::new());
                filled = 0;
            }
            filled += bytes;
            let task = Task {
                source: tensor.name().to_owned(),
                action,
                merged,
                slots: Vec::new(),
            };
            if let Some(draft) = drafts.last_mut() {
                draft.push((task, wanted));
            }
        }
        let count = drafts.len();
        let shards = drafts
            .into_iter()
            .enumerate()
            .map(|(i, draft)| shard(i, count, draft))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shards,
            block,
            scale_fmt,
            float,
            adapter,
        })
    }

    pub(super) fn data_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.data_bytes).sum()
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.shards.iter().flat_map(|s| &s.tasks)
    }

    /// Tensors of which this becomes, and nothing else.
    pub(super) fn count(&self, which: impl Fn(Action) -> bool) -> u64 {
        let tasks = self.tasks();
        tasks.filter(|t| !t.merged && which(t.action)).count() as u64
    }

    /// Tensors that the adapter changes.
    pub(super) fn merged(&self) -> u64 {
        self.tasks().filter(|t| t.merged).count() as u64
    }

    /// Changes with the source's files, the adapter and with everything about the output: a half-finished
    /// conversion is only gone on with if both are the same.
    pub(super) fn fingerprint(&self, checkpoint: &Checkpoint) -> String {
        let mut hash = Fnv::default();
        for file in checkpoint.files() {
            let path = file.path();
            let modified = std::fs::metadata(path).and_then(|m| m.modified());
            let since = modified
                .ok()
                .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            let _ = writeln!(
                hash,
                "{:?} {} {:?}",
                path.file_name(),
                file.byte_len(),
                since
            );
        }
        let _ = writeln!(hash, "{:?} {:?}", self.block, self.scale_fmt);
        for (name, factors) in self.adapter.into_iter().flat_map(Adapter::factors) {
            let _ = writeln!(hash, "{name} {}", factors.scale);
            for value in factors.a.iter().chain(&factors.b) {
                hash.update(&value.to_le_bytes());
            }
        }
        for shard in &self.shards {
            let _ = writeln!(hash, "{}", shard.file_name);
            hash.update(&shard.header);
            for task in &shard.tasks {
                let _ = writeln!(hash, "{} {:?} {:?}", task.source, task.action, task.slots);
            }
        }
        format!("{:016x}", hash.0)
    }
}

fn action(
    checkpoint: &Checkpoint,
    tensor: &TensorView<'_>,
    spec: Option<&TensorSpec>,
    target: Option<ScaleFmt>,
    float: Dtype,
) -> Result<Action, WeightsError> {
    if tensor.dtype() == Dtype::F8E4M3 {
        // Reads the scales: a NaN among them is refused before anything is written.
        let (_, scales) = checkpoint.block_scales(tensor)?;
        return Ok(match target {
            None => Action::Dequantize,
            Some(ScaleFmt::Ue8m0) if !scales.iter().all(|s| fp8::is_power_of_two(*s)) => {
                Action::Requantize
            }
            Some(_) => Action::CopyQuantized,
        });
    }
    let Some(spec) = spec else {
        return Ok(Action::Copy { check: false });
    };
    if spec.quantizable && target.is_some() {
        return Ok(Action::Quantize);
    }
    let dtype = if spec.dtype_published == Dtype::F32 {
        Dtype::F32
    } else {
        float
    };
    Ok(if tensor.dtype() == dtype {
        Action::Copy { check: true }
    } else {
        Action::Cast(dtype)
    })
}

fn wanted(tensor: &TensorView<'_>, action: Action, block: [usize; 2], float: Dtype) -> Vec<Wanted> {
    let one = |dtype| Wanted {
        name: tensor.name().into(),
        dtype,
        shape: tensor.shape().into(),
    };
    match action {
        Action::Copy { .. } => vec![one(tensor.dtype())],
        Action::Cast(dtype) => vec![one(dtype)],
        Action::Dequantize => vec![one(float)],
        Action::CopyQuantized | Action::Quantize | Action::Requantize => {
            let sides = tensor
                .shape()
                .iter()
                .zip(block)
                .map(|(d, b)| d.div_ceil(b))
                .collect();
            let name = format!("{}{SCALE_SUFFIX}", tensor.name());
            vec![
                one(Dtype::F8E4M3),
                Wanted {
                    name,
                    dtype: Dtype::F32,
                    shape: sides,
                },
            ]
        }
    }
}

/// Gives every output its place: wide elements first, so that all of them are aligned.
fn shard(
    number: usize,
    count: usize,
    draft: Vec<(Task, Vec<Wanted>)>,
) -> Result<Shard, WeightsError> {
    let (mut tasks, mut all) = (Vec::new(), Vec::new());
    for (mut task, wanted) in draft {
        task.slots = (all.len()..all.len() + wanted.len()).collect();
        tasks.push(task);
        all.extend(wanted);
    }
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(all[*i].dtype.size_bytes()));
    let mut place = vec![0; all.len()];
    let mut tensors = Vec::with_capacity(all.len());
    let mut at = 0;
    for (slot, i) in order.iter().enumerate() {
        let Wanted { name, dtype, shape } = &all[*i];
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
    for slot in tasks.iter_mut().flat_map(|t| &mut t.slots) {
        *slot = place[*slot];
    }
    let header = header(&tensors)?;
    let file_name = if count == 1 {
        SINGLE_FILE.to_owned()
    } else {
        format!("model-{:05}-of-{count:05}.safetensors", number + 1)
    };
    Ok(Shard {
        file_name,
        tensors,
        tasks,
        data_bytes: at,
        header,
    })
}

/// Length prefix and JSON of a safetensors file.
fn header(tensors: &[TensorEntry]) -> Result<Vec<u8>, WeightsError> {
    // transformers refuses files whose metadata do not name a format.
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    for t in tensors {
        let name = serde_json::Value::from(t.name.as_str());
        let _ = write!(
            json,
            r#",{name}:{{"dtype":"{}","shape":{:?},"data_offsets":[{},{}]}}"#,
            t.dtype, t.shape, t.begin, t.end
        );
    }
    json.push('}');
    while json.len() % 8 != 0 {
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

/// FNV-1a: the same in every version of this program, which the standard hasher does not promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn update(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl std::fmt::Write for Fnv {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.update(s.as_bytes());
        Ok(())
    }
}
