//! `adapter_config.json`: what PEFT says of an adapter, and what of it can be had here.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{AdapterError, shown};
use crate::{WeightsError, json as reader};

/// The largest rank that is believed.
const MAX_RANK: u64 = 1 << 16;

/// Features that change what an adapter computes and are not supported, each refused unless it is
/// off: null, false or empty.
const UNSUPPORTED: [(&str, &str); 9] = [
    ("use_dora", "DoRA"),
    ("use_qalora", "QALoRA"),
    ("lora_bias", "a bias beside B"),
    ("modules_to_save", "modules that are trained as a whole"),
    ("trainable_token_indices", "trained embeddings"),
    (
        "target_parameters",
        "factors of parameters that are no modules",
    ),
    ("layer_replication", "repeated layers"),
    (
        "alora_invocation_tokens",
        "factors that wake in the middle of a text",
    ),
    ("fan_in_fan_out", "transposed weights"),
];

/// How factors may have begun. Others change the base as well, so the factors alone mean nothing.
const INITIALISATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// A field, and what is wrong with it.
type Problem = (String, String);

/// The configuration of a LoRA adapter, as far as it says how the adapter is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// `r`: rank of the factors.
    pub r: usize,
    /// `lora_alpha`: the product of the factors is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// `use_rslora`: it is scaled by `lora_alpha / √r` instead.
    pub use_rslora: bool,
    /// `target_modules`: ends of names of modules. Which modules have factors is said by the
    /// tensors; this is for PEFT.
    pub target_modules: Vec<String>,
    /// `base_model_name_or_path`
    pub base_model_name_or_path: Option<String>,
    /// `rank_pattern`: other ranks by end of a module's name.
    rank_pattern: Vec<(String, usize)>,
    /// `alpha_pattern`: other values of `lora_alpha`.
    alpha_pattern: Vec<(String, f64)>,
}

impl AdapterConfig {
    /// The configuration of factors of rank `r`, scaled by `lora_alpha / r`.
    pub fn new(r: usize, lora_alpha: f64, target_modules: Vec<String>, base: &str) -> Self {
        AdapterConfig {
            r,
            lora_alpha,
            use_rslora: false,
            target_modules,
            base_model_name_or_path: Some(base.to_owned()),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
        }
    }

    /// Reads and checks the text of an `adapter_config.json`; `file` is for messages.
    ///
    /// # Errors
    /// [`AdapterError::Field`] naming the first field that is missing, impossible, or asks
    /// for what is not supported.
    pub fn from_json(file: &Path, text: &[u8]) -> Result<Self, WeightsError> {
        let wrong = |(field, problem): Problem| {
            WeightsError::Adapter(AdapterError::Field {
                file: file.into(),
                field: shown(&field),
                problem,
            })
        };
        let value: Value = reader::check_depth(text)
            .and_then(|()| serde_json::from_slice(text).map_err(|e| reader::problem(&e)))
            .map_err(|problem| {
                let problem = format!("can't be read: {problem}. Copy the file again");
                wrong(("(the whole file)".into(), problem))
            })?;
        let Some(fields) = value.as_object() else {
            let problem = "is no JSON object. Copy the file again".into();
            return Err(wrong(("(the whole file)".into(), problem)));
        };
        Self::from_fields(fields).map_err(wrong)
    }

    fn from_fields(fields: &Map<String, Value>) -> Result<Self, Problem> {
        check_supported(fields)?;
        let alpha = fields.get("lora_alpha");
        let lora_alpha = alpha
            .ok_or_else(|| named("lora_alpha", "is missing: the scale of the factors"))
            .and_then(|value| finite("lora_alpha", value))?;
        let r = fields
            .get("r")
            .ok_or_else(|| named("r", "is missing: the rank of the factors"))
            .and_then(|value| rank("r", value))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(AdapterConfig {
            r,
            lora_alpha,
            use_rslora: is_on(fields.get("use_rslora")),
            target_modules: match fields.get("target_modules") {
                Some(Value::Array(list)) => list.iter().filter_map(text).collect(),
                Some(Value::String(one)) => vec![one.clone()],
                _ => Vec::new(),
            },
            base_model_name_or_path: fields.get("base_model_name_or_path").and_then(text),
            rank_pattern: pattern(fields, "rank_pattern", rank)?,
            alpha_pattern: pattern(fields, "alpha_pattern", finite)?,
        })
    }

    /// The text of the file, for PEFT and for [`from_json`](Self::from_json).
    pub fn to_json(&self) -> String {
        let value = json!({
            "alpha_pattern": patterns(&self.alpha_pattern),
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": patterns(&self.rank_pattern),
            "revision": null,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        });
        format!("{value:#}\n")
    }

    /// The rank that the factors of a module must have.
    pub fn rank(&self, module: &str) -> usize {
        find(&self.rank_pattern, module).map_or(self.r, |r| *r)
    }

