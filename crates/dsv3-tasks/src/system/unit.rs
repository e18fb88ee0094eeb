//! Answers in the unit that the instruction names.

use crate::draw::Draw;
use crate::names::fill;
use crate::question::Question;

/// What is measured, its question, and its units: names and sizes in the smallest.
struct Measure {
    plural: &'static str,
    wordings: [&'static str; 3],
    units: &'static [(&'static str, &'static str, i64)],
}

const MEASURES: [Measure; 3] = [
    Measure {
        plural: "lengths",
        wordings: [
            "A rope is {x} long. How long is it?",
            "A wall is {x} long. What is its length?",
            "How long is a road of {x}?",
        ],
        units: &[
            ("centimetres", "cm", 1),
            ("metres", "m", 100),
            ("kilometres", "km", 100_000),
        ],
    },
    Measure {
        plural: "weights",
        wordings: [
            "A bag weighs {x}. How heavy is it?",
            "A stone weighs {x}. What is its weight?",
            "How heavy is a box of {x}?",
        ],
        units: &[("grams", "g", 1), ("kilograms", "kg", 1000)],
    },
    Measure {
        plural: "times",
        wordings: [
            "A film lasts {x}. How long is it?",
            "A lesson lasts {x}. How long does it take?",
            "How long is a walk of {x}?",
        ],
        units: &[
            ("seconds", "seconds", 1),
            ("minutes", "minutes", 60),
            ("hours", "hours", 3600),
        ],
    },
];

const INSTRUCTIONS: [&str; 3] = [
    "Give all {plural} in {unit}.",
    "Write {plural} in {unit}.",
    "The user wants {plural} in {unit}.",
];

/// A measure that is given in one unit and wanted in the same or the next.
pub(super) fn question(draw: &mut Draw) -> Question {
    let measure = &MEASURES[draw.below(MEASURES.len())];
    let small = draw.below(measure.units.len() - 1);
    let (small, large) = (measure.units[small], measure.units[small + 1]);
    let factor = large.2 / small.2;
    let n = draw.between(2, 30);
    let (amount, from, to, answer, steps) = match draw.below(4) {
        0 => (n, small, small, n, String::new()),
        1 => (n, large, large, n, String::new()),
        2 => {
            let steps = format!(" {n}*{factor}={}.", n * factor);
            (n, large, small, n * factor, steps)
        }
        _ => {
            let steps = format!(" {}/{factor}={n}.", n * factor);
            (n * factor, small, large, n, steps)
        }
    };
    let given = format!("{amount} {}", from.1);
    let wanted = if from == to { "given" } else { "wanted" };
    let answer = format!("{answer} {}", to.1);
    Question {
        id: format!("system/unit/{given}/{}", to.1),
        system: Some(fill(
            draw.pick(&INSTRUCTIONS),
            &[("plural", measure.plural), ("unit", to.0)],
        )),
        text: fill(draw.pick(&measure.wordings), &[("x", &given)]),
        reasoning: format!("It is {wanted} in {}.{steps} {answer}", to.0),
        answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    /// Breaks with: a size that is off, an answer in another unit than the instruction names.
    #[test]
    fn answers_are_as_much_in_the_unit_named() {
        let mut draw = Draw::new(4, 0);
        for _ in 0..5_000 {
            let question = question(&mut draw);
            let told = question.system.unwrap();
            let units = MEASURES.iter().flat_map(|measure| measure.units);
            let size = |short: &str| units.clone().find(|unit| unit.1 == short).unwrap();
            let (n, unit) = question.answer.split_once(' ').unwrap();
            let unit = size(unit);
            assert!(
                told.ends_with(&format!(" {}.", unit.0)),
                "{told} {}",
                question.answer
            );
            let given = numbers(&question.text)[0];
            let (_, after) = question.text.split_once(&format!("{given} ")).unwrap();
            let from = size(after.split([' ', '.', '?']).next().unwrap());
            let n: i64 = n.parse().unwrap();
            assert_eq!(given * from.2, n * unit.2, "{} {n}", question.text);
            assert!(question.reasoning.ends_with(&question.answer));
        }
    }
}
