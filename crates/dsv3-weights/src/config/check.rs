//! From the fields as written to [`ModelArgs`], refusing by name.

use crate::packed::PACKED_VERSION;

use super::raw::{RawConfig, RawQuantization, RawRope, Scalar, Section};
use super::{
    HiddenAct, ModelArgs, QuantFmt, Quantization, RopeScaling, ScaleFmt, ScoringFunc, TopkMethod,
};

/// A field's name and what is wrong with it.
type Fault = (String, String);
type Checked<T> = Result<T, Fault>;

// Bounds far above any model of this architecture, and low enough that the largest product, all
// expert weights of all layers in bytes, stays under 2^63:
// 2^10 layers · 2^13 experts · 3 · 2^17 hidden · 2^17 wide · 4 bytes < 2^61.
const MAX_VOCAB: u64 = 1 << 22;
const MAX_HIDDEN: u64 = 1 << 17;
const MAX_INTERMEDIATE: u64 = 1 << 20;
const MAX_MOE_INTERMEDIATE: u64 = 1 << 17;
const MAX_LAYERS: u64 = 1 << 10;
const MAX_MTP: u64 = 64;
const MAX_HEADS: u64 = 1 << 12;
const MAX_HEAD_DIM: u64 = 1 << 12;
const MAX_RANK: u64 = 1 << 17;
const MAX_EXPERTS: u64 = 1 << 13;
const MAX_SHARED: u64 = 64;
const MAX_POSITIONS: u64 = 1 << 32;
const MAX_BLOCK: u64 = 1 << 16;

pub(super) fn model_args(raw: &RawConfig) -> Checked<ModelArgs> {
    let vocab_size = size("vocab_size", &raw.vocab_size, MAX_VOCAB)?;
    let n_routed_experts = count_or("n_routed_experts", &raw.n_routed_experts, MAX_EXPERTS, 0)?;
    let moe = n_routed_experts > 0;
    let num_hidden_layers = size("num_hidden_layers", &raw.num_hidden_layers, MAX_LAYERS)?;
    let (rope_theta, rope_scaling) = rope(raw)?;
    let (quantization, packed) = match &raw.quantization_config {
        Section::Absent => (None, false),
        Section::Given(q) => quantization(q)?,
        Section::Other(s) => {
            return fault(
                "quantization_config",
                format!("is {}, not an object", s.shown()),
            );
        }
    };
    let args = ModelArgs {
        vocab_size,
        hidden_size: size("hidden_size", &raw.hidden_size, MAX_HIDDEN)?,
        intermediate_size: size(
            "intermediate_size",
            &raw.intermediate_size,
            MAX_INTERMEDIATE,
        )?,
        moe_intermediate_size: if moe || raw.moe_intermediate_size.is_given() {
            size(
                "moe_intermediate_size",
                &raw.moe_intermediate_size,
                MAX_MOE_INTERMEDIATE,
            )?
        } else {
            0
        },
        num_hidden_layers,
        num_nextn_predict_layers: count_or(
            "num_nextn_predict_layers",
            &raw.num_nextn_predict_layers,
            MAX_MTP,
            0,
        )?,
        num_attention_heads: size("num_attention_heads", &raw.num_attention_heads, MAX_HEADS)?,
        n_shared_experts: count_or("n_shared_experts", &raw.n_shared_experts, MAX_SHARED, 0)?,
        n_routed_experts,
        num_experts_per_tok: if moe {
            size("num_experts_per_tok", &raw.num_experts_per_tok, MAX_EXPERTS)?
        } else {
            0
        },
        n_group: size_or("n_group", &raw.n_group, MAX_EXPERTS, 1)?,
        topk_group: size_or("topk_group", &raw.topk_group, MAX_EXPERTS, 1)?,
        first_k_dense_replace: if moe {
            count(
                "first_k_dense_replace",
                &raw.first_k_dense_replace,
                MAX_LAYERS,
            )?
        } else {
            num_hidden_layers
        },
        moe_layer_freq: size_or("moe_layer_freq", &raw.moe_layer_freq, MAX_LAYERS, 1)?,
        norm_topk_prob: if moe {
            truth("norm_topk_prob", &raw.norm_topk_prob)?
        } else {
            true
        },
        routed_scaling_factor: if moe || raw.routed_scaling_factor.is_given() {
            positive("routed_scaling_factor", &raw.routed_scaling_factor)?
        } else {
            1.0
        },
        scoring_func: word(
            "scoring_func",
            &raw.scoring_func,
            "sigmoid",
            ScoringFunc::Sigmoid,
        )?,
        topk_method: word(
            "topk_method",
            &raw.topk_method,
            "noaux_tc",
            TopkMethod::NoauxTc,
        )?,
        q_lora_rank: match &raw.q_lora_rank {
            Scalar::Null => None,
            given => Some(size("q_lora_rank", given, MAX_RANK)?),
        },
        kv_lora_rank: size("kv_lora_rank", &raw.kv_lora_rank, MAX_RANK)?,
        qk_nope_head_dim: size("qk_nope_head_dim", &raw.qk_nope_head_dim, MAX_HEAD_DIM)?,
        qk_rope_head_dim: size("qk_rope_head_dim", &raw.qk_rope_head_dim, MAX_HEAD_DIM)?,
        v_head_dim: size("v_head_dim", &raw.v_head_dim, MAX_HEAD_DIM)?,
        rms_norm_eps: positive("rms_norm_eps", &raw.rms_norm_eps)?,
        rope_theta,
        rope_scaling,
        max_position_embeddings: size(
            "max_position_embeddings",
            &raw.max_position_embeddings,
            MAX_POSITIONS,
        )?,
        tie_word_embeddings: truth_or("tie_word_embeddings", &raw.tie_word_embeddings, false)?,
        hidden_act: word("hidden_act", &raw.hidden_act, "silu", HiddenAct::Silu)?,
        attention_bias: truth_or("attention_bias", &raw.attention_bias, false)?,
        bos_token_id: ids("bos_token_id", &raw.bos_token_id, vocab_size)?,
        eos_token_id: ids("eos_token_id", &raw.eos_token_id, vocab_size)?,
        quantization,
        packed,
    };
    between_fields(&args)?;
    Ok(args)
}

