//! The first pass: what becomes of every tensor, and where it will lie.

use std::fmt::Write as _;

use crate::fnv::Fnv;
use crate::inventory::is_scale;
use crate::layout::{Layout, TensorSpec};
use crate::output::{self, Shard, Wanted};
use crate::{Adapter, Checkpoint, Dtype, ScaleFmt, TensorView, WeightsError, fp8};

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

/// How a source tensor (with its scales, if it has any) becomes outputs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) action: Action,
    /// Whether an adapter changes it.
    pub(super) merged: bool,
}

/// The whole output.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    pub(super) shards: Vec<Shard<Task>>,
    pub(super) block: [usize; 2],
    pub(super) scale_fmt: Option<ScaleFmt>,
    /// Of everything that is neither fp8 nor f32 in all formats.
    pub(super) float: Dtype,
    /// What is merged in.
    pub(super) adapter: Option<&'a Adapter>,
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
        let sources = checkpoint
            .tensors()
            .filter(|t| !is_scale(checkpoint, t.name()));
        let drafts = sources.map(|tensor| {
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
            Ok((tensor.name().to_owned(), Task { action, merged }, wanted))
        });
        let shards = output::plan(drafts, options.shard_bytes)?;
        Ok(Self {
            shards,
            block,
            scale_fmt,
            float,
            adapter,
        })
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.shards.iter().flat_map(|s| &s.jobs).map(|j| &j.task)
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
            for job in &shard.jobs {
                let _ = writeln!(hash, "{} {:?} {:?}", job.name, job.task.action, job.slots);
            }
        }
        format!("{:016x}", hash.finish())
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
            Wanted::fp8(tensor.name(), tensor.shape(), block)
        }
    }
}
