//! Which weights a conversion writes in which format.
//!
//! A recipe is a list of rules and a default; the first rule that matches a weight decides:
//!
//! ```json
//! {
//!   "rules": [
//!     { "component": "routed_experts", "layers": "3-60", "format": "int4", "group": 32 },
//!     { "component": "attention", "projection": "o_proj", "format": "bf16" },
//!     { "component": "attention", "format": "int8" }
//!   ],
//!   "default": "int8"
//! }
//! ```

use std::ops::RangeInclusive;
use std::path::Path;

use crate::group::{GroupBits, GroupFormat};
use crate::layout::{Component, KV_B_PROJ, Layout, Part, TensorSpec};
use crate::{Dtype, WeightsError, json};

mod parse;

/// The longest recipe that is read.
pub const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// What a weight is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightFormat {
    /// IEEE single precision.
    F32,
    /// Upper half of f32.
    Bf16,
    /// e4m3 with a scale per block.
    Fp8,
    /// int8 or int4 with a scale per group.
    Group(GroupFormat),
}

impl WeightFormat {
    /// The float format, if it is one.
    pub(crate) fn float(self) -> Option<Dtype> {
        match self {
            Self::F32 => Some(Dtype::F32),
            Self::Bf16 => Some(Dtype::BF16),
            Self::Fp8 | Self::Group(_) => None,
        }
    }
}

/// One rule: the weights that it is for, and their format.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    component: Component,
    /// A projection's name such as `o_proj`; all of the component without it.
    projection: Option<String>,
    /// Layers, the MTP modules counting on behind the main ones; all without it.
    layers: Option<RangeInclusive<usize>>,
    format: WeightFormat,
    /// Where it stands, for errors; 0 for rules of this program.
    line: usize,
}

/// Which weights are written in which format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    rules: Vec<Rule>,
    /// Of what no rule is for and fp8 checkpoints would have in fp8; bf16 without it.
    default: Option<WeightFormat>,
    /// For errors.
    file: std::path::PathBuf,
}

impl Recipe {
    /// Every projection and expert in one format.
    pub fn uniform(format: WeightFormat) -> Self {
        Self {
            rules: Vec::new(),
            default: Some(format),
            file: "recipe".into(),
        }
    }

    /// Experts, MLPs and attention in int4 with groups of `group` columns; embedding, head, router
    /// and norms stay in bf16.
    ///
    /// Two of attention's projections are int8 in groups of 64 instead: `kv_a_proj_with_mqa`,
    /// because its output is what the cache keeps and every later token reads, and `q_a_proj`,
    /// whose few outputs all heads share. Both are small: of DeepSeek-V3's 671B parameters they
    /// are 0.9B, so this costs 0.1 % of the file.
    ///
    /// # Errors
    /// [`WeightsError::BadOption`] for a group that is no multiple of 32.
    pub fn int4(group: usize) -> Result<Self, WeightsError> {
        let int8 = WeightFormat::Group(GroupFormat::of(GroupBits::Int8));
        let rule = |component, projection: &str| Rule {
            component,
            projection: Some(projection.to_owned()),
            layers: None,
            format: int8,
            line: 0,
        };
        let format = GroupFormat::new(GroupBits::Int4, group)?;
        let mut recipe = Self::uniform(WeightFormat::Group(format));
        for component in [Component::Attention, Component::MtpAttention] {
            for projection in ["kv_a_proj_with_mqa", "q_a_proj"] {
                recipe.rules.push(rule(component, projection));
            }
        }
        Ok(recipe)
    }

    /// Experts, MLPs and attention in int8 with groups of `group` columns, the rest in bf16.
    ///
    /// # Errors
    /// [`WeightsError::BadOption`] for a group that is no multiple of 32.
    pub fn int8(group: usize) -> Result<Self, WeightsError> {
        let format = GroupFormat::new(GroupBits::Int8, group)?;
        Ok(Self::uniform(WeightFormat::Group(format)))
    }