/// What must hold between fields that are each possible alone.
fn between_fields(a: &ModelArgs) -> Checked<()> {
    if a.attention_bias {
        return fault(
            "attention_bias",
            "is true; projections with biases are not supported",
        );
    }
    if !a.qk_rope_head_dim.is_multiple_of(2) {
        return fault(
            "qk_rope_head_dim",
            format!(
                "is {}; rotation works on pairs, so it must be even",
                a.qk_rope_head_dim
            ),
        );
    }
    if a.n_routed_experts == 0 {
        if a.n_group != 1 || a.topk_group != 1 {
            return fault(
                "n_group",
                "divides experts, but `n_routed_experts` is 0 or missing",
            );
        }
        if a.n_shared_experts > 0 {
            return fault(
                "n_shared_experts",
                "is given, but `n_routed_experts` is 0 or missing",
            );
        }
        return Ok(());
    }
    if a.first_k_dense_replace > a.num_hidden_layers {
        return fault(
            "first_k_dense_replace",
            format!(
                "is {}, more than the {} layers of `num_hidden_layers`",
                a.first_k_dense_replace, a.num_hidden_layers
            ),
        );
    }
    if !a.n_routed_experts.is_multiple_of(a.n_group) {
        return fault(
            "n_group",
            format!(
                "is {}, which does not divide `n_routed_experts` = {}",
                a.n_group, a.n_routed_experts
            ),
        );
    }
    if a.n_group > 1 && a.experts_per_group() < 2 {
        return fault(
            "n_group",
            format!(
                "is {} for {} experts; a group is ranked by its two best, so it needs two",
                a.n_group, a.n_routed_experts
            ),
        );
    }
    if a.topk_group > a.n_group {
        return fault(
            "topk_group",
            format!(
                "is {}, more than the {} groups of `n_group`",
                a.topk_group, a.n_group
            ),
        );
    }
    let choosable = a.topk_group * a.experts_per_group();
    if a.num_experts_per_tok > choosable {
        return fault(
            "num_experts_per_tok",
            format!(
                "is {}, but the `topk_group` = {} groups kept hold {choosable} experts",
                a.num_experts_per_tok, a.topk_group
            ),
        );
    }
    Ok(())
}

