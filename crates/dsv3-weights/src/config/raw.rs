//! `config.json` as written: every known field whatever its type, so that a wrong one can be
//! refused by its name, and nothing kept of the unknown ones.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The longest list that a field may hold; the longest honest one has two or three ids.
const MAX_LIST: usize = 64;

/// A field that should be a number, a word, a truth value or a short list of numbers.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) enum Scalar {
    #[default]
    Missing,
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(String),
    List(Vec<Scalar>),
    Object,
}

impl Scalar {
    pub(super) fn is_given(&self) -> bool {
        !matches!(self, Self::Missing | Self::Null)
    }

    /// How the value is shown in an error.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Missing => "missing".into(),
            Self::Null => "null".into(),
            Self::Bool(b) => b.to_string(),
            Self::Unsigned(n) => n.to_string(),
            Self::Negative(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Text(t) => format!("\"{}\"", crate::error::shown(t)),
            Self::List(_) => "a list".into(),
            Self::Object => "an object".into(),
        }
    }
}

/// A field that should be an object of known fields.
#[derive(Debug, Default, Clone)]
pub(super) enum Section<T> {
    #[default]
    Absent,
    Given(T),
    Other(Scalar),
}

/// The known fields of `config.json`, under their published names.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct RawConfig {
    pub(super) vocab_size: Scalar,
    pub(super) hidden_size: Scalar,
    pub(super) intermediate_size: Scalar,
    pub(super) moe_intermediate_size: Scalar,
    pub(super) num_hidden_layers: Scalar,
    pub(super) num_nextn_predict_layers: Scalar,
    pub(super) num_attention_heads: Scalar,
    pub(super) n_shared_experts: Scalar,
    pub(super) n_routed_experts: Scalar,
    pub(super) num_experts_per_tok: Scalar,
    pub(super) n_group: Scalar,
    pub(super) topk_group: Scalar,
    pub(super) first_k_dense_replace: Scalar,
    pub(super) moe_layer_freq: Scalar,
    pub(super) norm_topk_prob: Scalar,
    pub(super) routed_scaling_factor: Scalar,
    pub(super) scoring_func: Scalar,
    pub(super) topk_method: Scalar,
    pub(super) q_lora_rank: Scalar,
    pub(super) kv_lora_rank: Scalar,
    pub(super) qk_nope_head_dim: Scalar,
    pub(super) qk_rope_head_dim: Scalar,
    pub(super) v_head_dim: Scalar,
    pub(super) rms_norm_eps: Scalar,
    pub(super) rope_theta: Scalar,
    pub(super) rope_scaling: Section<RawRope>,
    pub(super) rope_parameters: Section<RawRope>,
    pub(super) max_position_embeddings: Scalar,
    pub(super) tie_word_embeddings: Scalar,
    pub(super) hidden_act: Scalar,
    pub(super) attention_bias: Scalar,
    pub(super) bos_token_id: Scalar,
    pub(super) eos_token_id: Scalar,
    pub(super) quantization_config: Section<RawQuantization>,
}

/// `rope_scaling`, or `rope_parameters` as newer transformers spell it.
#[derive(Debug, Default, Clone, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(super) struct RawRope {
    #[serde(rename = "type")]
    pub(super) kind: Scalar,
    pub(super) rope_type: Scalar,
    pub(super) rope_theta: Scalar,
    pub(super) factor: Scalar,
    pub(super) original_max_position_embeddings: Scalar,
    pub(super) beta_fast: Scalar,
    pub(super) beta_slow: Scalar,
    pub(super) mscale: Scalar,
    pub(super) mscale_all_dim: Scalar,
}

/// `quantization_config`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct RawQuantization {
    pub(super) quant_method: Scalar,
    pub(super) version: Scalar,
    pub(super) fmt: Scalar,
    pub(super) activation_scheme: Scalar,
    pub(super) weight_block_size: Scalar,
    pub(super) scale_fmt: Scalar,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(v))
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Scalar, E> {
        Ok(Scalar::Unsigned(v))
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Scalar, E> {
        Ok(u64::try_from(v).map_or(Scalar::Negative(v), Scalar::Unsigned))
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(v))
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(v.chars().take(200).collect()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_LIST {
            match seq.next_element::<Scalar>()? {
                Some(value) => list.push(value),
                None => return Ok(Scalar::List(list)),
            }
        }
        match seq.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom(format_args!(
                "a list of more than {MAX_LIST} values"
            ))),
            None => Ok(Scalar::List(list)),
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Object)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(SectionVisitor(PhantomData))
    }
}

struct SectionVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionVisitor<T> {
    type Value = Section<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_unit<E: Error>(self) -> Result<Section<T>, E> {
        Ok(Section::Absent)
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Section<T>, E> {
        Ok(Section::Other(Scalar::Bool(v)))
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Section<T>, E> {
        Ok(Section::Other(Scalar::Unsigned(v)))
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Section<T>, E> {
        Ok(Section::Other(Scalar::Negative(v)))
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Section<T>, E> {
        Ok(Section::Other(Scalar::Float(v)))
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Section<T>, E> {
        ScalarVisitor.visit_str(v).map(Section::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Section<T>, A::Error> {
        ScalarVisitor.visit_seq(seq).map(Section::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Section<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Section::Given)
    }
}
