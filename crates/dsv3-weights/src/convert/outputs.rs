//! The first pass: what becomes of every tensor, and where it will lie.

use std::collections::HashMap;

use crate::group::{GroupFormat, Scales};
use crate::inventory::is_scale;
use crate::layout::{Layout, TensorSpec};
use crate::output::{self, Note, Shard, Wanted};
use crate::packed::PackedTensor;
use crate::recipe::{Recipe, WeightFormat};
use crate::stacked::{Stack, part_names, place_of, stack_name};
use crate::{Adapter, Checkpoint, Dtype, ScaleFmt, TensorView, WeightsError, fp8};

use super::{ConvertOptions, Importance};

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
    Dequantize(Dtype),
    /// Floats to fp8 blocks.
    Quantize,
    /// fp8 blocks to fp8 blocks with other scales.
    Requantize,
    /// Anything to rows in groups.
    Pack(GroupFormat),
    /// As `Pack`, all experts of a layer into one tensor; the job is named after that.
    PackStack(GroupFormat, Stack),
}

/// How a source tensor (with its scales, if it has any) becomes outputs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) action: Action,
    /// Source weights: one, but for a stack.
    pub(super) weights: u64,
    /// How many of them an adapter changes.
    pub(super) merged: u64,
}

/// A job's name, what is to be done, and the outputs.
type Draft = (String, Task, Vec<Wanted>);

/// The whole output.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    pub(super) shards: Vec<Shard<Task>>,
    pub(super) block: [usize; 2],
    /// Of fp8 weights.
    pub(super) scale_fmt: ScaleFmt,
    /// Which weight in which format.
    pub(super) recipe: Recipe,
    /// What is merged in.
    pub(super) adapter: Option<&'a Adapter>,
    /// What is weighed in packing.
    pub(super) importance: Option<&'a Importance>,
}

impl<'a> Outputs<'a> {
    /// Decides about every tensor, in the order in which the source's files hold them.
    pub(super) fn plan(
        checkpoint: &Checkpoint,
        adapter: Option<&'a Adapter>,
        options: &'a ConvertOptions,
    ) -> Result<Self, WeightsError> {
        let args = checkpoint.args();
        let recipe = options.format.recipe()?;
        let layout = Layout::new(args);
        recipe.check(&layout)?;
        let planner = Planner {
            checkpoint,
            layout,
            block: args
                .quantization
                .map_or([128, 128], |q| q.weight_block_size),
            scale_fmt: options.format.scale_fmt(),
            recipe: &recipe,
            adapter,
        };
        let drafts = planner.drafts()?.into_iter().map(Ok);
        let shards = output::plan(drafts, options.shard_bytes, Note::Room)?;
        let (block, scale_fmt) = (planner.block, planner.scale_fmt);
        Ok(Self {
            shards,
            block,
            scale_fmt,
            recipe,
            adapter,
            importance: options.importance.as_ref(),
        })
    }

    /// How the scales of the weight `name` are chosen.
    pub(super) fn scales(&self, name: &str, columns: usize) -> Scales<'a> {
        let importance = self.importance;
        Scales::LeastError(importance.and_then(|known| known.of(name, columns)))
    }

    /// Whether some output is packed.
    pub(super) fn is_packed(&self) -> bool {
        self.shards.iter().any(|s| s.packed)
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.shards.iter().flat_map(|s| &s.jobs).map(|j| &j.task)
    }

    /// Tensors of which this becomes, and nothing else.
    pub(super) fn count(&self, which: impl Fn(Action) -> bool) -> u64 {
        let tasks = self.tasks().filter(|t| which(t.action));
        tasks.map(|t| t.weights - t.merged).sum()
    }

    /// Tensors that the adapter changes.
    pub(super) fn merged(&self) -> u64 {
        self.tasks().map(|t| t.merged).sum()
    }
}

/// Decides, tensor by tensor.
struct Planner<'a> {
    checkpoint: &'a Checkpoint,
    layout: Layout,
    block: [usize; 2],
    scale_fmt: ScaleFmt,
    recipe: &'a Recipe,
    adapter: Option<&'a Adapter>,
}