/// The rotation's base and scaling, from `rope_scaling` and `rope_theta` or from
/// `rope_parameters`, which newer transformers write instead of both.
fn rope(raw: &RawConfig) -> Checked<(f64, Option<RopeScaling>)> {
    let scaling = section("rope_scaling", &raw.rope_scaling)?;
    let parameters = section("rope_parameters", &raw.rope_parameters)?;
    let (name, rope) = match (scaling, parameters) {
        (Some(scaling), None) => ("rope_scaling", Some(scaling)),
        (None, Some(parameters)) => ("rope_parameters", Some(parameters)),
        (None, None) => ("rope_scaling", None),
        (Some(scaling), Some(parameters)) => {
            if yarn("rope_scaling", scaling)? != yarn("rope_parameters", parameters)? {
                return fault(
                    "rope_parameters",
                    "contradicts `rope_scaling`; keep one of them",
                );
            }
            ("rope_parameters", Some(parameters))
        }
    };
    let inner = rope.map_or(&Scalar::Missing, |r| &r.rope_theta);
    let theta = match (raw.rope_theta.is_given(), inner.is_given()) {
        (_, false) => positive("rope_theta", &raw.rope_theta)?,
        (false, true) => positive(&format!("{name}.rope_theta"), inner)?,
        (true, true) => {
            let theta = positive("rope_theta", &raw.rope_theta)?;
            if positive(&format!("{name}.rope_theta"), inner)? != theta {
                let field = format!("{name}.rope_theta");
                return fault(&field, "contradicts `rope_theta`; keep one of them");
            }
            theta
        }
    };
    if theta <= 1.0 {
        return fault(
            "rope_theta",
            format!("is {theta}; the base must be above 1"),
        );
    }
    Ok((theta, rope.map(|r| yarn(name, r)).transpose()?.flatten()))
}

fn yarn(name: &str, r: &RawRope) -> Checked<Option<RopeScaling>> {
    let at = |field: &str| format!("{name}.{field}");
    let (kind_name, kind) = match (&r.kind, &r.rope_type) {
        (Scalar::Missing, Scalar::Missing) => {
            return fault(&at("type"), "is missing; write \"yarn\" or \"default\"");
        }
        (Scalar::Missing, rope_type) => ("rope_type", rope_type),
        (kind, Scalar::Missing) => ("type", kind),
        (kind, rope_type) if kind == rope_type => ("type", kind),
        _ => return fault(&at("rope_type"), "contradicts `type`; keep one of them"),
    };
    match kind {
        Scalar::Text(t) if t == "yarn" => {}
        Scalar::Text(t) if t == "default" => return Ok(None),
        Scalar::Null => return Ok(None),
        other => {
            return fault(
                &at(kind_name),
                format!(
                    "is {}; only \"yarn\" and \"default\" are supported",
                    other.shown()
                ),
            );
        }
    }
    let or = |field: &str, value: &Scalar, default: f64| {
        if value.is_given() {
            number(&at(field), value)
        } else {
            Ok(default)
        }
    };
    let scaling = RopeScaling {
        factor: positive(&at("factor"), &r.factor)?,
        original_max_position_embeddings: size(
            &at("original_max_position_embeddings"),
            &r.original_max_position_embeddings,
            MAX_POSITIONS,
        )?,
        beta_fast: or("beta_fast", &r.beta_fast, 32.0)?,
        beta_slow: or("beta_slow", &r.beta_slow, 1.0)?,
        mscale: or("mscale", &r.mscale, 1.0)?,
        mscale_all_dim: or("mscale_all_dim", &r.mscale_all_dim, 0.0)?,
    };
    if scaling.factor < 1.0 {
        return fault(
            &at("factor"),
            format!("is {}; it extends, so at least 1", scaling.factor),
        );
    }
    if scaling.beta_slow <= 0.0 {
        return fault(
            &at("beta_slow"),
            format!("is {}; it must be above 0", scaling.beta_slow),
        );
    }
    if scaling.beta_fast < scaling.beta_slow {
        let (fast, slow) = (scaling.beta_fast, scaling.beta_slow);
        return fault(
            &at("beta_fast"),
            format!("is {fast}, less than `beta_slow` = {slow}"),
        );
    }
    for (field, value) in [
        ("mscale", scaling.mscale),
        ("mscale_all_dim", scaling.mscale_all_dim),
    ] {
        if !(0.0..=1e6).contains(&value) {
            return fault(
                &at(field),
                format!("is {value}; it must be from 0 to a million"),
            );
        }
    }
    Ok(Some(scaling))
}

