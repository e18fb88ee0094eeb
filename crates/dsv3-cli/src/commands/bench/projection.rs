//! What a model would reach whose layers were not all measured: a larger one of the same kind.

use std::array;
use std::path::Path;

use dsv3_model::{Checkpoint, LatentFormat, ModelArgs};
use dsv3_weights::{Component, ComponentPlan, Inventory, Plan, PlanFormat, PlanOptions};
use serde::Serialize;

use super::measure::{Kind, Measurement};
use super::part::ByPart;
use super::size::Size;
use crate::error::usage;

/// What the model of another configuration would reach.
#[derive(Debug, Serialize)]
pub(super) struct Projection {
    pub(super) config: String,
    /// Format of its weights: the measured model's.
    pub(super) format: &'static str,
    /// The memory's speed that is reckoned with.
    pub(super) bandwidth_gb_s: Option<f64>,
    /// Whether its layers have the measured ones' shapes, so that their times are its own.
    pub(super) same_shapes: bool,
    pub(super) weight_bytes: u64,
    /// Whether they are less than the memory available here; null where that is unknown, and for
    /// another machine.
    pub(super) fits_memory: Option<bool>,
    pub(super) rows: Vec<ProjectedRow>,
}

/// One measurement, as that model would give it.
#[derive(Debug, Serialize)]
pub(super) struct ProjectedRow {
    pub(super) kind: Kind,
    pub(super) tokens: usize,
    pub(super) depth: usize,
    pub(super) tokens_per_s: f64,
    /// Null for prefill, which is not reckoned from bytes.
    pub(super) bytes_per_token: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) per_million_tokens: Option<f64>,
}

/// The model of `--project`, and what must be known of the measured one.
#[derive(Debug)]
pub(super) struct Target {
    config: String,
    args: ModelArgs,
    format: &'static str,
    /// In the format of most of the measured weights.
    plan: Plan,
    /// What the measured model's recipe makes of that.
    size: Size,
    same_shapes: bool,
    /// Parameters that a token meets, of the measured model.
    measured_work: ByPart,
    /// And of this one.
    work: ByPart,
}

impl Target {
    /// Read the configuration and count what it describes, in the formats of `measured`.
    pub(super) fn open(
        config: &Path,
        measured: &Checkpoint,
        cache: LatentFormat,
    ) -> anyhow::Result<Self> {
        let args = ModelArgs::from_file(config)?;
        let inventory = Inventory::of(measured);
        let bytes = inventory.components.iter().map(|(of, c)| (*of, c.bytes));
        let format = format_of(&inventory);
        Target::new(config, args, (measured.args(), bytes), format, cache)
    }

