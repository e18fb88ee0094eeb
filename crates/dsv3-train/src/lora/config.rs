//! What gets factors, and of which rank.

use dsv3_weights::{AdapterConfig, Component, ModelArgs, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// A part of the model that factors may change. The router is none: another choice of experts is
/// no small change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraTarget {
    /// The projections of attention, but for `kv_b_proj`: attention reads it in a kernel of its
    /// own, and beside factors runs in a slower one.
    Attention,
    /// The MLPs of the dense layers.
    DenseMlp,
    /// The experts that every token passes.
    SharedExperts,
    /// The experts that the router chooses from: most of the model, and of the time and memory
    /// that a training of them takes.
    RoutedExperts,
}

impl LoraTarget {
    /// The part's weights in the layout.
    fn component(self) -> Component {
        match self {
            LoraTarget::Attention => Component::Attention,
            LoraTarget::DenseMlp => Component::DenseMlp,
            LoraTarget::SharedExperts => Component::SharedExperts,
            LoraTarget::RoutedExperts => Component::RoutedExperts,
        }
    }
}

/// How low-rank factors are begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the factors.
    pub r: usize,
    /// Their product counts `alpha / r` times.
    pub alpha: f64,
    /// What they change.
    pub targets: Vec<LoraTarget>,
    /// Seed of A's first values; B begins at zero.
    pub seed: u64,
}

impl Default for LoraConfig {
    /// Rank 16, counted twice, on everything but the routed experts.
    fn default() -> Self {
        LoraConfig {
            r: 16,
            alpha: 32.0,
            targets: vec![
                LoraTarget::Attention,
                LoraTarget::DenseMlp,
                LoraTarget::SharedExperts,
            ],
            seed: 1,
        }
    }
}

impl LoraConfig {
    /// Checks that there is something to train.
    ///
    /// # Errors
    /// [`TrainError::Finetune`] with what would be right.
    pub fn validate(&self) -> Result<(), TrainError> {
        let wrong = |problem: String| Err(TrainError::Finetune { problem });
        if !(1..=1 << 12).contains(&self.r) {
            return wrong(format!(
                "the rank is {}; give one from 1 to 4096, such as 16",
                self.r
            ));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong(format!("alpha is {}, not a number above 0", self.alpha));
        }
        if self.targets.is_empty() {
            return wrong("no part of the model is to be changed; name one".into());
        }
        Ok(())
    }

    /// The factor on the product.
    pub fn scale(&self) -> f32 {
        (self.alpha / self.r as f64) as f32
    }

    /// Whether the weight gets factors.
    pub fn covers(&self, spec: &TensorSpec) -> bool {
        let chosen = |target: &LoraTarget| target.component() == spec.component;
        spec.shape.len() == 2
            && self.targets.iter().any(chosen)
            && !spec.name.ends_with("kv_b_proj.weight")
    }

    /// PEFT's configuration of these factors on a base that is called `base`.
    pub fn adapter_config(&self, args: &ModelArgs, base: &str) -> AdapterConfig {
        AdapterConfig::new(self.r, self.alpha, self.target_modules(args), base)
    }

    /// Ends of module names that match the covered modules and no others.
    fn target_modules(&self, args: &ModelArgs) -> Vec<String> {
        use LoraTarget::{Attention, DenseMlp, RoutedExperts, SharedExperts};
        let has = |target| self.targets.contains(&target);
        let mut modules: Vec<String> = Vec::new();
        if has(Attention) {
            let query: &[&str] = match args.q_lora_rank {
                Some(_) => &["q_a_proj", "q_b_proj"],
                None => &["q_proj"],
            };
            let names = query.iter().chain(&["kv_a_proj_with_mqa", "o_proj"]);
            modules.extend(names.map(|name| (*name).to_owned()));
        }
        let mut mlp = |prefix: &str| {
            let names = ["gate_proj", "up_proj", "down_proj"];
            modules.extend(names.map(|name| format!("{prefix}{name}")));
        };
        if [DenseMlp, SharedExperts, RoutedExperts]
            .into_iter()
            .all(has)
        {
            mlp("");
            return modules;
        }
        if has(DenseMlp) {
            mlp("mlp.");
        }
        if has(SharedExperts) {
            mlp("shared_experts.");
        }
        if has(RoutedExperts) {
            // `experts.` alone would be no end of a name.
            (0..args.n_routed_experts).for_each(|i| mlp(&format!("experts.{i}.")));
        }
        modules
    }
}
