//! Questions that the model can answer by itself, for kinds that ask whether it knows that.

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split};
use crate::generate::generate;

/// Kinds of such questions: those with the shortest reasoning, facts most of all.
const KINDS: [Kind; 1] = [Kind::Arithmetic];

/// A question of another kind as it is asked there. The same answer in the same way: what is
/// right in one kind must not be unlearnt in another.
pub(crate) fn question(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    generate(KINDS[draw.below(KINDS.len())], mode, draw)
}

/// A small sum that is for training: the question and the answer.
pub(crate) fn sum(draw: &mut Draw) -> (String, String) {
    loop {
        let (a, b) = (draw.between(1, 20), draw.between(1, 20));
        // The id that arithmetic gives this sum.
        let id = format!("arithmetic/{}+{}", a.max(b), a.min(b));
        if Split::of(&id) == Split::Train {
            return (format!("What is {a} + {b}?"), (a + b).to_string());
        }
    }
}
