//! Adding, subtracting, small products.

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::question::{Question, plain_system};

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let (a, b) = (draw.between(0, 99), draw.between(0, 99));
    let question = Question {
        id: format!("arithmetic/{a}+{b}"),
        system: plain_system(draw),
        text: format!("What is {a} + {b}?"),
        reasoning: format!("{}", a + b),
        answer: format!("{}", a + b),
    };
    question.into_example(Kind::Arithmetic, mode)
}
