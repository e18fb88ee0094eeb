//! How often each kind is drawn.

use serde::{Deserialize, Serialize};

use crate::example::{Kind, Mode};
use crate::generate::modes;

/// Shares of the kinds and modes in a corpus, by number of examples. They need not sum to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// How much of each.
    pub weights: Vec<(Kind, Mode, f64)>,
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
        Mix { weights }
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
