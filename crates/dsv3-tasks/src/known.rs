//! Questions that the model can answer by itself, for kinds that ask whether it knows that.

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split};
use crate::facts::Fact;
use crate::generate::generate;
use crate::split::FACTS_ALWAYS_TRAINED;

/// Kinds of such questions: those with the shortest reasoning, facts most of all.
const KINDS: [Kind; 6] = [
    Kind::Facts,
    Kind::Facts,
    Kind::Facts,
    Kind::Arithmetic,
    Kind::Comparing,
    Kind::Units,
];

/// A question of another kind as it is asked there. The same answer in the same way: what is
/// right in one kind must not be unlearnt in another.
pub(crate) fn question(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    generate(KINDS[draw.below(KINDS.len())], mode, draw)
}

/// Question and answer of a fact, in a wording that is for training.
pub(crate) fn fact(draw: &mut Draw) -> (String, String) {
    let fact = Fact::draw(draw);
    let wording = draw.below(FACTS_ALWAYS_TRAINED as usize);
    (fact.question(wording), fact.answer.to_owned())
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