    fn new(
        config: &Path,
        args: ModelArgs,
        (measured, bytes): (&ModelArgs, impl Iterator<Item = (Component, u64)>),
        (format, name): (PlanFormat, &'static str),
        cache: LatentFormat,
    ) -> anyhow::Result<Self> {
        let plan = |args: &ModelArgs| {
            let options = PlanOptions {
                format,
                cache_dtype: cache.into(),
                mtp_weights: false,
                ..PlanOptions::default()
            };
            Plan::new(args, &options)
        };
        let (plan, of_measured) = (plan(&args)?, plan(measured)?);
        let parameters = |_, c: &ComponentPlan| c.parameters as f64;
        Ok(Target {
            config: config.display().to_string(),
            format: name,
            same_shapes: same_shapes(&args, measured),
            work: of_token(&plan, &args, parameters),
            measured_work: of_token(&of_measured, measured, parameters),
            size: Size::new(bytes, &of_measured),
            plan,
            args,
        })
    }

    /// Bytes of all its weights.
    fn weight_bytes(&self) -> u64 {
        let components = self.plan.components.iter();
        let bytes: f64 = components.map(|(of, c)| self.size.bytes(*of, c)).sum();
        bytes.round() as u64
    }

    /// The configuration.
    pub(super) fn args(&self) -> &ModelArgs {
        &self.args
    }

    /// From `measurements`, for this machine, whose memory was read at `measured` GB/s at best, or for
    /// one whose memory is read at `asked` GB/s.
    pub(super) fn project(
        &self,
        measurements: &[Measurement],
        measured: Option<f64>,
        asked: Option<f64>,
        available: Option<u64>,
    ) -> Projection {
        let single = measurements.iter().filter(|m| m.batch == 1);
        let rows = single.filter_map(|m| match (m.kind, asked) {
            (Kind::Decode, _) => {
                let faster = asked.zip(m.limits.bandwidth_gb_s);
                Some(self.decode(m, faster.map_or(1.0, |(asked, here)| asked / here)))
            }
            (Kind::Prefill, None) => Some(self.prefill(m)),
            // Another machine's arithmetic is not known from its memory.
            (Kind::Prefill, Some(_)) => None,
        });
        let weight_bytes = self.weight_bytes();
        Projection {
            config: self.config.clone(),
            format: self.format,
            bandwidth_gb_s: asked.or(measured),
            same_shapes: self.same_shapes,
            weight_bytes,
            fits_memory: match asked {
                Some(_) => None,
                None => available.map(|bytes| weight_bytes <= bytes),
            },
            rows: rows.collect(),
        }
    }

    /// Each part's bytes at the speed at which the measured model's were read.
    fn decode(&self, measured: &Measurement, faster: f64) -> ProjectedRow {
        let (read, seconds) = (ByPart::of_bytes(&measured.bytes), measured.median());
        // The n-th decoded token sees all before it and itself.
        let context = measured.depth as f64 + (measured.tokens as f64 + 1.0) / 2.0;
        let mut bytes = of_token(&self.plan, &self.args, |of, c| self.size.bytes(of, c));
        bytes.0[0] += context * self.plan.cache.bytes_per_token as f64;
        let seconds = scaled(bytes, read, seconds).total() / faster;
        ProjectedRow {
            kind: Kind::Decode,
            tokens: measured.tokens,
            depth: measured.depth,
            tokens_per_s: 1.0 / seconds,
            bytes_per_token: Some(bytes.total()),
            per_million_tokens: None,
        }
    }

    /// Each part's parameters at the speed at which the measured model's were multiplied.
    fn prefill(&self, measured: &Measurement) -> ProjectedRow {
        let seconds = scaled(self.work, self.measured_work, measured.median());
        ProjectedRow {
            kind: Kind::Prefill,
            tokens: measured.tokens,
            depth: measured.depth,
            tokens_per_s: measured.all_tokens() / seconds.total(),
            bytes_per_token: None,
            per_million_tokens: None,
        }
    }
}

/// Refuse a bandwidth that nothing measured can be compared with.
pub(super) fn check_bandwidth(asked: Option<f64>, measured: Option<f64>) -> anyhow::Result<()> {
    match (asked, measured) {
        (Some(_), None) => Err(usage(
            "--bandwidth needs this machine's own to compare with, and too little memory is \
             available to measure it: leave it out, or free some memory",
        )),
        _ => Ok(()),
    }
}

/// Seconds for `wanted`, where `done` took `seconds`. A part that the measured model lacks is as
/// fast as all of it.
fn scaled(wanted: ByPart, done: ByPart, seconds: ByPart) -> ByPart {
    ByPart(array::from_fn(|part| match done[part] > 0.0 {
        true => wanted[part] * seconds[part] / done[part],
        false => wanted[part] * seconds.total() / done.total().max(f64::MIN_POSITIVE),
    }))
}

/// What one token meets of each part: of the routed experts those that are chosen.
fn of_token(
    plan: &Plan,
    args: &ModelArgs,
    count: impl Fn(Component, &ComponentPlan) -> f64,
) -> ByPart {
    let of = |component| {
        let planned = plan.components.get(&component);
        planned.map_or(0.0, |planned| count(component, planned))
    };
    let chosen = args.num_experts_per_tok as f64 / args.n_routed_experts.max(1) as f64;
    let head = match args.tie_word_embeddings {
        true => Component::Embedding,
        false => Component::LmHead,
    };
    ByPart([
        of(Component::Attention) + of(Component::Norm),
        of(Component::DenseMlp),
        of(Component::Router)
            + of(Component::SharedExperts)
            + of(Component::RoutedExperts) * chosen,
        of(head),
    ])
}

/// Whether a layer of one does the work of a layer of the other for one token.
fn same_shapes(one: &ModelArgs, other: &ModelArgs) -> bool {
    let of = |args: &ModelArgs| {
        let attention = [
            args.hidden_size,
            args.num_attention_heads,
            args.q_lora_rank.unwrap_or(0),
            args.kv_lora_rank,
            args.qk_nope_head_dim,
            args.qk_rope_head_dim,
            args.v_head_dim,
        ];
        let rest = [
            args.intermediate_size,
            args.moe_intermediate_size,
            args.n_shared_experts,
            args.num_experts_per_tok,
            args.vocab_size,
        ];
        (attention, rest)
    };
    of(one) == of(other)
}

/// The format of most of a checkpoint's weights.
fn format_of(inventory: &Inventory) -> (PlanFormat, &'static str) {
    let packed = inventory.packed.iter();
    if let Some((format, _)) = packed.max_by_key(|(_, counts)| counts.parameters) {
        return match format.starts_with("int4") {
            true => (PlanFormat::Int4, "int4"),
            false => (PlanFormat::Int8, "int8"),
        };
    }
    let has = |dtype: &str| inventory.main.dtypes.get(dtype).copied().unwrap_or(0);
    if has("F8_E4M3") > 0 {
        return (PlanFormat::Fp8, "fp8");
    }
    let plain = [
        (has("BF16"), PlanFormat::Bf16, "bf16"),
        (has("F16"), PlanFormat::F16, "f16"),
        (has("F32"), PlanFormat::F32, "f32"),
    ];
    let most = plain.into_iter().max_by_key(|(tensors, ..)| *tensors);
    most.map_or((PlanFormat::Bf16, "bf16"), |(_, format, name)| {
        (format, name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;
    use dsv3_model::PassBytes;

    fn published() -> ModelArgs {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/config/config.json"
        );
        ModelArgs::from_file(file).unwrap()
    }

    /// V3.1 with two layers, one of them dense, and 32 experts.
    fn slice() -> ModelArgs {
        let mut args = published();
        (args.num_hidden_layers, args.first_k_dense_replace) = (2, 1);
        args.n_routed_experts = 32;
        args
    }

    /// What the slice has in a format.
    fn planned(format: PlanFormat) -> Plan {
        let options = PlanOptions {
            format,
            mtp_weights: false,
            ..PlanOptions::default()
        };
        Plan::new(&slice(), &options).unwrap()
    }

    /// `args`, where the slice was measured in fp8, but for `other` in a format of its own.
    fn target_with(
        args: ModelArgs,
        measured: &ModelArgs,
        other: (Component, PlanFormat),
    ) -> Target {
        let (fp8, own) = (planned(PlanFormat::Fp8), planned(other.1));
        let bytes = fp8.components.iter().map(|(of, c)| {
            let c = if *of == other.0 {
                &own.components[of]
            } else {
                c
            };
            (*of, c.bytes)
        });
        let (config, format) = (Path::new("CONFIG"), (PlanFormat::Fp8, "fp8"));
        Target::new(config, args, (measured, bytes), format, LatentFormat::Bf16).unwrap()
    }

    fn target(args: ModelArgs, measured: &ModelArgs) -> Target {
        target_with(args, measured, (Component::Attention, PlanFormat::Fp8))
    }

    /// A second for each part of the slice, at 512 tokens of depth.
    fn measured(kind: Kind) -> Measurement {
        measured_with(kind, (Component::Attention, PlanFormat::Fp8))
    }

    fn measured_with(kind: Kind, other: (Component, PlanFormat)) -> Measurement {
        let slice = target_with(slice(), &slice(), other);
        let bytes = of_token(&slice.plan, &slice.args, |of, c| slice.size.bytes(of, c));
        let [attention, dense, experts, head] = bytes.0.map(|bytes| bytes as u64);
        Measurement {
            kind,
            tokens: 1,
            depth: 511,
            batch: 1,
            bytes: PassBytes {
                attention,
                cache: 512 * slice.plan.cache.bytes_per_token,
                dense,
                experts,
                head,
                ..PassBytes::default()
            },
            operations: 1e9,
            repeats: vec![ByPart([1.0; 4])],
            limits: Limits {
                bandwidth_gb_s: Some(10.0),
                ..Limits::default()
            },
        }
    }

    /// Breaks with: layers counted wrong, all experts counted for one token, a head for each layer.
    #[test]
    fn more_layers_of_the_same_shapes_take_as_many_times_longer() {
        let target = target(published(), &slice());
        assert!(target.same_shapes);
        // 61 layers of attention for 2, 3 dense MLPs for 1, 58 of experts for 1, one head.
        let seconds = 61.0 / 2.0 + 3.0 + 58.0 + 1.0;
        for kind in [Kind::Decode, Kind::Prefill] {
            let projection = target.project(&[measured(kind)], Some(10.0), None, None);
            let speed = projection.rows[0].tokens_per_s;
            // Off by the slice's smaller router and the final norm.
            let off = (speed * seconds - 1.0).abs();
            assert!(off < 0.05, "{kind:?}: {speed}");
        }
    }

    /// Breaks with: bytes that are not the plan's, a faster memory that is not followed, prefill
    /// reckoned for a machine whose arithmetic nobody knows.
    #[test]
    fn another_memory_changes_decoding_alone() {
        let target = target(published(), &slice());
        let both = [measured(Kind::Prefill), measured(Kind::Decode)];
        let here = target.project(&both, Some(10.0), None, Some(1));
        let there = target.project(&both, Some(10.0), Some(40.0), Some(1));
        assert_eq!((here.rows.len(), there.rows.len()), (2, 1));
        let ratio = there.rows[0].tokens_per_s / here.rows[1].tokens_per_s;
        assert!((ratio - 4.0).abs() < 1e-9, "{ratio}");
        assert_eq!((here.fits_memory, there.fits_memory), (Some(false), None));
        assert_eq!(here.weight_bytes, 673_150_611_808);
        let per_token = target.plan.per_token.weight_bytes_read;
        let bytes = here.rows[1].bytes_per_token.unwrap();
        // The plan's own count has the embedding's row besides.
        let row = 2.0 * 7168.0;
        assert!((bytes - 512.0 * 70_272.0 + row - per_token as f64).abs() < 1.0);
        let message = check_bandwidth(Some(40.0), None).unwrap_err();
        assert!(message.to_string().contains("--bandwidth"), "{message}");
    }

    /// Breaks with: a recipe's components reckoned in the format of most weights, which makes those
    /// in a finer one faster than they were measured to be.
    #[test]
    fn a_component_in_a_format_of_its_own_takes_its_measured_time() {
        for format in [PlanFormat::Bf16, PlanFormat::Int4] {
            let own = (Component::Attention, format);
            let target = target_with(published(), &slice(), own);
            let rows = [measured_with(Kind::Decode, own)];
            let projection = target.project(&rows, Some(10.0), None, None);
            let seconds = 61.0 / 2.0 + 3.0 + 58.0 + 1.0;
            let off = projection.rows[0].tokens_per_s * seconds - 1.0;
            assert!(off.abs() < 0.05, "{format:?}: {off}");
        }
    }

    /// Breaks with: a model with other shapes that passes for a slice.
    #[test]
    fn other_shapes_are_told_apart() {
        let mut other = slice();
        other.moe_intermediate_size /= 2;
        assert!(!target(published(), &other).same_shapes);
    }
}
