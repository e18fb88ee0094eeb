//! A recipe's text to its rules, refusing by line.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::shown;
use crate::group::{GroupBits, GroupFormat};
use crate::layout::{Component, canonical_number};
use crate::{WeightsError, json};

use super::{Recipe, Rule, WeightFormat};

/// Projections by the component that has them.
const ATTENTION: [&str; 6] = [
    "q_proj",
    "q_a_proj",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
    "o_proj",
];
const MLP: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipe {
    rules: Vec<RawRule>,
    default: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    component: String,
    projection: Option<String>,
    layers: Option<String>,
    format: String,
    group: Option<u64>,
}

pub(super) fn recipe(file: &Path, text: &[u8]) -> Result<Recipe, WeightsError> {
    let fault = |line, problem| WeightsError::Recipe {
        file: file.into(),
        line,
        problem,
    };
    json::check_depth(text).map_err(|problem| fault(1, problem))?;
    let raw: RawRecipe = serde_json::from_slice(text)
        .map_err(|e| fault(e.line(), format!("not a recipe: {}", json::problem(&e))))?;
    let lines = rule_lines(text);
    let mut rules: Vec<Rule> = Vec::with_capacity(raw.rules.len());
    for (raw, line) in raw.rules.into_iter().zip(lines) {
        let rule = raw.check(line).map_err(|problem| fault(line, problem))?;
        if let Some(first) = rules.iter().find(|first| first.covers(&rule)) {
            let problem = format!(
                "this rule never decides: the one in line {} takes all of it. Put the narrower rule first",
                first.line
            );
            return Err(fault(line, problem));
        }
        if let Some(problem) = parted(&rules, &rule) {
            return Err(fault(line, problem));
        }
        rules.push(rule);
    }
    let default = match raw.default {
        None => None,
        Some(name) => Some(format(&name, None).map_err(|problem| {
            let line = line_of_default(text);
            fault(line, format!("`default` {problem}"))
        })?),
    };
    let recipe = Recipe {
        rules,
        default,
        file: file.into(),
    };
    Ok(recipe)
}

impl RawRule {
    fn check(self, line: usize) -> Result<Rule, String> {
        let component = component(&self.component)?;
        let format = format(&self.format, self.group).map_err(|p| format!("`format` {p}"))?;
        match format {
            WeightFormat::Group(_) if !component.may_be_packed() => {
                return Err(format!(
                    "{component} cannot be {}: only matrices that activations are multiplied by are packed",
                    self.format
                ));
            }
            WeightFormat::Fp8 if projections(component).is_empty() => {
                return Err(format!(
                    "{component} cannot be fp8: published checkpoints have it in bf16, and so must readers"
                ));
            }
            _ => {}
        }
        if let Some(projection) = &self.projection {
            let known = projections(component);
            if !known.contains(&projection.as_str()) {
                return Err(match known {
                    [] => format!("{component} has no projections; leave `projection` out"),
                    known => format!(
                        "{component} has no projection `{}`; it has {}",
                        shown(projection),
                        known.join(", ")
                    ),
                });
            }
            if projection == "kv_b_proj" && matches!(format, WeightFormat::Group(_)) {
                return Err("kv_b_proj cannot be packed: attention reads it in bf16 or fp8".into());
            }
            if component.is_routed() {
                return Err(format!(
                    "{component} have no `projection` of their own: the rows of gate and up stand in turn, and with them goes down; leave it out"
                ));
            }
        }
        let layers = self.layers.as_deref().map(layers).transpose()?;
        Ok(Rule {
            component,
            projection: self.projection,
            layers,
            format,
            line,
        })
    }
}

/// The name, as [`Component::name`] has it.
fn component(name: &str) -> Result<Component, String> {
    let found = Component::ALL.into_iter().find(|c| c.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = Component::ALL.iter().map(|c| c.name()).collect();
        format!(
            "there is no component `{}`; there are {}",
            shown(name),
            names.join(", ")
        )
    })
}

fn projections(component: Component) -> &'static [&'static str] {
    match component {
        Component::Attention | Component::MtpAttention => &ATTENTION,
        Component::DenseMlp
        | Component::RoutedExperts
        | Component::SharedExperts
        | Component::MtpDenseMlp
        | Component::MtpRoutedExperts
        | Component::MtpSharedExperts => &MLP,
        _ => &[],
    }
}

fn format(name: &str, group: Option<u64>) -> Result<WeightFormat, String> {
    let plain = |format| match group {
        None => Ok(format),
        Some(_) => Err(format!("{name} has no `group`; leave it out")),
    };
    if let Some(bits) = GroupBits::from_name(name) {
        let Some(group) = group else {
            return Ok(WeightFormat::Group(GroupFormat::of(bits)));
        };
        let columns = usize::try_from(group).unwrap_or(usize::MAX);
        return GroupFormat::new(bits, columns)
            .map(WeightFormat::Group)
            .map_err(|_| {
                format!("{name} has `group` {group}, which is no multiple of 32 from 32 to 65536")
            });
    }
    match name {
        "f32" => plain(WeightFormat::F32),
        "bf16" => plain(WeightFormat::Bf16),
        "fp8" => plain(WeightFormat::Fp8),
        other => Err(format!(
            "is `{}`; choose int4, int8, fp8, bf16 or f32",
            shown(other)
        )),
    }
}

/// `3-60`, or `7` for one layer.
fn layers(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (canonical_number(first), canonical_number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(first), Some(last)) => Err(format!(
            "`layers` is {first}-{last}, which is backwards; write {last}-{first}"
        )),
        _ => Err(format!(
            "`layers` is `{}`; write a range such as 3-60, or one number",
            shown(text)
        )),
    }
}

/// Two rules for the same component that overlap without one lying in the other: which of them a
/// layer falls under would be an accident of their order.
fn parted(rules: &[Rule], rule: &Rule) -> Option<String> {
    let layers = rule.layers.as_ref()?;
    let crossing = rules.iter().find(|other| {
        other.component == rule.component
            && other.projection == rule.projection
            && other.layers.as_ref().is_some_and(|o| {
                let meet = o.start() <= layers.end() && layers.start() <= o.end();
                meet && !rule.covers(other) && !other.covers(rule)
            })
    })?;
    Some(format!(
        "`layers` overlap with those of the rule in line {}; let one of the two end where the other begins",
        crossing.line
    ))
}

/// The line of each rule's opening brace: the third level, which only rules have.
fn rule_lines(text: &[u8]) -> Vec<usize> {
    let (mut lines, mut depth, mut line) = (Vec::new(), 0usize, 1);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            b'\n' => line += 1,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth == 3 {
                    lines.push(line);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    lines
}

/// The line of the key `default`, which stands once.
fn line_of_default(text: &[u8]) -> usize {
    let key = b"\"default\"";
    let at = text.windows(key.len()).position(|w| w == key).unwrap_or(0);
    1 + text.iter().take(at).filter(|b| **b == b'\n').count()
}
