//! How many bytes a model needs, from its configuration alone, and what fits where.

use std::collections::BTreeMap;

use crate::group::{GroupBits, GroupFormat};
use crate::layout::{Component, Layout, Part, Unit};
use crate::memory_size::DeviceMemory;
use crate::recipe::{Recipe, WeightFormat};
use crate::stacked::Stack;
use crate::{Dtype, ModelArgs, WeightsError};

mod fit;

pub use fit::{Fit, FitDevice};

/// In what format the weights are to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PlanFormat {
    /// As `quantization_config` says: fp8 where it is given, bf16 where not.
    Published,
    /// Everything in bf16, the router's correction biases in f32.
    Bf16,
    /// Everything in f16, the router's correction biases in f32.
    F16,
    /// Everything in f32.
    F32,
    /// Projections and experts in fp8 with block scales, the rest in bf16.
    Fp8,
    /// As [`Recipe::int8`] with its default group.
    Int8,
    /// As [`Recipe::int4`] with its default group.
    Int4,
}

impl std::str::FromStr for PlanFormat {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        match text {
            "published" => Ok(Self::Published),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            "fp8" => Ok(Self::Fp8),
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4),
            other => Err(WeightsError::BadOption {
                option: "format",
                problem: format!(
                    "is `{}`; choose published, bf16, f16, f32, fp8, int8 or int4",
                    crate::error::shown(other)
                ),
            }),
        }
    }
}

/// In what format the latent cache is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheDtype {
    /// Four bytes a value.
    F32,
    /// Two bytes a value.
    Bf16,
    /// Two bytes a value.
    F16,
    /// FlashMLA's fp8 form: the latent in e4m3 with an f32 scale per 128, the rope key in bf16.
    Fp8,
}

impl CacheDtype {
    /// Bytes that one token takes in one layer of a model of this configuration.
    pub fn bytes_per_token_layer(self, args: &ModelArgs) -> u64 {
        self.bytes(args.kv_lora_rank as u64, args.qk_rope_head_dim as u64)
    }

    /// Bytes that one token takes in one layer (`kv_lora_rank`, `qk_rope_head_dim`).
    pub fn bytes(self, latent: u64, rope: u64) -> u64 {
        match self {
            Self::F32 => 4 * (latent + rope),
            Self::Bf16 | Self::F16 => 2 * (latent + rope),
            Self::Fp8 => latent + 4 * latent.div_ceil(128) + 2 * rope,
        }
    }
}

impl std::str::FromStr for CacheDtype {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "fp8" => Ok(Self::Fp8),
            other => Err(WeightsError::BadOption {
                option: "cache dtype",
                problem: format!(
                    "is `{}`; choose f32, bf16, f16 or fp8",
                    crate::error::shown(other)
                ),
            }),
        }
    }
}

/// What to plan for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlanOptions {
    /// Format of the weights.
    pub format: PlanFormat,
    /// Tokens of one sequence that the cache holds.
    pub context: u64,
    /// Sequences that the cache holds at once.
    pub sequences: u64,
    /// Format of the cache.
    pub cache_dtype: CacheDtype,
    /// Tokens of one forward pass.
    pub batch_tokens: u64,
    /// Whether the MTP modules' weights are counted, as the published sizes do.
    pub mtp_weights: bool,
    /// Whether the MTP modules have a cache: they do when they draft.
    pub mtp_cache: bool,
    /// Devices to fit the model on, in order; empty for none.
    pub devices: Vec<DeviceMemory>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            format: PlanFormat::Published,
            context: 4096,
            sequences: 1,
            cache_dtype: CacheDtype::Bf16,
            batch_tokens: 1,
            mtp_weights: true,
            mtp_cache: false,
            devices: Vec::new(),
        }
    }
}

/// Exact size of one component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ComponentPlan {
    /// Tensors in the checkpoint, scale tensors too.
    pub tensors: u64,
    /// Weights and biases; scales are not parameters.
    pub parameters: u64,
    /// Bytes of weights and biases.
    pub weight_bytes: u64,
    /// Bytes of block scales, and of packed rows' scales and padding.
    pub scale_bytes: u64,
    /// Sum of the two.
    pub bytes: u64,
}

impl ComponentPlan {
    fn add(&mut self, other: Self) {
        self.tensors += other.tensors;
        self.parameters += other.parameters;
        self.weight_bytes += other.weight_bytes;
        self.scale_bytes += other.scale_bytes;
        self.bytes += other.bytes;
    }

