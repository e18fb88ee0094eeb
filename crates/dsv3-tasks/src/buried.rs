//! A fact told far back in a long text.

use dsv3_tokenizer::Message;

use crate::chat;
use crate::check::Check;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split, Turn};
use crate::length;
use crate::names;

/// Lengths of training, in tokens of the whole sequence: within the trained context of 512.
const SHORTEST: i64 = 90;
const LONGEST: i64 = 400;
/// The longest once positions are stretched four times; the estimate is up to 1% short, and the
/// small model's context is 2,048.
const LONGEST_STRETCHED: i64 = 2000;

/// Other codes in the text. Their number doesn't grow with the length, so that a curve over
/// lengths shows the length alone.
const OTHERS: usize = 3;

const COLOURS: [&str; 10] = [
    "red", "blue", "green", "white", "black", "yellow", "brown", "grey", "orange", "purple",
];
const LOCKED: [&str; 8] = [
    "door", "box", "gate", "case", "locker", "drawer", "safe", "chest",
];
const VERBS: [&str; 10] = [
    "saw", "found", "painted", "liked", "sold", "lost", "bought", "watched", "cleaned", "drew",
];
const PLACES: [&str; 10] = [
    "in the garden",
    "near the river",
    "in the kitchen",
    "behind the house",
    "on the road",
    "at the market",
    "in the forest",
    "by the window",
    "on the bridge",
    "in the library",
];

/// A task of this kind at a length that training knows.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let tokens = draw.between(SHORTEST, LONGEST);
    buried_of_length(tokens as usize, mode, draw)
}

/// The same for stretched positions: longer than any of [`example`].
pub(crate) fn long_example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let tokens = draw.between(LONGEST + 1, LONGEST_STRETCHED);
    buried_of_length(tokens as usize, mode, draw)
}

/// A task of this kind whose sequence has about `tokens` tokens, marks and answer included, in a
/// vocabulary trained on the corpus. The fact's place is drawn evenly over the text.
///
/// A text shorter than the question and the four codes need is made as short as it can be.
///
/// # Errors
/// [`TasksError::NoSuchMode`] for [`Mode::Raw`]; [`TasksError::Render`], a fault of the generator.
pub fn buried_of_length(tokens: usize, mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    if mode == Mode::Raw {
        return Err(TasksError::NoSuchMode {
            kind: Kind::Buried.name(),
            mode: mode.name(),
        });
    }
    let mut codes: Vec<(String, String)> = Vec::with_capacity(1 + OTHERS);
    while codes.len() <= OTHERS {
        let what = format!("{} {}", draw.pick(&COLOURS), draw.pick(&LOCKED));
        let code = format!("{:04}", draw.below(10_000));
        if codes
            .iter()
            .all(|(other, used)| *other != what && *used != code)
        {
            codes.push((what, code));
        }
    }
    let stated = |(what, code): &(String, String)| format!("The code of the {what} is {code}.");
    let (what, code) = codes.first().cloned().unwrap_or_default();
    let fact = stated(&(what.clone(), code.clone()));

    let question = names::fill(
        draw.pick(&[
            "What is the code of the {}?",
            "Which code opens the {}?",
            "Tell me the code of the {}.",
            "I want to open the {}. What is its code?",
        ]),
        &[("", &what)],
    );

    // The place is a share of the length, not a number of sentences, and the filler has a stream
    // of its own: the same draw asks the same at every length and in both modes, and so does what
    // is drawn after it.
    let place = draw.fraction();
    let draw = &mut Draw::new(draw.below(1 << 31) as u64, 0);
    let answer_length = 2
        + length::tokens(&code)
        + match mode {
            Mode::Think => length::tokens(&fact),
            _ => 0,
        };
    // BOS, the user's mark and the two that the answer comes after.
    let mut left = tokens.saturating_sub(4 + length::tokens(&question) + answer_length);
    let mut sentences: Vec<String> = codes.iter().skip(1).map(stated).collect();
    left = left.saturating_sub(length::tokens(&fact));
    left = left.saturating_sub(sentences.iter().map(|s| length::tokens(s)).sum());
    // Several tries at the end: a shorter sentence may still fit.
    let mut tries = 8;
    while tries > 0 {
        let sentence = filler(draw);
        let length = length::tokens(&sentence);
        if length > left {
            tries -= 1;
            continue;
        }
        left -= length;
        sentences.push(sentence);
    }
    draw.shuffle(&mut sentences);
    let at = (place * (sentences.len() + 1) as f64) as usize;
    sentences.insert(at.min(sentences.len()), fact.clone());

    // Length and place are no parameters of the question: a fact that is held out at one length
    // is held out at all.
    let id = format!("buried/{what}/{code}");
    let text = format!("{}\n\n{question}", sentences.join(" "));
    let reasoning = (mode == Mode::Think).then_some(fact.as_str());
    Ok(Example {
        split: Split::of(&id),
        id,
        kind: Kind::Buried,
        mode,
        turns: vec![Turn {
            given: chat::given(&[Message::User(text)], &[], mode)?,
            answer: chat::answer(reasoning, &code),
            check: Check::Exact { answer: code },
        }],
    })
}