    /// Reads a recipe's file.
    ///
    /// # Errors
    /// [`WeightsError::Recipe`] with the line of what is wrong, [`WeightsError::FileTooLarge`],
    /// [`WeightsError::Io`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        parse::recipe(path, &json::read_bounded(path, MAX_RECIPE_BYTES)?)
    }

    /// Reads a recipe's text.
    ///
    /// # Errors
    /// [`WeightsError::Recipe`] with the line of what is wrong.
    pub fn from_json_bytes(text: &[u8]) -> Result<Self, WeightsError> {
        parse::recipe(Path::new("recipe"), text)
    }

    /// What the recipe says of weights that no rule is for, if it says it.
    pub fn default_format(&self) -> Option<WeightFormat> {
        self.default
    }

    /// The recipe with `other`'s rules behind its own, and `other`'s default if it has none.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        if self.default.is_none() {
            self.rules.extend(other.rules.iter().cloned());
            self.default = other.default;
        }
        self
    }

    /// Refuses rules for layers that the model does not have.
    pub(crate) fn check(&self, layout: &Layout) -> Result<(), WeightsError> {
        let count = layout.args().num_stored_layers();
        let beyond = |rule: &&Rule| rule.layers.as_ref().is_some_and(|l| *l.end() >= count);
        match self.rules.iter().find(beyond) {
            Some(rule) => Err(WeightsError::Recipe {
                file: self.file.clone(),
                line: rule.line,
                problem: format!(
                    "`layers` goes up to {}; the model's last is {}",
                    rule.layers.as_ref().map_or(0, |l| *l.end()),
                    count.saturating_sub(1)
                ),
            }),
            None => Ok(()),
        }
    }

    /// Of everything that no rule can be for: norms, embeddings, routers.
    pub(crate) fn plain_float(&self) -> Dtype {
        match self.default {
            Some(WeightFormat::F32) => Dtype::F32,
            _ => Dtype::BF16,
        }
    }

    /// Whether some weight may be fp8.
    pub(crate) fn has_fp8(&self) -> bool {
        let formats = self.rules.iter().map(|r| r.format).chain(self.default);
        formats.into_iter().any(|f| f == WeightFormat::Fp8)
    }

    /// The format of a weight of the layout by its full name.
    pub(crate) fn format_of(&self, layout: &Layout, spec: &TensorSpec) -> WeightFormat {
        let (layer, tail) = match spec.name.strip_prefix("model.layers.") {
            Some(rest) => rest.split_once('.').unwrap_or((rest, "")),
            None => ("", spec.name.as_str()),
        };
        let part = tail.trim_end_matches(".weight");
        let part = part.rsplit_once('.').map_or(part, |(_, last)| last);
        let weight = Asked {
            component: spec.component,
            part,
            layer: layer.parse().ok(),
            columns: spec.shape.last().copied().unwrap_or(0),
            quantizable: spec.quantizable,
            published: spec.dtype_published,
        };
        self.decide(layout, &weight)
    }

    /// The format of a part of any layer, for a recipe without rules by layer.
    pub(crate) fn format_of_part(&self, layout: &Layout, part: &Part) -> WeightFormat {
        let name = part.name.trim_end_matches(".weight");
        let weight = Asked {
            component: part.component,
            part: name.rsplit_once('.').map_or(name, |(_, last)| last),
            layer: None,
            columns: part.shape.last().copied().unwrap_or(0),
            quantizable: part.quantizable,
            published: part.dtype,
        };
        self.decide(layout, &weight)
    }

    fn decide(&self, layout: &Layout, weight: &Asked<'_>) -> WeightFormat {
        let plain = match self.plain_float() {
            Dtype::F32 => WeightFormat::F32,
            _ => WeightFormat::Bf16,
        };
        if weight.published == Dtype::F32 {
            return WeightFormat::F32; // the router's correction biases, in all formats
        }
        let rule = self.rules.iter().find(|rule| rule.matches(weight));
        let format = match (rule, self.default) {
            (Some(rule), _) => rule.format,
            (None, Some(default)) if weight.quantizable => default,
            (None, _) => return plain,
        };
        match format {
            WeightFormat::Group(_) if !packable(layout, weight) => WeightFormat::Bf16,
            format => format,
        }
    }
}

/// Whether it has the shape and the reader for it; what has not is written in bf16.
fn packable(layout: &Layout, weight: &Asked<'_>) -> bool {
    if KV_B_PROJ.starts_with(weight.part) {
        return false; // see `Layout::may_be_packed`
    }
    let args = layout.args();
    if weight.component.is_routed() {
        // Both stacks or none.
        return [args.hidden_size, args.moe_intermediate_size]
            .into_iter()
            .all(GroupFormat::fits);
    }
    weight.component.may_be_packed() && GroupFormat::fits(weight.columns)
}

/// What rules look at of a weight.
struct Asked<'a> {
    component: Component,
    part: &'a str,
    layer: Option<usize>,
    columns: usize,
    quantizable: bool,
    published: Dtype,
}

impl Rule {
    fn matches(&self, weight: &Asked<'_>) -> bool {
        let layer =
            |layers: &RangeInclusive<usize>| weight.layer.is_some_and(|l| layers.contains(&l));
        self.component == weight.component
            && self.projection.as_ref().is_none_or(|p| p == weight.part)
            && self.layers.as_ref().is_none_or(layer)
    }

    /// Whether it takes everything that `other` is for.
    fn covers(&self, other: &Self) -> bool {
        let all = |layers: &RangeInclusive<usize>| {
            let others = other.layers.as_ref();
            others.is_some_and(|o| layers.contains(o.start()) && layers.contains(o.end()))
        };
        self.component == other.component
            && (self.projection.is_none() || self.projection == other.projection)
            && self.layers.as_ref().is_none_or(all)
    }
}
