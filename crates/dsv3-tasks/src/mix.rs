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

/// The kind's share, both modes together. Harder things and those that the small model should
/// do without fail have more.
fn weight(kind: Kind) -> f64 {
    match kind {
        Kind::Arithmetic => 3.0,
        _ => 0.0,
    }
}