/// What is said of fp8 weights, and whether some weights are packed in groups.
fn quantization(q: &RawQuantization) -> Checked<(Option<Quantization>, bool)> {
    let at = |field: &str| format!("quantization_config.{field}");
    match &q.quant_method {
        Scalar::Text(t) if t == "fp8" => Ok((Some(fp8(q)?), false)),
        Scalar::Text(t) if t == "dsv3" => {
            if q.version != Scalar::Unsigned(PACKED_VERSION) {
                let problem = format!(
                    "is {}; this program reads packed weights of version {PACKED_VERSION}",
                    q.version.shown()
                );
                return fault(&at("version"), problem);
            }
            // A recipe may leave some weights in fp8, whose blocks are then described as ever.
            let blocks = q.weight_block_size.is_given();
            Ok((blocks.then(|| fp8(q)).transpose()?, true))
        }
        other => {
            let problem = format!(
                "is {}; only \"fp8\" and \"dsv3\" are supported",
                other.shown()
            );
            fault(&at("quant_method"), problem)
        }
    }
}

fn fp8(q: &RawQuantization) -> Checked<Quantization> {
    let at = |field: &str| format!("quantization_config.{field}");
    word(
        &at("activation_scheme"),
        &q.activation_scheme,
        "dynamic",
        (),
    )?;
    let block = match &q.weight_block_size {
        Scalar::List(sides) if sides.len() == 2 => {
            let mut block = [0; 2];
            for (side, value) in block.iter_mut().zip(sides) {
                *side = size(&at("weight_block_size"), value, MAX_BLOCK)?;
            }
            block
        }
        other => {
            let problem = format!("is {}; it must be a list of two sizes", other.shown());
            return fault(&at("weight_block_size"), problem);
        }
    };
    let scale_fmt = match &q.scale_fmt {
        Scalar::Missing | Scalar::Null => ScaleFmt::F32,
        Scalar::Text(t) if t == "ue8m0" => ScaleFmt::Ue8m0,
        other => {
            let problem = format!(
                "is {}; only \"ue8m0\", or no such field, is supported",
                other.shown()
            );
            return fault(&at("scale_fmt"), problem);
        }
    };
    let fmt = word(&at("fmt"), &q.fmt, "e4m3", QuantFmt::E4m3)?;
    Ok(Quantization {
        weight_block_size: block,
        scale_fmt,
        fmt,
    })
}

fn fault<T>(field: &str, problem: impl Into<String>) -> Checked<T> {
    Err((field.to_owned(), problem.into()))
}

fn section<'a, T>(field: &str, s: &'a Section<T>) -> Checked<Option<&'a T>> {
    match s {
        Section::Absent => Ok(None),
        Section::Given(t) => Ok(Some(t)),
        Section::Other(s) => fault(field, format!("is {}, not an object", s.shown())),
    }
}

