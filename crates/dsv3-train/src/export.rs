//! Writing a checkpoint in the published layout.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dsv3_weights::fp8::quantize_block;
use dsv3_weights::{Component, Layout, ModelArgs, SCALE_SUFFIX, TensorSpec};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::TrainError;
use crate::parameters::ParameterSet;
use crate::storage::Storage;

/// How a checkpoint is written.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Bytes of one file at most, unless a single tensor is larger.
    pub shard_bytes: usize,
    /// Everything in f32, for training to go on from; else each tensor as published.
    pub f32: bool,
}

/// One tensor, encoded.
struct Encoded {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn encode(
    spec: &TensorSpec,
    values: &[f32],
    args: &ModelArgs,
    options: &ExportOptions,
) -> Result<Vec<Encoded>, TrainError> {
    let one = |dtype, bytes| {
        vec![Encoded {
            name: spec.name.clone(),
            dtype,
            shape: spec.shape.clone(),
            bytes,
        }]
    };
    let f32_bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let storage = match options.f32 {
        true => Storage::F32,
        false => Storage::published(spec, args),
    };
    Ok(match (storage, &spec.shape[..]) {
        (Storage::F32, _) => one(Dtype::F32, f32_bytes(values)),
        (Storage::Fp8Block { block, scales }, [rows, columns]) => {
            let packed = quantize_block(values, [*rows, *columns], block, scales)?;
            let mut tensors = one(Dtype::F8_E4M3, packed.data);
            tensors.push(Encoded {
                name: format!("{}{SCALE_SUFFIX}", spec.name),
                dtype: Dtype::F32,
                shape: vec![rows.div_ceil(block[0]), columns.div_ceil(block[1])],
                bytes: f32_bytes(&packed.scale),
            });
            tensors
        }
        _ => one(
            Dtype::BF16,
            values
                .iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
        ),
    })
}

/// Write `config` (the text of config.json) and `tensors` in the order of the layout to `dir`,
/// which is made where it is missing. Files that are there under the same names are replaced one
/// by one, each by a rename.
///
/// # Errors
/// [`TrainError::Write`], and what is wrong with a tensor.
pub fn write_checkpoint(
    dir: &Path,
    config: &str,
    tensors: impl Iterator<Item = Result<(TensorSpec, Vec<f32>), TrainError>>,
    options: &ExportOptions,
) -> Result<(), TrainError> {
    let args = ModelArgs::from_json_bytes(config.as_bytes())?;
    fs::create_dir_all(dir).map_err(|source| write_error(dir, source))?;
    let mut shards: Vec<Vec<Encoded>> = vec![Vec::new()];
    let mut size = 0;
    for tensor in tensors {
        let (spec, values) = tensor?;
        let encoded = encode(&spec, &values, &args, options)?;
        let bytes: usize = encoded.iter().map(|t| t.bytes.len()).sum();
        if size > 0 && size + bytes > options.shard_bytes {
            shards.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.extend(encoded);
        }
    }
    let count = shards.len();
    let mut map = BTreeMap::new();
    let mut total = 0;
    for (i, shard) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:06}.safetensors", i + 1),
        };
        for tensor in shard {
            map.insert(tensor.name.clone(), name.clone());
            total += tensor.bytes.len();
        }
        write_shard(&dir.join(&name), shard)?;
    }
    if count > 1 {
        let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": map});
        write_file(
            &dir.join("model.safetensors.index.json"),
            format!("{index:#}\n").as_bytes(),
        )?;
    }
    write_file(&dir.join("config.json"), config.as_bytes())
}

/// Every tensor of the layout that `parameters` have, with its values. The MTP module's copies of
/// embedding and head are the main model's.
pub fn trained_values<'p>(
    args: &ModelArgs,
    parameters: &'p ParameterSet,
) -> impl Iterator<Item = Result<(TensorSpec, Vec<f32>), TrainError>> + 'p {
    let specs: Vec<TensorSpec> = Layout::new(args).tensors().collect();
    specs.into_iter().filter_map(|spec| {
        let name = match spec.component {
            Component::MtpEmbedding => "model.embed_tokens.weight",
            Component::MtpLmHead => "lm_head.weight",
            _ => &spec.name,
        };
        let values = parameters.get(name)?.values();
        Some(values.map(|values| (spec, values)))
    })
}

fn write_shard(path: &Path, tensors: &[Encoded]) -> Result<(), TrainError> {
    let views = tensors.iter().map(|t| {
        TensorView::new(t.dtype, t.shape.clone(), &t.bytes).map(|view| (t.name.as_str(), view))
    });
    let views = views
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| write_error(path, std::io::Error::other(error)))?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| write_error(path, std::io::Error::other(error)))?;
    write_file(path, &bytes)
}

/// Write a file next to `path` and rename it there: `path` is whole, or as it was.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let partial = path.with_extension("partial");
    let written = fs::File::create(&partial).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: std::io::Error) -> TrainError {
    TrainError::Write {
        path: path.to_owned(),
        source,
    }
}