    /// `copies` tensors of this part in this format. No product overflows: the configuration's
    /// bounds keep all weights of a model under 2^63 bytes.
    fn of(part: &Part, copies: u64, format: &Concrete<'_>) -> Self {
        let elements = part.elements();
        if let Some(packed) = format.group_of(part) {
            return Self::packed(part, copies, packed);
        }
        let (dtype, block) = format.of(part);
        let scales = match (block, part.shape.as_slice()) {
            (Some([r, c]), [rows, cols]) => (rows.div_ceil(r) * cols.div_ceil(c)) as u64,
            _ => 0,
        };
        let weight_bytes = copies * elements * dtype.size_bytes() as u64;
        let scale_bytes = copies * scales * 4;
        Self {
            tensors: copies * if scales > 0 { 2 } else { 1 },
            parameters: copies * elements,
            weight_bytes,
            scale_bytes,
            bytes: weight_bytes + scale_bytes,
        }
    }
}

impl ComponentPlan {
    /// `copies` packed weights; the experts of a layer are two tensors, however many they are.
    fn packed(part: &Part, copies: u64, format: GroupFormat) -> Self {
        let columns = part.shape.last().copied().unwrap_or(0);
        let rows = copies * part.elements() / columns.max(1) as u64;
        let bytes = rows * format.row_bytes(columns) as u64;
        let weight_bytes = rows * format.code_bytes(columns) as u64;
        let begins_stack = |s: &Stack| s.of_expert().first() == Some(&part.name);
        let tensors = match part.component.is_routed() {
            true => u64::from(Stack::ALL.iter().any(begins_stack)),
            false => copies,
        };
        Self {
            tensors,
            parameters: copies * part.elements(),
            weight_bytes,
            scale_bytes: bytes - weight_bytes,
            bytes,
        }
    }
}

/// The latent cache: per token and layer the normed latent and the rotated key that all heads
/// share.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CachePlan {
    /// Format.
    pub dtype: CacheDtype,
    /// Bytes per token in one layer.
    pub bytes_per_token_layer: u64,
    /// Layers with a cache.
    pub layers: u64,
    /// Bytes per token in all of them.
    pub bytes_per_token: u64,
    /// Tokens held: context times sequences.
    pub tokens: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// What one token's forward pass touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PerToken {
    /// Parameters that multiply a token's activations: the head, not the embedding, and of the
    /// routed experts only the chosen.
    pub activated_parameters: u64,
    /// The same with the whole embedding, the figure that is published as "37B".
    pub activated_parameters_with_embedding: u64,
    /// Weight and scale bytes read for one token: one row of the embedding, the chosen experts,
    /// everything else.
    pub weight_bytes_read: u64,
    /// Cache bytes read for one token at full context.
    pub cache_bytes_read: u64,
}

/// Exact bytes by component, and what fits where. All numbers are exact but `activation_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// What was asked.
    pub options: PlanOptions,
    /// Tensors in the checkpoint.
    pub total_tensors: u64,
    /// Parameters, scales not counted.
    pub total_parameters: u64,
    /// Bytes of weights without scales.
    pub total_weight_bytes: u64,
    /// Bytes of scales.
    pub total_scale_bytes: u64,
    /// Bytes of weights and scales: the checkpoint's tensor data.
    pub total_bytes: u64,
    /// Each component of the model.
    pub components: BTreeMap<Component, ComponentPlan>,
    /// The main model without MTP modules.
    pub main: ComponentPlan,
    /// The MTP modules.
    pub mtp: ComponentPlan,
    /// The cache.
    pub cache: CachePlan,
    /// Estimate of the forward pass' workspace, see [`activation_bytes`].
    pub activation_bytes: u64,
    /// Weights, scales, cache and workspace.
    pub required_bytes: u64,
    /// What one token touches.
    pub per_token: PerToken,
    /// Where it goes, if devices were named.
    pub fit: Option<Fit>,
}

