//! How often each kind is drawn.

use serde::{Deserialize, Serialize};

use crate::example::{Kind, Mode};
use crate::generate::modes;

/// Shares of the kinds and modes in a corpus, by number of examples. They need not sum to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// How much of each.
    pub weights: Vec<(Kind, Mode, f64)>,
    /// Part of the buried facts, 0 to 1, that lie in texts of 400 to 2,000 tokens in place of 90 to
    /// 400: for a run after YaRN has stretched the positions (DeepSeek-V3 report §4.3).
    #[serde(default, skip_serializing_if = "none")]
    pub long_buried: f64,
}

/// What recipes leave out, so that those of before the field are the recipes that they were.
fn none(part: &f64) -> bool {
    *part == 0.0
}

impl Default for Mix {
    /// Every kind, half of it with thinking where it can be asked both ways.
    fn default() -> Self {
        let mut weights = Vec::new();
        for kind in Kind::ALL {
            let modes = modes(kind);
            for &mode in modes {
                weights.push((kind, mode, weight(kind) / modes.len() as f64));
            }
        }
        Mix {
            weights,
            long_buried: 0.0,
        }
    }
}

/// The kind's share, both modes together. Reasoning in many steps has more, since every step has to
/// be right; tools have less than they are worth, since one of them is as long as ten facts.
fn weight(kind: Kind) -> f64 {
    match kind {
        Kind::Arithmetic => 3.5,
        Kind::Comparing | Kind::Sorting | Kind::Counting => 2.0,
        Kind::Facts | Kind::MultiTurn | Kind::Tools => 2.0,
        Kind::Dates | Kind::System | Kind::Search | Kind::Fim => 1.5,
        Kind::Reversing | Kind::Units | Kind::Buried => 1.0,
    }
}
