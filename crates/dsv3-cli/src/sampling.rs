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
use crate::input::file_text;

/// The checkpoint's own settings, a file of Hugging Face's transformers.
const FILE: &str = "generation_config.json";

impl SamplingArgs {
    /// The parameters for a checkpoint in `dir`.
    pub(crate) fn params(&self, dir: &Path) -> anyhow::Result<SamplingParams> {
        let mut params = match self.preset {
            Some(preset) => preset.params(),
            None => from_checkpoint(dir)?,
        };
        let filtered = self.top_p.is_some() || self.top_k.is_some() || self.min_p.is_some();
        match self.temperature {
            Some(temperature) => params.temperature = temperature,
            // Filters do nothing to a greedy choice, so whoever gives one wants to sample.
            None if filtered && params.temperature.is_greedy() => {
                params.temperature = Temperature::MODEL_DEFAULT;
            }
            None => {}
        }
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.top_k = self.top_k.or(params.top_k);
        params.min_p = self.min_p.or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.or(params.repetition_penalty);
        params.presence_penalty = self.presence_penalty.or(params.presence_penalty);
        params.frequency_penalty = self.frequency_penalty.or(params.frequency_penalty);
        let seed = self.seed.unwrap_or_else(fresh_seed);
        params.seed = Some(seed);
        tracing::info!(
            temperature = params.temperature.get(),
            top_p = params.top_p.get(),
            seed = seed.0,
            "sampling"
        );
        Ok(params)
    }

    /// When the text ends; at `default_max` tokens if nothing is said.
    pub(crate) fn stop(&self, default_max: usize) -> StopConditions {
        StopConditions {
            strings: self.stop.clone(),
            max_new_tokens: self.max_new_tokens.map_or(default_max, |n| n as usize),
            max_thinking_tokens: self.max_thinking_tokens,
            ignore_eos: self.ignore_eos,
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
    let config: GenerationConfig = serde_json::from_str(&file_text(&path)?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sampling: SamplingArgs,
    }

    fn params(flags: &str, file: Option<&str>) -> SamplingParams {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::write(dir.path().join(FILE), text).unwrap();
        }
        let line = Line::parse_from(["dsv3"].into_iter().chain(flags.split_whitespace()));
        line.sampling.params(dir.path()).unwrap()
    }

    /// Breaks with: a setting that loses to one that it should win over.
    #[test]
    fn flags_over_preset_over_file_over_the_models_own() {
        let file = Some(r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "x": []}"#);
        let of = |p: &SamplingParams| (p.temperature.get(), p.top_p.get());
        assert_eq!(of(&params("", None)), (0.6, 0.95));
        assert_eq!(of(&params("", file)), (0.6, 0.95));
        assert_eq!(of(&params("--preset coding", file)), (0.3, 0.95));
        assert_eq!(
            of(&params("--preset coding --temperature 1 --top-p 0.5", file)),
            (1.0, 0.5)
        );
        assert_eq!(of(&params("--temperature 0", file)), (0.0, 0.95));
        let greedy = Some(r#"{"do_sample": false}"#);
        assert_eq!(of(&params("--top-p 0.9", greedy)), (0.6, 0.9));
        assert_eq!(
            of(&params("--top-p 0.9 --temperature 0", greedy)),
            (0.0, 0.9)
        );
        assert_eq!(
            params("--top-k 40 --min-p 0.1", None).top_k,
            Some(TopK::new(40).unwrap())
        );
        assert_eq!(params("--seed 7", None).seed, Some(Seed(7)));
    }

    /// Breaks with: sampling where the file doesn't ask for it.
    #[test]
    fn a_file_without_do_sample_is_greedy() {
        for file in [
            r#"{"temperature": 0.6}"#,
            r#"{"do_sample": false, "top_p": 0.9}"#,
        ] {
            assert_eq!(params("", Some(file)).temperature.get(), 0.0, "{file}");
        }
    }

    /// Breaks with: two unseeded runs that say the same.
    #[test]
    fn fresh_seeds_differ() {
        assert_ne!(fresh_seed(), fresh_seed());
    }
}