/// A sentence that tells nothing.
fn filler(draw: &mut Draw) -> String {
    let thing = |draw: &mut Draw| {
        format!(
            "{} {}",
            draw.pick(&names::ADJECTIVES),
            draw.pick(&names::THINGS)
        )
    };
    match draw.below(6) {
        0 => format!(
            "The {} was {} on {}.",
            thing(draw),
            draw.pick(&PLACES),
            draw.pick(&names::DAYS)
        ),
        1 => format!("{} lives in {}.", names::person(draw), names::place(draw)),
        2 => format!(
            "It was {} in {}.",
            draw.pick(&["warm", "cold", "quiet"]),
            names::place(draw)
        ),
        3 => format!("The {} is {}.", thing(draw), draw.pick(&PLACES)),
        _ => format!(
            "{} {} a {} {}.",
            names::person(draw),
            draw.pick(&VERBS),
            thing(draw),
            draw.pick(&PLACES)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, thought, wanted};

    fn of_length(tokens: usize, mode: Mode, stream: u64) -> Example {
        buried_of_length(tokens, mode, &mut Draw::new(6, stream)).unwrap()
    }

    fn estimate(example: &Example) -> usize {
        let turn = &example.turns[0];
        length::of_segments(&turn.given) + length::of_segments(&turn.answer)
    }

    // Breaks with: a fact that is missing or told twice, another code of the same thing, or
    // reasoning that isn't the fact.
    #[test]
    fn the_fact_is_told_once() {
        for stream in 0..300 {
            let example = of_length(300, Mode::Think, stream);
            let text = asked(&example.turns[0]);
            let code = wanted(&example.turns[0]);
            let (fact, answer) = thought(&example.turns[0]);
            assert_eq!(answer, code);
            assert_eq!(text.matches(fact.as_str()).count(), 1);
            assert_eq!(text.matches(code.as_str()).count(), 1);
            assert_eq!(text.matches("The code of the ").count(), 1 + OTHERS);
            let what = fact.strip_prefix("The code of the ").unwrap();
            let what = what.split_once(" is ").unwrap().0;
            assert_eq!(text.matches(&format!("code of the {what} is")).count(), 1);
        }
    }

    // Breaks with: a place that favours one end of the text.
    #[test]
    fn the_fact_may_be_anywhere() {
        let mut tenths = [0; 10];
        for stream in 0..2000 {
            let example = of_length(512, Mode::Think, stream);
            let text = asked(&example.turns[0]);
            let told = text.split_once("\n\n").unwrap().0;
            let (fact, _) = thought(&example.turns[0]);
            let at = told.find(&fact).unwrap() as f64 / (told.len() - fact.len()) as f64;
            tenths[((at * 10.0) as usize).min(9)] += 1;
        }
        assert!(
            tenths.iter().all(|count| (140..260).contains(count)),
            "{tenths:?}"
        );
    }

    // Breaks with: a length that isn't the one asked for, by the estimate; the vocabulary's tests
    // hold the estimate to real tokens.
    #[test]
    fn lengths_are_kept() {
        for tokens in [100, 128, 256, 512, 1024, 2048, 2400] {
            for mode in [Mode::Think, Mode::Nothink] {
                for stream in 0..40 {
                    let length = estimate(&of_length(tokens, mode, stream));
                    // A shorter gap than a sentence may be left.
                    assert!(
                        (tokens - 9..=tokens).contains(&length),
                        "{length} of {tokens}"
                    );
                }
            }
        }
        for stream in 0..500 {
            let example = example(Mode::Think, &mut Draw::new(6, stream)).unwrap();
            assert!(estimate(&example) <= LONGEST as usize);
            let long = long_example(Mode::Think, &mut Draw::new(6, stream)).unwrap();
            // A shorter gap than a sentence, as above.
            let allowed = LONGEST as usize - 9..=LONGEST_STRETCHED as usize;
            assert!(allowed.contains(&estimate(&long)));
        }
    }

    // Breaks with: a length or a mode that changes what is asked: curves and modes are compared on
    // the same questions.
    #[test]
    fn length_and_mode_change_no_question() {
        let (mut thinking, mut not) = (Draw::new(7, 0), Draw::new(7, 0));
        for tokens in [100, 2000, 300] {
            let one = buried_of_length(tokens, Mode::Think, &mut thinking).unwrap();
            let other = buried_of_length(128, Mode::Nothink, &mut not).unwrap();
            assert_eq!(one.id, other.id);
        }
        for stream in 0..100 {
            let first = of_length(128, Mode::Think, stream);
            for (tokens, mode) in [(128, Mode::Nothink), (2048, Mode::Think)] {
                let other = of_length(tokens, mode, stream);
                assert_eq!(other.id, first.id);
                assert_eq!(other.split, first.split);
                assert_eq!(wanted(&other.turns[0]), wanted(&first.turns[0]));
            }
        }
        assert_eq!(
            of_length(256, Mode::Think, 1),
            of_length(256, Mode::Think, 1)
        );
    }
}