impl Planner<'_> {
    fn drafts(&self) -> Result<Vec<Draft>, WeightsError> {
        let mut drafts = Vec::new();
        let mut stacked: HashMap<String, bool> = HashMap::new(); // a layer's prefix
        let checkpoint = self.checkpoint;
        for tensor in checkpoint.tensors() {
            if is_scale(checkpoint, tensor.name()) {
                continue;
            }
            let spec = self.layout.spec_of(tensor.name());
            let spec = spec.filter(|s| s.name == tensor.name());
            let format = spec
                .as_ref()
                .map(|s| self.recipe.format_of(&self.layout, s));
            if let (Some(spec), Some(WeightFormat::Group(packed))) = (&spec, format)
                && spec.component.is_routed()
                && let Some((prefix, _)) = spec.name.split_once(".experts.")
            {
                let first = !stacked.contains_key(prefix);
                let whole = *stacked
                    .entry(prefix.to_owned())
                    .or_insert_with(|| self.has_all_experts(prefix));
                if whole && first {
                    drafts.extend(Stack::ALL.map(|stack| self.stack(prefix, stack, packed)));
                }
                if whole {
                    continue;
                }
            }
            drafts.push(self.draft(&tensor, spec.as_ref(), format)?);
        }
        Ok(drafts)
    }

    fn experts(&self) -> usize {
        self.layout.args().n_routed_experts
    }

    /// Whether the checkpoint has the weights of all experts: MTP modules may be there in part.
    fn has_all_experts(&self, prefix: &str) -> bool {
        Stack::ALL.iter().all(|stack| {
            let mut names = part_names(prefix, *stack, self.experts());
            names.all(|name| self.checkpoint.get(&name).is_some())
        })
    }

    /// One of a layer's two stacks.
    fn stack(&self, prefix: &str, stack: Stack, format: GroupFormat) -> Draft {
        let name = stack_name(prefix, stack);
        let shape = self.layout.stack_of(&name).map(|s| s.shape);
        let tensor = PackedTensor {
            format,
            shape: shape.unwrap_or_default(),
        };
        let (mut weights, mut merged) = (0, 0);
        for source in part_names(prefix, stack, self.experts()) {
            weights += 1;
            merged += u64::from(self.changes(&source));
        }
        let task = Task {
            action: Action::PackStack(format, stack),
            weights,
            merged,
        };
        let wanted = vec![Wanted::packed(&name, tensor)];
        (name, task, wanted)
    }

    fn changes(&self, name: &str) -> bool {
        self.adapter.is_some_and(|a| a.get(name).is_some())
    }

    fn draft(
        &self,
        tensor: &TensorView<'_>,
        spec: Option<&TensorSpec>,
        format: Option<WeightFormat>,
    ) -> Result<Draft, WeightsError> {
        let merged = self.changes(tensor.name());
        let float = format.and_then(WeightFormat::float);
        let action = match self.action(tensor, spec, format)? {
            // Its values change, so its bytes can't be copied.
            Action::Copy { .. } if merged => {
                Action::Cast(float.unwrap_or(self.recipe.plain_float()))
            }
            Action::CopyQuantized if merged => Action::Requantize,
            action => action,
        };
        let (name, shape) = (tensor.name(), tensor.shape());
        let wanted = match action {
            Action::Copy { .. } => vec![Wanted::plain(name, tensor.dtype(), shape)],
            Action::Cast(dtype) | Action::Dequantize(dtype) => {
                vec![Wanted::plain(name, dtype, shape)]
            }
            Action::CopyQuantized | Action::Quantize | Action::Requantize => {
                Wanted::fp8(name, shape, self.block)
            }
            Action::Pack(format) | Action::PackStack(format, _) => {
                let shape = shape.to_vec();
                vec![Wanted::packed(name, PackedTensor { format, shape })]
            }
        };
        let task = Task {
            action,
            weights: 1,
            merged: u64::from(merged),
        };
        Ok((name.to_owned(), task, wanted))
    }

    fn action(
        &self,
        tensor: &TensorView<'_>,
        spec: Option<&TensorSpec>,
        format: Option<WeightFormat>,
    ) -> Result<Action, WeightsError> {
        let plain = self.recipe.plain_float();
        // Experts of a layer that lacks some stay as published, and so readable one by one.
        let format = match (format, place_of(tensor.name())) {
            (Some(WeightFormat::Group(_)), Some(_)) => Some(WeightFormat::Bf16),
            (format, _) => format,
        };
        if tensor.dtype() == Dtype::F8E4M3 {
            // Reads the scales: a NaN among them is refused before anything is written.
            let (_, scales) = self.checkpoint.block_scales(tensor)?;
            let powers = || scales.iter().all(|s| fp8::is_power_of_two(*s));
            let format = format.or(self.recipe.default_format());
            return Ok(match format {
                Some(WeightFormat::Fp8) if self.scale_fmt == ScaleFmt::Ue8m0 && !powers() => {
                    Action::Requantize
                }
                Some(WeightFormat::Fp8) => Action::CopyQuantized,
                Some(WeightFormat::Group(packed)) if spec.is_some() => Action::Pack(packed),
                format => Action::Dequantize(format.and_then(WeightFormat::float).unwrap_or(plain)),
            });
        }
        let Some(format) = format else {
            return Ok(Action::Copy { check: false });
        };
        Ok(match format {
            WeightFormat::Fp8 => Action::Quantize,
            WeightFormat::Group(packed) => Action::Pack(packed),
            float => {
                let dtype = float.float().unwrap_or(plain);
                if tensor.dtype() == dtype {
                    Action::Copy { check: true }
                } else {
                    Action::Cast(dtype)
                }
            }
        })
    }
}
