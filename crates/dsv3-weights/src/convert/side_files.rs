//! What lies beside the weights: index, configuration, tokenizer.

use std::path::Path;

use serde_json::{Value, json};

use crate::checkpoint::CONFIG_FILE;
use crate::config::MAX_CONFIG_BYTES;
use crate::output::{copy_file, write_index, write_json};
use crate::packed::PACKED_VERSION;
use crate::{Checkpoint, Dtype, ScaleFmt, WeightsError, json};

use super::outputs::Outputs;

/// Copied as they are where the source has them. Python code is left behind: it names the
/// source's classes, and a conversion should not hand on code that nobody has looked at.
const COPIED: [&str; 9] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "assets/chat_template.jinja",
    "LICENSE",
];

/// Writes everything but the shards into `dir`; returns the names of the copied files.
pub(super) fn write(
    checkpoint: &Checkpoint,
    outputs: &Outputs<'_>,
    dir: &Path,
) -> Result<Vec<String>, WeightsError> {
    write_index(dir, &outputs.shards)?;
    let config = config(checkpoint, outputs)?;
    write_json(&dir.join(CONFIG_FILE), &config)?;
    let mut copied = Vec::new();
    for name in COPIED {
        let (from, to) = (checkpoint.dir().join(name), dir.join(name));
        if !from.is_file() {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(WeightsError::io("create", parent))?;
        }
        copy_file(&from, &to)?;
        copied.push(name.to_owned());
    }
    Ok(copied)
}

/// The source's configuration with every field kept but those that name the number format.
fn config(checkpoint: &Checkpoint, outputs: &Outputs<'_>) -> Result<Value, WeightsError> {
    let path = checkpoint.dir().join(CONFIG_FILE);
    let text = json::read_bounded(&path, MAX_CONFIG_BYTES)?;
    let mut config: Value = json::check_depth(&text)
        .and_then(|()| serde_json::from_slice(&text).map_err(|e| json::problem(&e)))
        .map_err(|problem| WeightsError::ConfigJson {
            file: path,
            problem,
        })?;
    let Some(fields) = config.as_object_mut() else {
        return Ok(config);
    };
    for name in ["torch_dtype", "dtype"] {
        if let Some(dtype) = fields.get_mut(name) {
            *dtype = Value::from(match outputs.recipe.plain_float() {
                Dtype::F32 => "float32",
                _ => "bfloat16",
            });
        }
    }
    let mut quantization = serde_json::Map::new();
    if outputs.recipe.has_fp8() {
        quantization.insert("activation_scheme".into(), "dynamic".into());
        quantization.insert("fmt".into(), "e4m3".into());
        quantization.insert("quant_method".into(), "fp8".into());
        quantization.insert("weight_block_size".into(), json!(outputs.block));
        if outputs.scale_fmt == ScaleFmt::Ue8m0 {
            quantization.insert("scale_fmt".into(), "ue8m0".into());
        }
    }
    if outputs.is_packed() {
        // A method that no other engine knows: better refused than taken for fp8.
        quantization.insert("quant_method".into(), "dsv3".into());
        quantization.insert("version".into(), PACKED_VERSION.into());
    }
    if quantization.is_empty() {
        fields.shift_remove("quantization_config");
    } else {
        fields.insert("quantization_config".into(), quantization.into());
    }
    Ok(config)
}
