//! The published layout: every tensor that a configuration implies, by name, shape and purpose.
//!
//! Names and order follow DeepSeek-V3's README_WEIGHTS and the published shards' tensors; MTP
//! modules stand at layer indices from `num_hidden_layers` on.

use std::fmt;

use crate::stacked::Stack;
use crate::{Dtype, ModelArgs, SCALE_SUFFIX};

/// Latent to keys and values of all heads.
pub(crate) const KV_B_PROJ: &str = "kv_b_proj.weight";

/// What a tensor is for. The order is that of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// `model.embed_tokens`.
    Embedding,
    /// `lm_head`.
    LmHead,
    /// Every RMSNorm of the main model, those inside attention too.
    Norm,
    /// Projections of MLA.
    Attention,
    /// MLPs of the dense layers.
    DenseMlp,
    /// Router weights and their correction biases.
    Router,
    /// Routed experts.
    RoutedExperts,
    /// Shared experts.
    SharedExperts,
    /// The MTP modules' copy of the embedding.
    MtpEmbedding,
    /// The MTP modules' copy of the head.
    MtpLmHead,
    /// Every RMSNorm of the MTP modules.
    MtpNorm,
    /// `eh_proj`: embedding and hidden state to one.
    MtpProjection,
    /// Projections of MLA in the MTP modules.
    MtpAttention,
    /// MLPs of MTP modules without experts.
    MtpDenseMlp,
    /// Router weights and biases of the MTP modules.
    MtpRouter,
    /// Routed experts of the MTP modules.
    MtpRoutedExperts,
    /// Shared experts of the MTP modules.
    MtpSharedExperts,
    /// Not of the layout.
    Other,
}

impl Component {
    /// The name in reports, such as `routed_experts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::LmHead => "lm_head",
            Self::Norm => "norm",
            Self::Attention => "attention",
            Self::DenseMlp => "dense_mlp",
            Self::Router => "router",
            Self::RoutedExperts => "routed_experts",
            Self::SharedExperts => "shared_experts",
            Self::MtpEmbedding => "mtp_embedding",
            Self::MtpLmHead => "mtp_lm_head",
            Self::MtpNorm => "mtp_norm",
            Self::MtpProjection => "mtp_projection",
            Self::MtpAttention => "mtp_attention",
            Self::MtpDenseMlp => "mtp_dense_mlp",
            Self::MtpRouter => "mtp_router",
            Self::MtpRoutedExperts => "mtp_routed_experts",
            Self::MtpSharedExperts => "mtp_shared_experts",
            Self::Other => "other",
        }
    }

    /// Whether it belongs to the MTP modules.
    pub fn is_mtp(self) -> bool {
        self >= Self::MtpEmbedding && self != Self::Other
    }

    /// Whether it is a matrix that activations are multiplied by and that may be packed in groups.
    /// Embeddings are looked up, routers choose by small differences, norms are vectors.
    pub fn may_be_packed(self) -> bool {
        match self {
            Self::LmHead
            | Self::Attention
            | Self::DenseMlp
            | Self::RoutedExperts
            | Self::SharedExperts
            | Self::MtpLmHead
            | Self::MtpProjection
            | Self::MtpAttention
            | Self::MtpDenseMlp
            | Self::MtpRoutedExperts
            | Self::MtpSharedExperts => true,
            Self::Embedding
            | Self::Norm
            | Self::Router
            | Self::MtpEmbedding
            | Self::MtpNorm
            | Self::MtpRouter
            | Self::Other => false,
        }
    }

    /// Whether it is routed experts, of which a layer has many.
    pub(crate) fn is_routed(self) -> bool {
        matches!(self, Self::RoutedExperts | Self::MtpRoutedExperts)
    }

    /// All of the layout, in the order of reports.
    pub(crate) const ALL: [Self; 17] = [
        Self::Embedding,
        Self::LmHead,
        Self::Norm,
        Self::Attention,
        Self::DenseMlp,
        Self::Router,
        Self::RoutedExperts,
        Self::SharedExperts,
        Self::MtpEmbedding,
        Self::MtpLmHead,
        Self::MtpNorm,
        Self::MtpProjection,
        Self::MtpAttention,
        Self::MtpDenseMlp,
        Self::MtpRouter,
        Self::MtpRoutedExperts,
        Self::MtpSharedExperts,
    ];

    /// The same part in an MTP module.
    fn of_mtp(self) -> Self {
        match self {
            Self::Norm => Self::MtpNorm,
            Self::Attention => Self::MtpAttention,
            Self::DenseMlp => Self::MtpDenseMlp,
            Self::Router => Self::MtpRouter,
            Self::RoutedExperts => Self::MtpRoutedExperts,
            Self::SharedExperts => Self::MtpSharedExperts,
            other => other,
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Full name.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// What it is for.
    pub component: Component,
    /// Whether fp8 checkpoints hold it in fp8, with a sibling of block scales.
    pub quantizable: bool,
    /// Its dtype in the published checkpoint of this configuration.
    pub dtype_published: Dtype,
}

/// One tensor of a layer, or one of each routed expert, without its name's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) component: Component,
    pub(crate) quantizable: bool,
    pub(crate) dtype: Dtype,
}

