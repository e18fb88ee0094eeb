//! Low-rank adapters in PEFT's files: `adapter_config.json`, `adapter_model.safetensors`.
//!
//! Everything is checked against the base's configuration before it is used: an adapter that
//! doesn't fit is refused, never applied in part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{AdapterError, shown};
use crate::layout::{Component, Layout};
use crate::{Dtype, ModelArgs, TensorFile, TensorView, WeightsError, json};

mod config;

pub use config::AdapterConfig;

/// Name of an adapter's configuration.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Name of the file of an adapter's factors.
pub const ADAPTER_MODEL: &str = "adapter_model.safetensors";

/// What PEFT puts before the name of a module of the model.
const PREFIX: &str = "base_model.model.";
/// Endings of a module's two factors, A and B.
const ENDINGS: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];
/// What a module's weight is called in the checkpoint, behind the module's name.
const WEIGHT: &str = ".weight";

/// The change of one weight `W [out, in]`: `scale · B · A`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFactors {
    /// `[out, in]`
    pub shape: [usize; 2],
    /// r
    pub rank: usize,
    /// The factor on the product.
    pub scale: f32,
    /// `[r, in]`, row-major.
    pub a: Vec<f32>,
    /// `[out, r]`, row-major.
    pub b: Vec<f32>,
}

impl AdapterFactors {
    /// Add the change to whole rows of the weight, `values [rows, in]`, of which the first is row
    /// `first_row`.
    pub fn add_to(&self, first_row: usize, values: &mut [f32]) {
        let input = self.shape[1].max(1);
        let rows = values.par_chunks_exact_mut(input).enumerate();
        rows.for_each(|(i, row)| {
            let start = (first_row + i) * self.rank;
            let factors = self.b.get(start..start + self.rank).unwrap_or_default();
            let mut change = vec![0f32; input];
            for (factor, a) in factors.iter().zip(self.a.chunks_exact(input)) {
                let pairs = change.iter_mut().zip(a);
                pairs.for_each(|(change, a)| *change += factor * a);
            }
            let pairs = row.iter_mut().zip(change);
            pairs.for_each(|(value, change)| *value += self.scale * change);
        });
    }
}

/// The names of A and B of the weight `name` (`….weight`) in PEFT's file; `None` for what is no
/// weight.
pub fn factor_names(name: &str) -> Option<[String; 2]> {
    let module = name.strip_suffix(WEIGHT)?;
    Some(ENDINGS.map(|ending| format!("{PREFIX}{module}{ending}")))
}

/// Whether adapters may change what is of this purpose: projections of attention, MLPs and
/// experts, those of the MTP modules left out.
pub fn can_adapt(component: Component) -> bool {
    use Component::{Attention, DenseMlp, RoutedExperts, SharedExperts};
    matches!(
        component,
        Attention | DenseMlp | RoutedExperts | SharedExperts
    )
}

/// An adapter that fits its base.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    dir: PathBuf,
    config: AdapterConfig,
    factors: BTreeMap<String, AdapterFactors>, // by the weight's name
}

impl Adapter {
    /// Reads the adapter in `dir` for the base of configuration `args`.
    ///
    /// # Errors
    /// [`AdapterError::Folder`], [`AdapterError::Field`] for what the configuration
    /// asks and can't be had, [`AdapterError::Tensor`], [`AdapterError::Module`],
    /// [`AdapterError::Shape`], [`AdapterError::Rank`], and what a safetensors
    /// header can be refused for.
    pub fn open(dir: impl AsRef<Path>, args: &ModelArgs) -> Result<Self, WeightsError> {
        let dir = dir.as_ref().to_path_buf();
        let (config, file) = (dir.join(ADAPTER_CONFIG), dir.join(ADAPTER_MODEL));
        let missing = [(&config, ADAPTER_CONFIG), (&file, ADAPTER_MODEL)];
        if let Some((_, missing)) = missing.into_iter().find(|(path, _)| !path.exists()) {
            return Err(AdapterError::Folder { dir, missing }.into());
        }
        let text = json::read_bounded(&config, crate::config::MAX_CONFIG_BYTES)?;
        let config = AdapterConfig::from_json(&config, &text)?;
        let file = TensorFile::open(file)?;
        let factors = read(&file, &config, args)?;
        Ok(Adapter {
            dir,
            config,
            factors,
        })
    }

    /// The folder that was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its configuration.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Each weight that it changes, by its name in the checkpoint.
    pub fn factors(&self) -> impl ExactSizeIterator<Item = (&str, &AdapterFactors)> {
        self.factors.iter().map(|(name, f)| (name.as_str(), f))
    }

    /// The change of the weight `name`.
    pub fn get(&self, name: &str) -> Option<&AdapterFactors> {
        self.factors.get(name)
    }

    /// Values in all factors.
    pub fn parameters(&self) -> usize {
        let counts = self.factors.values().map(|f| f.a.len() + f.b.len());
        counts.sum()
    }
}

/// The two halves of a module's change as they are found.
type Halves<'a> = [Option<TensorView<'a>>; 2];