    /// The factor on the product of a module's factors.
    pub fn scale(&self, module: &str) -> f32 {
        let rank = self.rank(module) as f64;
        let alpha = find(&self.alpha_pattern, module).map_or(self.lora_alpha, |a| *a);
        let divisor = if self.use_rslora { rank.sqrt() } else { rank };
        (alpha / divisor) as f32
    }
}

/// The entries of the object `name`, in their order.
fn pattern<T>(
    fields: &Map<String, Value>,
    name: &str,
    read: fn(&str, &Value) -> Result<T, Problem>,
) -> Result<Vec<(String, T)>, Problem> {
    let map = match fields.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(named(name, "is no object")),
    };
    let entries = map.iter().map(|(key, value)| {
        let field = format!("{name}.{key}");
        Ok((plain_key(&field, key)?, read(&field, value)?))
    });
    entries.collect()
}

/// A whole number as one, since `lora_alpha` is an integer to PEFT.
fn number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => Value::from(value as i64),
        false => Value::from(value),
    }
}

fn patterns<T: Clone + Into<Value>>(list: &[(String, T)]) -> Value {
    let entries = list.iter().map(|(k, v)| (k.clone(), v.clone().into()));
    Value::Object(entries.collect())
}

/// The first entry whose key is the module's name or its end behind a dot, as PEFT looks it up.
fn find<'a, T>(list: &'a [(String, T)], module: &str) -> Option<&'a T> {
    let matches = |key: &str| {
        let before = module.strip_suffix(key);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    list.iter().find(|(key, _)| matches(key)).map(|(_, v)| v)
}

fn named(field: &str, problem: &str) -> Problem {
    (field.to_owned(), problem.to_owned())
}

/// Whether a switch is on: not null, false, empty or zero.
fn is_on(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// Refuses what would make the factors mean something else.
fn check_supported(fields: &Map<String, Value>) -> Result<(), Problem> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match text("peft_type") {
        Some("LORA") => {}
        Some(other) => {
            let problem = format!("is `{}`; only LORA adapters can be read", shown(other));
            return Err(("peft_type".into(), problem));
        }
        None => return Err(named("peft_type", "is missing; LORA is what can be read")),
    }
    for (field, what) in UNSUPPORTED {
        if is_on(fields.get(field)) {
            let problem = format!("asks for {what}, which is not supported. Train without it");
            return Err((field.into(), problem));
        }
    }
    // A switch of later versions of PEFT would be passed over in silence.
    let switch = |(name, value): &(&String, &Value)| {
        name.starts_with("use_") && *name != "use_rslora" && is_on(Some(value))
    };
    if let Some((name, _)) = fields.iter().find(switch) {
        let problem = "is on, and is not known here. Train without it".to_owned();
        return Err((name.clone(), problem));
    }
    if let Some(bias) = text("bias").filter(|bias| *bias != "none") {
        let problem = format!(
            "is `{}`: biases are not supported. Train with \"none\"",
            shown(bias)
        );
        return Err(("bias".into(), problem));
    }
    if let Some(task) = text("task_type").filter(|task| *task != "CAUSAL_LM") {
        let problem = format!("is `{}`; only CAUSAL_LM can be run", shown(task));
        return Err(("task_type".into(), problem));
    }
    match fields.get("init_lora_weights") {
        Some(Value::String(name)) if !INITIALISATIONS.contains(&name.as_str()) => {
            let problem = format!(
                "is `{}`, which changes the base as well. Save the adapter converted to plain LoRA (PEFT: path_initial_model_for_weight_conversion)",
                shown(name)
            );
            Err(("init_lora_weights".into(), problem))
        }
        _ => Ok(()),
    }
}

fn rank(field: &str, value: &Value) -> Result<usize, Problem> {
    match value.as_u64() {
        Some(r @ 1..=MAX_RANK) => Ok(r as usize),
        _ => {
            let problem = format!("is {}, not a whole number from 1 on", shorten(value));
            Err((field.to_owned(), problem))
        }
    }
}

fn finite(field: &str, value: &Value) -> Result<f64, Problem> {
    // Whatever f32 can hold: the scale is one.
    match value.as_f64().filter(|x| (*x as f32).is_finite()) {
        Some(x) => Ok(x),
        None => {
            let problem = format!("is {}, not a number", shorten(value));
            Err((field.to_owned(), problem))
        }
    }
}

fn shorten(value: &Value) -> String {
    shown(&value.to_string())
}

/// A key of a pattern without the signs of a regular expression, which PEFT allows.
fn plain_key(field: &str, key: &str) -> Result<String, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    match !key.is_empty() && key.chars().all(plain) {
        true => Ok(key.to_owned()),
        false => {
            let problem = "is a regular expression; only the ends of modules' names can be read. Write them out";
            Err(named(field, problem))
        }
    }
}