impl Part {
    pub(crate) fn elements(&self) -> u64 {
        self.shape.iter().map(|d| *d as u64).product()
    }
}

/// Parts that stand together under one prefix: once, or once for each routed expert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) prefix: &'static str,
    /// `None`: once. `Some(n)`: for experts 0 to n − 1, the number following the prefix.
    pub(crate) experts: Option<usize>,
    pub(crate) parts: Vec<Part>,
}

impl Section {
    fn once(prefix: &'static str, parts: Vec<Part>) -> Self {
        Self {
            prefix,
            experts: None,
            parts,
        }
    }

    /// How often the parts stand in the checkpoint.
    pub(crate) fn copies(&self) -> u64 {
        self.experts.map_or(1, |n| n as u64)
    }
}

/// A stretch of the model that is placed as one: the embedding, a layer, the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Embedding,
    Layer(usize),
    Head,
}

/// Every tensor that a configuration implies, made as it is asked for: a layout of 90,000 tensors
/// costs nothing until it is walked.
#[derive(Debug, Clone)]
pub struct Layout {
    args: ModelArgs,
}

impl Layout {
    /// The layout of this configuration.
    pub fn new(args: &ModelArgs) -> Self {
        Self { args: args.clone() }
    }

    /// The configuration.
    pub fn args(&self) -> &ModelArgs {
        &self.args
    }

