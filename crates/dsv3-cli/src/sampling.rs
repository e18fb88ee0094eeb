//! How tokens are chosen: flags over preset over the checkpoint's own settings.

use std::hash::{BuildHasher, Hasher};
use std::path::Path;

use anyhow::Context;
use dsv3_engine::{SamplingParams, StopConditions};
use dsv3_sampling::{
    MinP, RepetitionPenalty, SamplingError, Seed, Temperature, TopK, TopP, TypicalP,
};
use serde::Deserialize;

use crate::cli::SamplingArgs;
use crate::output::read_text;

/// The checkpoint's own settings, a file of Hugging Face's transformers.
const FILE: &str = "generation_config.json";

impl SamplingArgs {
    /// The parameters for a checkpoint in `dir`.
    pub(crate) fn params(&self, dir: &Path) -> anyhow::Result<SamplingParams> {
        let mut params = match self.preset {
            Some(preset) => preset.params(),
            None => from_checkpoint(dir)?,
        };
        params.temperature = self.temperature.unwrap_or(params.temperature);
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.top_k = self.top_k.or(params.top_k);
        params.min_p = self.min_p.or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.or(params.repetition_penalty);
        params.presence_penalty = self.presence_penalty.or(params.presence_penalty);
        params.frequency_penalty = self.frequency_penalty.or(params.frequency_penalty);
        params.seed = Some(self.seed.map_or_else(fresh_seed, Seed));
        Ok(params)
    }

    /// When the text ends.
    pub(crate) fn stop(&self) -> StopConditions {
        StopConditions {
            strings: self.stop.clone(),
            max_new_tokens: self.max_new_tokens.get(),
            max_thinking_tokens: self.max_thinking_tokens,
            ..StopConditions::default()
        }
    }
}

/// A number that differs from run to run: the standard library keys its hash maps with one.
fn fresh_seed() -> Seed {
    Seed(std::hash::RandomState::new().build_hasher().finish())
}

/// The fields that say how to sample; there are others.
#[derive(Debug, Default, Deserialize)]
struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    repetition_penalty: Option<f64>,
}

fn from_checkpoint(dir: &Path) -> anyhow::Result<SamplingParams> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(SamplingParams::default());
    }
    let name = path.display().to_string();
    let config: GenerationConfig = serde_json::from_str(&read_text(&path)?)
        .with_context(|| format!("{name} is not a readable configuration; fetch it again"))?;
    config
        .params()
        .with_context(|| format!("{name} has an impossible setting"))
}

impl GenerationConfig {
    fn params(&self) -> Result<SamplingParams, SamplingError> {
        let mut params = SamplingParams::greedy();
        // transformers applies this one with greedy decoding too
        params.repetition_penalty = self
            .repetition_penalty
            .map(RepetitionPenalty::new)
            .transpose()?;
        if self.do_sample != Some(true) {
            return Ok(params);
        }
        params.temperature = match self.temperature {
            Some(t) => Temperature::new(t)?,
            None => Temperature::ONE,
        };
        if let Some(p) = self.top_p {
            params.top_p = TopP::new(p)?;
        }
        // 0 and null turn it off
        params.top_k = self.top_k.filter(|k| *k != 0).map(TopK::new).transpose()?;
        params.min_p = self.min_p.map(MinP::new).transpose()?;
        params.typical_p = self.typical_p.map(TypicalP::new).transpose()?;
        Ok(params)
    }
}
