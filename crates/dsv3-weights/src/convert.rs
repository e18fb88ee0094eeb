//! From one number format to another: fp8 to bf16, bf16 to fp8 blocks, either to int8 and int4 in
//! groups; with an adapter merged in on the way, if one is given.
//!
//! Two passes. The first reads headers and scales, decides what becomes of every tensor and lays
//! out the output's headers. The second streams the data, a few rows of blocks at a time, so that
//! memory does not grow with the model. Shards are written under temporary names into
//! `OUT.partial` and renamed when complete; `OUT` appears by one rename at the very end.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::error::shown;
use crate::group::{GroupBits, GroupFormat};
use crate::output;
use crate::recipe::{Recipe, WeightFormat};
use crate::{Adapter, Checkpoint, ScaleFmt, Warning, WeightsError};

mod ahead;
mod fingerprint;
mod importance;
mod outputs;
mod side_files;
mod transcode;
mod written;

pub use crate::output::Progress;
pub use importance::Importance;
pub use written::{Written, prepare};

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertFormat {
    /// Everything in bf16 (rounded to nearest even), the router's correction biases in f32.
    Bf16,
    /// Everything in f32, which holds each of the others exactly: twice the size of bf16.
    F32,
    /// Projections and experts in e4m3 with a scale per block, the rest as for
    /// [`ConvertFormat::Bf16`].
    Fp8 {
        /// Whether scales are powers of two, as V3.1's.
        ue8m0: bool,
    },
    /// As [`Recipe::int8`].
    Int8 {
        /// Columns that share a scale.
        group: usize,
    },
    /// As [`Recipe::int4`].
    Int4 {
        /// Columns that share a scale.
        group: usize,
    },
    /// Weight by weight.
    Recipe {
        /// Which weight in which format.
        recipe: Recipe,
        /// Whether scales of fp8 weights are powers of two.
        ue8m0: bool,
    },
}

/// How to write it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertOptions {
    /// Target format.
    pub format: ConvertFormat,
    /// A shard ends before it would exceed this many bytes of data; a tensor is never cut.
    pub shard_bytes: u64,
    /// For weights that are packed: which columns' errors count how much.
    pub importance: Option<Importance>,
}

impl Default for ConvertOptions {
    /// bf16, in shards of 5 GB.
    fn default() -> Self {
        Self {
            format: ConvertFormat::Bf16,
            shard_bytes: output::SHARD_BYTES,
            importance: None,
        }
    }
}

/// What a finished conversion did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConvertReport {
    /// Where the checkpoint lies.
    pub out_dir: PathBuf,
    /// Safetensors files.
    pub shards: usize,
    /// Of those, how many an interrupted earlier run had finished.
    pub shards_kept: usize,
    /// Tensors written, scale tensors too.
    pub tensors: u64,
    /// Weights that an adapter's change was merged into; they count nowhere else.
    pub merged: u64,
    /// Weights that went from fp8 blocks to floats.
    pub dequantized: u64,
    /// Weights that went to fp8 blocks.
    pub quantized: u64,
    /// Weights that were packed in groups, as int8 or int4.
    pub packed: u64,
    /// Tensors whose float format was changed otherwise.
    pub cast: u64,
    /// Tensors that were copied byte for byte (a weight and its scales count as one).
    pub copied: u64,
    /// Bytes of tensor data read.
    pub source_bytes: u64,
    /// Bytes of tensor data written.
    pub bytes: u64,
    /// Files copied beside the weights.
    pub side_files: Vec<String>,
    /// What [`Checkpoint::verify`] said of the source.
    pub warnings: Vec<Warning>,
}