    /// All weights in checkpoint order, without the scale tensors of quantised ones.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> + '_ {
        self.units().flat_map(move |unit| {
            let prefix = match unit {
                Unit::Layer(i) => format!("model.layers.{i}."),
                Unit::Embedding | Unit::Head => String::new(),
            };
            self.sections(unit)
                .into_iter()
                .flat_map(move |s| expand(prefix.clone(), s))
        })
    }

    /// How many weights there are, without scale tensors.
    pub fn num_tensors(&self) -> u64 {
        self.units()
            .flat_map(|unit| self.sections(unit))
            .map(|s| s.copies() * s.parts.len() as u64)
            .sum()
    }

    /// The purpose of a tensor by its name, a scale tensor's being its weight's.
    ///
    /// Only the name is looked at; [`Component::Other`] for names outside of the layout.
    pub fn component_of(&self, name: &str) -> Component {
        self.spec_of(name)
            .or_else(|| self.stack_of(name))
            .map_or(Component::Other, |spec| spec.component)
    }

    /// The stack of routed experts of this name, `[experts, rows, in]`, which packed checkpoints
    /// have in the place of the experts' own weights.
    pub(crate) fn stack_of(&self, name: &str) -> Option<TensorSpec> {
        let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let part = part.strip_prefix("mlp.experts.")?;
        let stack = Stack::ALL.into_iter().find(|s| s.part() == part)?;
        // Any expert's part tells its columns; the stack has the rows of all of them.
        let first = stack.of_expert().first()?;
        let one = self.spec_of(&format!("model.layers.{layer}.mlp.experts.0.{first}"))?;
        let &[rows, columns] = one.shape.as_slice() else {
            return None;
        };
        Some(TensorSpec {
            name: name.to_owned(),
            shape: vec![
                self.args.n_routed_experts,
                rows * stack.of_expert().len(),
                columns,
            ],
            ..one
        })
    }

    /// Whether the weight or stack of this name may be packed in groups.
    ///
    /// `kv_b_proj` may not, for now: the attention kernels take it apart by heads and read it in
    /// bf16 or fp8. Experts are packed in stacks only.
    pub(crate) fn may_be_packed(&self, name: &str) -> bool {
        if name.ends_with(KV_B_PROJ) {
            return false;
        }
        let component = self.component_of(name);
        component.may_be_packed() && component.is_routed() == self.stack_of(name).is_some()
    }

    /// The tensor of this name (or the weight of this scale tensor's name), if the layout has it.
    pub fn spec_of(&self, name: &str) -> Option<TensorSpec> {
        let name = name.strip_suffix(SCALE_SUFFIX).unwrap_or(name);
        let (unit, rest) = match name.strip_prefix("model.layers.") {
            Some(rest) => {
                let (number, rest) = rest.split_once('.')?;
                let layer = canonical_number(number)?;
                (layer < self.args.num_stored_layers()).then_some(())?;
                (Unit::Layer(layer), rest)
            }
            None if name.starts_with("model.embed_tokens.") => (Unit::Embedding, name),
            None => (Unit::Head, name),
        };
        for section in self.sections(unit) {
            let Some(mut tail) = rest.strip_prefix(section.prefix) else {
                continue;
            };
            if let Some(experts) = section.experts {
                let Some((number, after)) = tail.split_once('.') else {
                    continue;
                };
                if canonical_number(number).is_none_or(|n| n >= experts) {
                    continue;
                }
                tail = after;
            }
            if let Some(part) = section.parts.into_iter().find(|p| p.name == tail) {
                return Some(spec(name.to_owned(), part));
            }
        }
        None
    }

    /// The units in checkpoint order.
    pub(crate) fn units(&self) -> impl Iterator<Item = Unit> + use<> {
        let layers = (0..self.args.num_stored_layers()).map(Unit::Layer);
        std::iter::once(Unit::Embedding)
            .chain(layers)
            .chain(std::iter::once(Unit::Head))
    }

    pub(crate) fn is_mtp(&self, unit: Unit) -> bool {
        matches!(unit, Unit::Layer(i) if i >= self.args.num_hidden_layers)
    }

    /// What one unit holds, in checkpoint order.
    pub(crate) fn sections(&self, unit: Unit) -> Vec<Section> {
        let a = &self.args;
        let matrix = [a.vocab_size, a.hidden_size];
        match unit {
            Unit::Embedding => vec![Section::once(
                "model.",
                vec![plain("embed_tokens.weight", &matrix, Component::Embedding)],
            )],
            Unit::Layer(i) => self.layer(i),
            Unit::Head => {
                let norm = plain("model.norm.weight", &[a.hidden_size], Component::Norm);
                let head = plain("lm_head.weight", &matrix, Component::LmHead);
                let parts = if a.tie_word_embeddings {
                    vec![norm]
                } else {
                    vec![norm, head]
                };
                vec![Section::once("", parts)]
            }
        }
    }

    fn layer(&self, i: usize) -> Vec<Section> {
        let (a, hidden) = (&self.args, self.args.hidden_size);
        let mut sections = Vec::new();
        let mtp = i >= a.num_hidden_layers;
        if mtp {
            let vocab = [a.vocab_size, hidden];
            sections.push(Section::once(
                "",
                vec![
                    plain("embed_tokens.weight", &vocab, Component::MtpEmbedding),
                    plain("enorm.weight", &[hidden], Component::Norm),
                    plain("hnorm.weight", &[hidden], Component::Norm),
                    plain(
                        "eh_proj.weight",
                        &[hidden, 2 * hidden],
                        Component::MtpProjection,
                    ),
                    plain("shared_head.norm.weight", &[hidden], Component::Norm),
                    plain("shared_head.head.weight", &vocab, Component::MtpLmHead),
                ],
            ));
        }
        sections.push(Section::once(
            "",
            vec![
                plain("input_layernorm.weight", &[hidden], Component::Norm),
                plain(
                    "post_attention_layernorm.weight",
                    &[hidden],
                    Component::Norm,
                ),
            ],
        ));
        sections.push(Section::once("self_attn.", self.attention()));
        if a.is_moe_layer(i) {
            let experts = a.n_routed_experts;
            let bias = "gate.e_score_correction_bias";
            let mut bias = plain(bias, &[experts], Component::Router);
            bias.dtype = Dtype::F32;
            let gate = plain("gate.weight", &[experts, hidden], Component::Router);
            sections.push(Section::once("mlp.", vec![gate, bias]));
            sections.push(Section {
                prefix: "mlp.experts.",
                experts: Some(experts),
                parts: self.mlp(a.moe_intermediate_size, Component::RoutedExperts),
            });
            if a.n_shared_experts > 0 {
                let parts = self.mlp(a.shared_intermediate_size(), Component::SharedExperts);
                sections.push(Section::once("mlp.shared_experts.", parts));
            }
        } else {
            let parts = self.mlp(a.intermediate_size, Component::DenseMlp);
            sections.push(Section::once("mlp.", parts));
        }
        if mtp {
            for part in sections.iter_mut().flat_map(|s| &mut s.parts) {
                part.component = part.component.of_mtp();
            }
        }
        sections
    }

    fn attention(&self) -> Vec<Part> {
        let a = &self.args;
        let (hidden, heads) = (a.hidden_size, a.num_attention_heads);
        let query = heads * a.qk_head_dim();
        let linear = |name, shape| self.linear(name, shape, Component::Attention);
        let mut parts = match a.q_lora_rank {
            None => vec![linear("q_proj.weight", [query, hidden])],
            Some(rank) => vec![
                linear("q_a_proj.weight", [rank, hidden]),
                plain("q_a_layernorm.weight", &[rank], Component::Norm),
                linear("q_b_proj.weight", [query, rank]),
            ],
        };
        let key_value = heads * (a.qk_nope_head_dim + a.v_head_dim);
        parts.extend([
            linear("kv_a_proj_with_mqa.weight", [a.latent_dim(), hidden]),
            plain("kv_a_layernorm.weight", &[a.kv_lora_rank], Component::Norm),
            linear(KV_B_PROJ, [key_value, a.kv_lora_rank]),
            linear("o_proj.weight", [hidden, heads * a.v_head_dim]),
        ]);
        parts
    }

    fn mlp(&self, width: usize, component: Component) -> Vec<Part> {
        let hidden = self.args.hidden_size;
        vec![
            self.linear("gate_proj.weight", [width, hidden], component),
            self.linear("up_proj.weight", [width, hidden], component),
            self.linear("down_proj.weight", [hidden, width], component),
        ]
    }

    /// A projection that fp8 checkpoints hold in fp8.
    fn linear(&self, name: &'static str, shape: [usize; 2], component: Component) -> Part {
        let dtype = if self.args.quantization.is_some() {
            Dtype::F8E4M3
        } else {
            Dtype::BF16
        };
        Part {
            name,
            shape: shape.to_vec(),
            component,
            quantizable: true,
            dtype,
        }
    }
}

/// A tensor that stays bf16 in fp8 checkpoints.
fn plain(name: &'static str, shape: &[usize], component: Component) -> Part {
    let shape = shape.to_vec();
    Part {
        name,
        shape,
        component,
        quantizable: false,
        dtype: Dtype::BF16,
    }
}

fn spec(name: String, part: Part) -> TensorSpec {
    TensorSpec {
        name,
        shape: part.shape,
        component: part.component,
        quantizable: part.quantizable,
        dtype_published: part.dtype,
    }
}

fn expand(prefix: String, section: Section) -> impl Iterator<Item = TensorSpec> {
    let Section {
        prefix: inner,
        experts,
        parts,
    } = section;
    (0..experts.unwrap_or(1)).flat_map(move |e| {
        let prefix = match experts {
            Some(_) => format!("{prefix}{inner}{e}."),
            None => format!("{prefix}{inner}"),
        };
        parts
            .clone()
            .into_iter()
            .map(move |part| spec(format!("{prefix}{}", part.name), part))
    })
}

/// A number without sign or leading zeros: `07` and `+7` are other names than `7`.
pub(crate) fn canonical_number(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
