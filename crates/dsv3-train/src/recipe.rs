//! All that a training on generated tasks is told: `fixtures/dsv3-tiny/recipe.json`.

use dsv3_tasks::Mix;
use serde::{Deserialize, Serialize};

use crate::data::ContentHash;
use crate::error::TrainError;
use crate::run::RunOptions;
use crate::trainer::TrainOptions;

/// A training of all weights, on generated tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of the first values and of the corpus.
    pub seed: u64,
    /// Examples of the corpus on which the tokenizer is trained.
    pub tokenizer_examples: u64,
    /// Held-out examples of each kind and mode in the loss that is watched on the way.
    pub held_out_per_kind: usize,
    /// How parameters are moved.
    pub train: TrainOptions,
    /// How the run goes.
    pub run: RunOptions,
    /// What the corpus is made of; where it is left out, the usual.
    #[serde(default)]
    pub mix: Mix,
}

impl Recipe {
    /// Read a recipe.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] with the place in the text that is wrong.
    pub fn from_json(text: &str) -> Result<Self, TrainError> {
        let recipe: Recipe =
            serde_json::from_str(text).map_err(|error| TrainError::Recipe(error.to_string()))?;
        recipe.run.schedule.validate()?;
        Ok(recipe)
    }

    /// What a continued run must have in common with its beginning, as text. How long the run is
    /// and how often it is saved may change. `start` has the bytes of the weights that the run began
    /// with, where they were not drawn from the seed.
    pub fn fingerprint(&self, config: &str, tokenizer: &[u8], start: Option<&[u8]>) -> String {
        let fixed = serde_json::json!({
            "seed": self.seed,
            "train": self.train,
            "tokens_per_batch": self.run.tokens_per_batch,
            "batches_per_step": self.run.batches_per_step,
            "mix": self.mix,
            "config": config,
        });
        let tokenizer = String::from_utf8_lossy(tokenizer);
        let mut hash = ContentHash::new();
        hash.piece(format!("{fixed}{tokenizer}").as_bytes());
        if let Some(start) = start {
            hash.piece(start);
        }
        let hash = hash.finish();
        format!("{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a run that goes on from another beginning, or one that may not be lengthened.
    #[test]
    fn what_a_run_began_with_is_part_of_it() {
        let text = include_str!("../../../fixtures/dsv3-tiny/recipe.json");
        let recipe = Recipe::from_json(text).unwrap();
        let of = |recipe: &Recipe, start: Option<&[u8]>| recipe.fingerprint("{}", b"t", start);
        let drawn = of(&recipe, None);
        assert_ne!(of(&recipe, Some(b"a")), drawn);
        assert_ne!(of(&recipe, Some(b"a")), of(&recipe, Some(b"b")));
        let mut longer = recipe.clone();
        longer.run.schedule.total_steps += 1;
        assert_eq!(of(&longer, None), drawn);
        longer.seed += 1;
        assert_ne!(of(&longer, None), drawn);
    }
}
