//! The factors before the first step.

use burn::tensor::Device;
use dsv3_model::{Checkpoint, LoadOptions, Transformer};
use dsv3_weights::Layout;
use dsv3_weights::adapter::factor_names;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::config::LoraConfig;
use crate::error::TrainError;
use crate::parameters::{Parameter, ParameterSet, Update};
use crate::storage::Storage;
use crate::trainer::{TrainOptions, Trainer};

/// A's first values `[r, in]`: uniform within `±1 / √in`, as PEFT begins (Kaiming's rule with
/// `a = √5`). They depend on the seed and on the name alone.
fn first_values(name: &str, seed: u64, [rank, input]: [usize; 2]) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(crate::data::hash_text(name));
    let bound = 1.0 / (input.max(1) as f64).sqrt();
    let mut value = || {
        let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        ((2.0 * unit - 1.0) * bound) as f32
    };
    (0..rank * input).map(|_| value()).collect()
}

/// Factors for every weight that `config` covers: A random, B zero, so that they change nothing.
fn factors(
    checkpoint: &Checkpoint,
    config: &LoraConfig,
    device: &Device,
) -> Result<ParameterSet, TrainError> {
    let mut set = ParameterSet::new(Vec::new(), device);
    let device = device.clone().inner();
    for spec in Layout::new(checkpoint.args()).tensors() {
        let ([out, input], true) = (&spec.shape[..], config.covers(&spec)) else {
            continue;
        };
        let Some([a, b]) = factor_names(&spec.name) else {
            continue;
        };
        let parameter = |name: &str, shape: [usize; 2], values| {
            Parameter::new(name, &shape, Storage::F32, Update::Decayed, values, &device)
        };
        let values = first_values(&a, config.seed, [config.r, *input]);
        let a = parameter(&a, [config.r, *input], values);
        let b = parameter(&b, [*out, config.r], vec![0.0; out * config.r]);
        set.add_factors(&spec.name, [a, b], config.scale());
    }
    match set.count() {
        0 => Err(TrainError::Finetune {
            problem: "the model has none of the parts that are to be changed; name others".into(),
        }),
        _ => Ok(set),
    }
}

impl Trainer {
    /// Train low-rank factors beside the weights of `checkpoint`, which stay as they are and in
    /// the format that they are stored in. Its MTP module, if it has one, is left alone.
    ///
    /// # Errors
    /// [`TrainError::Finetune`] for a configuration that covers nothing, and what is wrong with the
    /// checkpoint.
    pub fn lora(
        checkpoint: &Checkpoint,
        config: &LoraConfig,
        options: TrainOptions,
        device: &Device,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        let parameters = factors(checkpoint, config, device)?;
        let load = LoadOptions::new(device.clone().autodiff());
        let model = Transformer::load(checkpoint, &load)?;
        Trainer::assemble(model, None, parameters, options)
    }
}