fn read(
    file: &TensorFile,
    config: &AdapterConfig,
    args: &ModelArgs,
) -> Result<BTreeMap<String, AdapterFactors>, WeightsError> {
    let wrong = |tensor: &str, problem: String| {
        WeightsError::Adapter(AdapterError::Tensor {
            file: file.path().into(),
            tensor: shown(tensor),
            problem,
        })
    };
    let mut modules: BTreeMap<&str, Halves<'_>> = BTreeMap::new();
    for tensor in file.tensors() {
        let name = tensor.name();
        let (module, half) = module(name).map_err(|problem| wrong(name, problem.to_owned()))?;
        if let Some(slot) = modules.entry(module).or_default().get_mut(half) {
            *slot = Some(tensor);
        }
    }
    if modules.is_empty() {
        return Err(wrong("", "the file holds no tensors. Save it again".into()));
    }
    let layout = Layout::new(args);
    let mut factors = BTreeMap::new();
    for (module, halves) in modules {
        let [a, b] = match halves {
            [Some(a), Some(b)] => [a, b],
            [a, b] => {
                let there = a.or(b).map_or("", |t| t.name());
                let lost = ENDINGS[usize::from(a.is_some())];
                let problem = format!(
                    "it is there without `{PREFIX}{}{lost}`, and the two make one change. The adapter is incomplete: copy or save it again",
                    shown(module)
                );
                return Err(wrong(there, problem));
            }
        };
        let name = format!("{module}{WEIGHT}");
        let shape = target(&layout, module).map_err(|problem| AdapterError::Module {
            file: file.path().into(),
            module: shown(module),
            problem,
        })?;
        let rank = rank(&a, &b, shape)?;
        let expected = config.rank(module);
        if rank != expected {
            return Err(AdapterError::Rank {
                file: file.path().into(),
                module: shown(module),
                found: rank,
                expected,
            }
            .into());
        }
        factors.insert(
            name,
            AdapterFactors {
                shape,
                rank,
                scale: config.scale(module),
                a: finite(&a)?,
                b: finite(&b)?,
            },
        );
    }
    Ok(factors)
}

/// The module of a factor, and which half it is.
fn module(name: &str) -> Result<(&str, usize), &'static str> {
    if name.ends_with("lora_magnitude_vector.weight") || name.ends_with("lora_magnitude_vector") {
        return Err("it belongs to DoRA, which is not supported. Train the adapter without it");
    }
    if name.contains("lora_embedding_") {
        return Err(
            "it changes an embedding. Only projections of attention, MLPs and experts can be changed: train without it",
        );
    }
    let Some(inner) = name.strip_prefix(PREFIX) else {
        return Err(
            "its name does not begin with `base_model.model.`, as PEFT's names do. Save the adapter with PEFT's save_pretrained",
        );
    };
    let mut endings = ENDINGS.into_iter().enumerate();
    let found = endings.find_map(|(half, ending)| Some((inner.strip_suffix(ending)?, half)));
    found.ok_or(
        "its name ends neither in `.lora_A.weight` nor in `.lora_B.weight`. Only LoRA's factors can be read: train without `bias`, `modules_to_save` and the like",
    )
}

/// The shape of the weight of `module` in the base.
fn target(layout: &Layout, module: &str) -> Result<[usize; 2], String> {
    let args = layout.args();
    let name = format!("{module}{WEIGHT}");
    let Some(spec) = layout.spec_of(&name).filter(|spec| spec.name == name) else {
        let layer = module.strip_prefix("model.layers.");
        let layer = layer.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        return Err(match layer {
            Some(layer) if layer >= args.num_hidden_layers => format!(
                "and the base has {} layers. Is it the adapter of another model?",
                args.num_hidden_layers
            ),
            _ if module.ends_with("experts.gate_up_proj") => {
                "all experts of a layer in one tensor; here each has its own. Train with a version of transformers that keeps them apart".into()
            }
            _ => "which the base does not have. Is it the adapter of another model?".into(),
        });
    };
    match (&spec.shape[..], spec.component) {
        ([out, input], component) if can_adapt(component) => Ok([*out, *input]),
        (_, Component::Router | Component::MtpRouter) => Err(
            "the router, which stays as it is: another choice of experts is no small change. Train without it".into(),
        ),
        (_, component) if component.is_mtp() => Err(
            "a part of the MTP module, which adapters leave alone. Train without it".into(),
        ),
        _ => Err(
            "but only the projections of attention, MLPs and experts can be changed. Train without it"
                .into(),
        ),
    }
}

/// The rank of two factors that fit a weight of this shape.
fn rank(a: &TensorView<'_>, b: &TensorView<'_>, shape: [usize; 2]) -> Result<usize, WeightsError> {
    let [out, input] = shape;
    let misfit = |half: &TensorView<'_>, expected| {
        WeightsError::Adapter(AdapterError::Shape {
            file: half.file().into(),
            tensor: shown(half.name()),
            expected,
            found: half.shape().to_vec(),
        })
    };
    let rank = match *a.shape() {
        [rank, columns] if columns == input && rank > 0 => rank,
        _ => return Err(misfit(a, format!("[r, {input}]"))),
    };
    match *b.shape() {
        [rows, columns] if rows == out && columns == rank => Ok(rank),
        _ => Err(misfit(b, format!("[{out}, {rank}]"))),
    }
}

/// Values in f32, none of them NaN or infinite.
fn finite(tensor: &TensorView<'_>) -> Result<Vec<f32>, WeightsError> {
    let wrong = |problem: String| {
        WeightsError::Adapter(AdapterError::Tensor {
            file: tensor.file().into(),
            tensor: shown(tensor.name()),
            problem,
        })
    };
    if !matches!(tensor.dtype(), Dtype::F32 | Dtype::BF16 | Dtype::F16) {
        return Err(wrong(format!(
            "its dtype is {}; readable are F32, BF16 and F16. Save it as one of them",
            tensor.dtype()
        )));
    }
    let values = tensor.to_f32_vec()?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => Err(wrong(format!(
            "element {at} is not a finite number. Its training diverged, or the file is damaged"
        ))),
    }
}