/// A whole number from 0 to `max`.
fn count(field: &str, value: &Scalar, max: u64) -> Checked<usize> {
    match value {
        Scalar::Missing => fault(field, "is missing"),
        Scalar::Unsigned(n) if *n <= max => {
            usize::try_from(*n).or_else(|_| fault(field, format!("is {n}; at most {max}")))
        }
        Scalar::Unsigned(n) => fault(field, format!("is {n}; more than {max} is absurd")),
        other => fault(
            field,
            format!("is {}; it must be a whole number from 0 up", other.shown()),
        ),
    }
}

/// A whole number from 1 to `max`.
fn size(field: &str, value: &Scalar, max: u64) -> Checked<usize> {
    match value {
        Scalar::Unsigned(0) => fault(field, "is 0; it must be at least 1"),
        other => count(field, other, max),
    }
}

fn count_or(field: &str, value: &Scalar, max: u64, default: usize) -> Checked<usize> {
    if value.is_given() {
        count(field, value, max)
    } else {
        Ok(default)
    }
}

fn size_or(field: &str, value: &Scalar, max: u64, default: usize) -> Checked<usize> {
    if value.is_given() {
        size(field, value, max)
    } else {
        Ok(default)
    }
}

/// A finite number.
fn number(field: &str, value: &Scalar) -> Checked<f64> {
    match value {
        Scalar::Missing => fault(field, "is missing"),
        Scalar::Unsigned(n) => Ok(*n as f64),
        Scalar::Negative(n) => Ok(*n as f64),
        Scalar::Float(x) if x.is_finite() => Ok(*x),
        other => fault(
            field,
            format!("is {}; it must be a finite number", other.shown()),
        ),
    }
}

/// A finite number above zero that f32 arithmetic can hold.
fn positive(field: &str, value: &Scalar) -> Checked<f64> {
    let x = number(field, value)?;
    let as_f32 = x as f32;
    if x > 0.0 && as_f32 > 0.0 && as_f32.is_finite() {
        Ok(x)
    } else {
        fault(
            field,
            format!("is {x}; it must be above 0 and within the range of f32"),
        )
    }
}

fn truth(field: &str, value: &Scalar) -> Checked<bool> {
    match value {
        Scalar::Bool(b) => Ok(*b),
        Scalar::Missing => fault(field, "is missing"),
        other => fault(
            field,
            format!("is {}; it must be true or false", other.shown()),
        ),
    }
}

fn truth_or(field: &str, value: &Scalar, default: bool) -> Checked<bool> {
    if value.is_given() {
        truth(field, value)
    } else {
        Ok(default)
    }
}

/// A word of which only one is supported; missing means that one, as in transformers' defaults.
fn word<T>(field: &str, value: &Scalar, only: &str, meaning: T) -> Checked<T> {
    match value {
        Scalar::Missing | Scalar::Null => Ok(meaning),
        Scalar::Text(t) if t == only => Ok(meaning),
        other => fault(
            field,
            format!("is {}; only \"{only}\" is supported", other.shown()),
        ),
    }
}

/// One token id or a list of them, each inside the vocabulary.
fn ids(field: &str, value: &Scalar, vocab_size: usize) -> Checked<Vec<u32>> {
    let one = |value: &Scalar| match value {
        Scalar::Unsigned(id) if *id < vocab_size as u64 => {
            u32::try_from(*id).or_else(|_| fault(field, format!("is {id}; ids have 32 bits")))
        }
        Scalar::Unsigned(id) => fault(
            field,
            format!("is {id}, outside the {vocab_size} rows of `vocab_size`"),
        ),
        other => fault(
            field,
            format!("is {}; it must be a token id or a list", other.shown()),
        ),
    };
    match value {
        Scalar::Missing | Scalar::Null => Ok(Vec::new()),
        Scalar::List(list) => list.iter().map(one).collect(),
        single => one(single).map(|id| vec![id]),
    }
}