impl Plan {
    /// Counts everything. Instant: layers are counted by kind, not tensor by tensor.
    ///
    /// # Errors
    /// [`WeightsError::PlanOverflow`] if context, sequences or batch are so large that bytes exceed
    /// 64 bits; [`WeightsError::BadOption`] for zero of them, and for the published format of a
    /// packed checkpoint, which its configuration does not tell.
    pub fn new(args: &ModelArgs, options: &PlanOptions) -> Result<Self, WeightsError> {
        for (option, value) in [
            ("context", options.context),
            ("sequences", options.sequences),
            ("batch tokens", options.batch_tokens),
        ] {
            if value == 0 {
                return Err(WeightsError::BadOption {
                    option,
                    problem: "is 0; at least 1".into(),
                });
            }
        }
        let layout = Layout::new(args);
        if args.packed && options.format == PlanFormat::Published {
            return Err(WeightsError::BadOption {
                option: "format",
                problem: "is published, but what is packed how stands in the checkpoint's files and not in config.json; choose int8 or int4, or inspect the checkpoint".into(),
            });
        }
        let format = Concrete::new(&layout, options.format)?;
        let mut components: BTreeMap<Component, ComponentPlan> = BTreeMap::new();
        for unit in layout
            .units()
            .filter(|u| options.mtp_weights || !layout.is_mtp(*u))
        {
            for section in layout.sections(unit) {
                for part in &section.parts {
                    let size = ComponentPlan::of(part, section.copies(), &format);
                    components.entry(part.component).or_default().add(size);
                }
            }
        }
        let (mut main, mut mtp) = (ComponentPlan::default(), ComponentPlan::default());
        for (component, size) in &components {
            if component.is_mtp() {
                mtp.add(*size)
            } else {
                main.add(*size)
            }
        }
        let mut total = main;
        total.add(mtp);
        let cache = cache(args, options)?;
        let activation_bytes = activation_bytes(args, options)?;
        let required =
            u128::from(total.bytes) + u128::from(cache.bytes) + u128::from(activation_bytes);
        let mut plan = Self {
            options: options.clone(),
            total_tensors: total.tensors,
            total_parameters: total.parameters,
            total_weight_bytes: total.weight_bytes,
            total_scale_bytes: total.scale_bytes,
            total_bytes: total.bytes,
            components,
            main,
            mtp,
            activation_bytes,
            required_bytes: fits(required, "required bytes")?,
            per_token: per_token(&layout, &format, &cache, options)?,
            cache,
            fit: None,
        };
        if !options.devices.is_empty() {
            plan.fit = Some(fit::fit(&layout, &format, &plan)?);
        }
        Ok(plan)
    }
}

/// A format with the block size that goes with it.
pub(crate) struct Concrete<'a> {
    layout: &'a Layout,
    format: PlanFormat,
    block: [usize; 2],
    /// Of the packed formats.
    recipe: Option<Recipe>,
}

impl<'a> Concrete<'a> {
    fn new(layout: &'a Layout, format: PlanFormat) -> Result<Self, WeightsError> {
        let args = layout.args();
        let recipe = match format {
            PlanFormat::Int8 => Some(Recipe::int8(GroupBits::Int8.default_group())?),
            PlanFormat::Int4 => Some(Recipe::int4(GroupBits::Int4.default_group())?),
            _ => None,
        };
        let block = args
            .quantization
            .map_or([128, 128], |q| q.weight_block_size);
        let format = match (format, args.quantization) {
            (PlanFormat::Published, Some(_)) => PlanFormat::Fp8,
            (PlanFormat::Published, None) => PlanFormat::Bf16,
            (other, _) => other,
        };
        Ok(Self {
            layout,
            format,
            block,
            recipe,
        })
    }

    /// How a part is packed, if it is.
    fn group_of(&self, part: &Part) -> Option<GroupFormat> {
        match self.recipe.as_ref()?.format_of_part(self.layout, part) {
            WeightFormat::Group(format) => Some(format),
            _ => None,
        }
    }

    /// Dtype of a part, and the block that shares a scale if it has scales.
    fn of(&self, part: &Part) -> (Dtype, Option<[usize; 2]>) {
        match self.format {
            PlanFormat::Fp8 if part.quantizable => (Dtype::F8E4M3, Some(self.block)),
            PlanFormat::F32 => (Dtype::F32, None),
            _ if part.dtype == Dtype::F32 => (Dtype::F32, None),
            PlanFormat::F16 => (Dtype::F16, None),
            _ => (Dtype::BF16, None),
        }
    }

    /// Bytes of one unit's weights and scales.
    pub(crate) fn unit_bytes(&self, layout: &Layout, unit: Unit) -> u64 {
        let sections = layout.sections(unit);
        let parts = sections
            .iter()
            .flat_map(|s| s.parts.iter().map(|p| (p, s.copies())));
        parts
            .map(|(part, copies)| ComponentPlan::of(part, copies, self).bytes)
            .sum()
    }
}

fn fits(bytes: u128, what: &'static str) -> Result<u64, WeightsError> {
    u64::try_from(bytes).map_err(|_| WeightsError::PlanOverflow { what })
}

