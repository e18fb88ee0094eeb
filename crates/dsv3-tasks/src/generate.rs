//! From a kind to an example of it.

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::{
    arithmetic, buried, comparing, counting, dates, facts, fim, multi_turn, reversing, search,
    sorting, system, tools, units,
};

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
        Kind::Comparing => comparing::example(mode, draw),
        Kind::Sorting => sorting::example(mode, draw),
        Kind::Counting => counting::example(mode, draw),
        Kind::Reversing => reversing::example(mode, draw),
        Kind::Dates => dates::example(mode, draw),
        Kind::Units => units::example(mode, draw),
        Kind::Facts => facts::example(mode, draw),
        Kind::MultiTurn => multi_turn::example(mode, draw),
        Kind::System => system::example(mode, draw),
        Kind::Tools => tools::example(draw),
        Kind::Search => search::example(draw),
        Kind::Fim => fim::example(draw),
        Kind::Buried => buried::example(mode, draw),
    }
}