/// Writes `checkpoint` in another format to `out_dir`, which must not exist.
///
/// Goes on where an earlier run with the same source and options was stopped, here or on another
/// machine, and [`prepare`] with what this one left. `progress` is called for every few megabytes;
/// [`ControlFlow::Break`] stops and keeps what is finished. Tensors outside of the published layout
/// are copied as they are.
///
/// A source is taken for the same if its files have the same names, lengths and headers and the
/// same bytes in a few places, 4 KiB a file. A value that was changed elsewhere in between is not
/// seen, and what was written before keeps the old one: after such a change remove the partial.
///
/// Packed weights get the scales of least squared error, weighed by [`Importance`] if it is given;
/// the routed experts of a layer become two tensors ([`crate::StackedExperts`]). A weight that
/// cannot be packed, because its columns are no multiple of 32 or its readers know no packed form,
/// is written in bf16.
///
/// # Errors
/// Everything that [`Checkpoint::verify`] refuses; [`WeightsError::NotFinite`] and
/// [`WeightsError::BadScale`] for NaN and infinity; [`WeightsError::DiskFull`];
/// [`WeightsError::OutputExists`], [`WeightsError::ForeignPartial`], [`WeightsError::PartialInUse`]
/// for the output; [`WeightsError::Interrupted`] after a break; [`WeightsError::PackedSource`] for a
/// checkpoint that is packed already; [`WeightsError::Recipe`] for layers that are not there.
pub fn convert(
    checkpoint: &Checkpoint,
    out_dir: impl AsRef<Path>,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport, WeightsError> {
    prepare(checkpoint, None, out_dir, options, progress)?.finish()
}

/// As [`convert`], with the change of `adapter` added to the weights that it has factors for.
///
/// The sum is made in f32 and rounded once, to the target's format. In f32 the result computes
/// what base and adapter compute beside each other; bf16 and fp8 round it like any weight.
///
/// # Errors
/// As [`convert`].
pub fn merge(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    out_dir: impl AsRef<Path>,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport, WeightsError> {
    prepare(checkpoint, Some(adapter), out_dir, options, progress)?.finish()
}

impl ConvertFormat {
    /// The names that [`ConvertFormat::named`] knows.
    pub const NAMES: [&str; 5] = ["int4", "int8", "fp8", "bf16", "f32"];

    /// The format of this name; `group` is for int8 and int4, which have a default, and `ue8m0`
    /// for fp8.
    ///
    /// # Errors
    /// [`WeightsError::BadOption`] for another name, a group that is none, or one for a format
    /// without groups.
    pub fn named(name: &str, group: Option<usize>, ue8m0: bool) -> Result<Self, WeightsError> {
        let bits = match GroupBits::from_name(name) {
            Some(bits) => bits,
            None if group.is_some() => {
                return Err(WeightsError::BadOption {
                    option: "group",
                    problem: format!("is given, and {} has none; leave it out", shown(name)),
                });
            }
            None => match name {
                "bf16" => return Ok(Self::Bf16),
                "f32" => return Ok(Self::F32),
                "fp8" => return Ok(Self::Fp8 { ue8m0 }),
                other => {
                    return Err(WeightsError::BadOption {
                        option: "format",
                        problem: format!(
                            "is `{}`; choose {}",
                            shown(other),
                            Self::NAMES.join(", ")
                        ),
                    });
                }
            },
        };
        let group = group.unwrap_or(bits.default_group());
        let group = GroupFormat::new(bits, group)?.group();
        Ok(match bits {
            GroupBits::Int8 => Self::Int8 { group },
            GroupBits::Int4 => Self::Int4 { group },
        })
    }

    /// `recipe`, and `rest` for what it does not decide: what no rule is for, if it has no default.
    ///
    /// # Errors
    /// [`WeightsError::BadOption`] if there is neither a default nor `rest`, or both.
    pub fn by_recipe(
        recipe: Recipe,
        rest: Option<&Self>,
        ue8m0: bool,
    ) -> Result<Self, WeightsError> {
        let problem = match (recipe.default_format(), rest) {
            (Some(_), None) => return Ok(Self::Recipe { recipe, ue8m0 }),
            (None, Some(rest)) => {
                let recipe = recipe.or(&rest.recipe()?);
                return Ok(Self::Recipe { recipe, ue8m0 });
            }
            (Some(_), Some(_)) => "is given, and the recipe has a `default`; leave one of them out",
            (None, None) => "is missing, and the recipe has no `default`; give one of them",
        };
        Err(WeightsError::BadOption {
            option: "format",
            problem: problem.into(),
        })
    }

    /// Which weight in which format.
    fn recipe(&self) -> Result<Recipe, WeightsError> {
        match self {
            Self::Bf16 => Ok(Recipe::uniform(WeightFormat::Bf16)),
            Self::F32 => Ok(Recipe::uniform(WeightFormat::F32)),
            Self::Fp8 { .. } => Ok(Recipe::uniform(WeightFormat::Fp8)),
            Self::Int8 { group } => Recipe::int8(*group),
            Self::Int4 { group } => Recipe::int4(*group),
            Self::Recipe { recipe, .. } => Ok(recipe.clone()),
        }
    }

    /// Scale rule of fp8 weights.
    fn scale_fmt(&self) -> ScaleFmt {
        match self {
            Self::Fp8 { ue8m0: false } | Self::Recipe { ue8m0: false, .. } => ScaleFmt::F32,
            _ => ScaleFmt::Ue8m0,
        }
    }
}