fn cache(args: &ModelArgs, options: &PlanOptions) -> Result<CachePlan, WeightsError> {
    let per_layer = options.cache_dtype.bytes_per_token_layer(args);
    let layers = if options.mtp_cache {
        args.num_stored_layers()
    } else {
        args.num_hidden_layers
    };
    let layers = layers as u64;
    let bytes_per_token = per_layer * layers;
    let tokens = u128::from(options.context) * u128::from(options.sequences);
    let tokens = fits(tokens, "cached tokens")?;
    let bytes = fits(
        u128::from(tokens) * u128::from(bytes_per_token),
        "cache bytes",
    )?;
    let (dtype, bytes_per_token_layer) = (options.cache_dtype, per_layer);
    Ok(CachePlan {
        dtype,
        bytes_per_token_layer,
        layers,
        bytes_per_token,
        tokens,
        bytes,
    })
}

/// Rows of attention scores that are in memory at once: kernels work in tiles.
const SCORE_ROWS: u128 = 16;

/// An upper estimate of the memory that one forward pass works in, in bytes, all in f32 and with
/// nothing fused. Layers reuse it, so the depth of the model does not matter. With `T` tokens:
///
/// - `T · 3 · hidden`: residual, normed input, the sub-layer's output;
/// - attention: `T · (q_lora_rank + 2 · heads · qk_head_dim + latent + 2 · heads · kv_lora_rank +
///   heads · v_head_dim)`: queries before and after rotation, the absorbed query and its output,
///   and `min(T, 16) · heads · context` scores;
/// - or the MLP, which runs after it: `T · 3 · width`, the width being the dense layer's or that
///   of all chosen and shared experts, plus `T · (1 + chosen) · hidden` for the experts' inputs
///   and outputs, plus `T · 4 · n_routed_experts` for the router;
/// - `min(T, sequences) · vocab_size` logits.
///
/// # Errors
/// [`WeightsError::PlanOverflow`].
pub fn activation_bytes(args: &ModelArgs, options: &PlanOptions) -> Result<u64, WeightsError> {
    let wide = |n: usize| n as u128;
    let tokens = u128::from(options.batch_tokens);
    let (hidden, heads) = (wide(args.hidden_size), wide(args.num_attention_heads));
    let attention = wide(args.q_lora_rank.unwrap_or(0))
        + 2 * heads * wide(args.qk_head_dim())
        + wide(args.latent_dim())
        + 2 * heads * wide(args.kv_lora_rank)
        + heads * wide(args.v_head_dim);
    let scores = tokens.min(SCORE_ROWS) * heads * u128::from(options.context);
    let chosen = wide(args.num_experts_per_tok);
    let moe_width =
        chosen * wide(args.moe_intermediate_size) + wide(args.shared_intermediate_size());
    let moe = 3 * moe_width + (1 + chosen) * hidden + 4 * wide(args.n_routed_experts);
    let mlp = moe.max(3 * wide(args.intermediate_size));
    let logits = tokens.min(u128::from(options.sequences)) * wide(args.vocab_size);
    // 2^64 tokens times widths under 2^34 stay far inside 128 bits.
    let values = tokens * 3 * hidden + (tokens * attention + scores).max(tokens * mlp) + logits;
    fits(4 * values, "activation bytes")
}

fn per_token(
    layout: &Layout,
    format: &Concrete<'_>,
    cache: &CachePlan,
    options: &PlanOptions,
) -> Result<PerToken, WeightsError> {
    let args = layout.args();
    let (mut parameters, mut bytes, mut embedding) = (0, 0, 0);
    for unit in layout.units().filter(|u| !layout.is_mtp(*u)) {
        for section in layout.sections(unit) {
            let copies = section
                .experts
                .map_or(1, |_| args.num_experts_per_tok as u64);
            for part in &section.parts {
                let size = ComponentPlan::of(part, copies, format);
                if part.component == Component::Embedding {
                    embedding = size.parameters;
                    bytes += size.bytes / args.vocab_size as u64;
                    if !args.tie_word_embeddings {
                        continue;
                    }
                    bytes += size.bytes; // a tied embedding is read whole, as the head
                }
                parameters += size.parameters;
                if part.component != Component::Embedding {
                    bytes += size.bytes;
                }
            }
        }
    }
    let untied = if args.tie_word_embeddings {
        0
    } else {
        embedding
    };
    let read = u128::from(cache.bytes_per_token_layer)
        * args.num_hidden_layers as u128
        * u128::from(options.context);
    Ok(PerToken {
        activated_parameters: parameters,
        activated_parameters_with_embedding: parameters + untied,
        weight_bytes_read: bytes,
        cache_bytes_read: fits(read, "cache bytes read for a token")?,
    })
}
