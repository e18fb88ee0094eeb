//! From a kind to an example of it.

use crate::arithmetic;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};

/// Both ways of answering.
const BOTH: &[Mode] = &[Mode::Think, Mode::Nothink];

/// How a kind can be asked.
pub fn modes(kind: Kind) -> &'static [Mode] {
    match kind {
        // The search agent works inside of the thinking.
        Kind::Search => &[Mode::Think],
        // The model card has tools without thinking alone.
        Kind::Tools => &[Mode::Nothink],
        Kind::Fim => &[Mode::Raw],
        _ => BOTH,
    }
}

/// An example of either part. The parameters are drawn before anything that the mode decides, so
/// the same draw in two modes asks the same thing.
///
/// # Errors
/// [`TasksError::NoSuchMode`] where the kind can't be asked that way.
pub fn generate(kind: Kind, mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    if !modes(kind).contains(&mode) {
        return Err(TasksError::NoSuchMode {
            kind: kind.name(),
            mode: mode.name(),
        });
    }
    match kind {
        Kind::Arithmetic => arithmetic::example(mode, draw),
        // A kind that is not drawn yet has weight 0 in `Mix::default`.
        _ => Err(TasksError::NotDrawn { kind: kind.name() }),
    }
}
