//! Fill in the middle: a piece of a small function that follows from what stands around it.

mod templates;

use dsv3_tokenizer::{Prompt, Segment, Special};

use crate::check::Check;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split, Turn};
use crate::names::fill;

use templates::TEMPLATES;

const ARGUMENTS: [&str; 24] = [
    "a", "b", "x", "y", "left", "right", "first", "second", "width", "height", "price", "tax",
    "value", "number", "total", "items", "data", "values", "points", "start", "end", "weight",
    "speed", "time",
];
const VARIABLES: [&str; 8] = [
    "result", "out", "answer", "res", "acc", "found", "output", "final",
];
const LOOPS: [&str; 6] = ["item", "i", "n", "element", "one", "entry"];
const WORDS: [&str; 10] = [
    "name", "age", "city", "color", "size", "hello", "morning", "welcome", "good", "title",
];
const TYPES: [&str; 8] = [
    "Point", "Order", "Item", "Shape", "Box", "Pair", "Account", "Train",
];

/// A task of this kind. The id names the function by its place in the list, its names and the
/// hole.
pub(crate) fn example(draw: &mut Draw) -> Result<Example, TasksError> {
    let at = draw.below(TEMPLATES.len());
    let template = &TEMPLATES[at];
    let function = draw.pick(template.functions);
    let mut a = draw.pick(&ARGUMENTS);
    while a == function {
        a = draw.pick(&ARGUMENTS);
    }
    let mut b = draw.pick(&ARGUMENTS);
    while b == a || b == function {
        b = draw.pick(&ARGUMENTS);
    }
    let (n, m) = (
        draw.between(2, 99).to_string(),
        draw.between(2, 99).to_string(),
    );
    let values = [
        ("f", function),
        ("a", a),
        ("b", b),
        ("v", draw.pick(&VARIABLES)),
        ("i", draw.pick(&LOOPS)),
        ("n", n.as_str()),
        ("m", m.as_str()),
        ("s", draw.pick(&WORDS)),
        ("t", draw.pick(&TYPES)),
    ];
    let holes = template.body.matches('«').count();
    let hole = draw.below(holes);
    let mut id = format!("fim/{at}/{hole}");
    for (key, value) in values {
        // What the function doesn't have says nothing.
        if template.body.contains(&format!("{{{key}}}")) {
            id.push('/');
            id.push_str(value);
        }
    }

    let (mut prefix, mut middle, suffix) = cut(template.body, hole);
    // Programs are cut anywhere: before the space or after it.
    if middle.starts_with(' ') && !middle.starts_with("  ") && draw.one_in(3) {
        prefix.push(middle.remove(0));
    }
    let [prefix, middle, suffix] = [prefix, middle, suffix].map(|part| fill(&part, &values));
    Ok(Example {
        split: Split::of(&id),
        id,
        kind: Kind::Fim,
        mode: Mode::Raw,
        turns: vec![Turn {
            given: Prompt::fim(&prefix, &suffix).segments().to_vec(),
            answer: vec![
                Segment::Text(middle.clone()),
                Segment::Special(Special::Eos),
            ],
            check: Check::Raw { text: middle },
        }],
    })
}

/// What stands before a hole, in it and after it, without the marks of all holes.
fn cut(body: &str, hole: usize) -> (String, String, String) {
    let mut parts = [String::new(), String::new(), String::new()];
    let mut part = 0;
    let mut next = 0;
    for c in body.chars() {
        match c {
            '«' => {
                part += usize::from(next == hole);
                next += 1;
            }
            // The hole's own end: `next` has counted it.
            '»' => part += usize::from(next == hole + 1),
            _ => parts[part].push(c),
        }
    }
    let [prefix, middle, suffix] = parts;
    (prefix, middle, suffix)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn samples(count: u64) -> impl Iterator<Item = Example> {
        (0..count).map(|stream| example(&mut Draw::new(5, stream)).unwrap())
    }

    fn parts(example: &Example) -> (String, String, String) {
        let [
            Segment::Special(Special::Bos),
            Segment::Special(Special::FimBegin),
            Segment::Text(prefix),
            Segment::Special(Special::FimHole),
            Segment::Text(suffix),
            Segment::Special(Special::FimEnd),
        ] = example.turns[0].given.as_slice()
        else {
            panic!("{:?}", example.turns[0].given);
        };
        let Check::Raw { text } = &example.turns[0].check else {
            panic!("{:?}", example.turns[0].check);
        };
        (prefix.clone(), text.clone(), suffix.clone())
    }

    // Breaks with: two middles for one context: a template whose hole depends on what isn't shown,
    // or two templates that look the same around their holes.
    #[test]
    fn the_context_decides_the_middle() {
        let mut middles = HashMap::new();
        for example in samples(40_000) {
            let (prefix, middle, suffix) = parts(&example);
            assert!(!middle.trim().is_empty());
            let before = middles.insert((prefix.clone(), suffix.clone()), middle.clone());
            assert!(
                before.as_ref().is_none_or(|before| *before == middle),
                "{middle:?} and {before:?} in {prefix}…{suffix}"
            );
        }
    }

    // Breaks with: a name or constant in the middle that nothing around it tells.
    #[test]
    fn names_of_the_middle_are_in_the_context() {
        // What the language or the function's name gives.
        const GIVEN: [&str; 17] = [
            "0", "1", "2", "5", "9", "32", "sum", "len", "None", "i32", "bool", "self", "for",
            "in", "if", "low", "high",
        ];
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            words
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        for example in samples(20_000) {
            let (prefix, middle, suffix) = parts(&example);
            let around: Vec<_> = words(&prefix).into_iter().chain(words(&suffix)).collect();
            for word in words(&middle) {
                assert!(
                    around.contains(&word) || GIVEN.contains(&word.as_str()),
                    "{word} in {prefix}«{middle}»{suffix}"
                );
            }
        }
    }

    // Breaks with: a piece lost or kept twice in cutting, a mark or a key left in the text.
    #[test]
    fn the_pieces_make_the_function() {
        for (at, template) in TEMPLATES.iter().enumerate() {
            let whole: String = template
                .body
                .chars()
                .filter(|c| !"«»".contains(*c))
                .collect();
            let holes = template.body.matches('«').count();
            assert!(holes > 0, "template {at}");
            assert_eq!(holes, template.body.matches('»').count());
            for hole in 0..holes {
                let (prefix, middle, suffix) = cut(template.body, hole);
                assert_eq!(format!("{prefix}{middle}{suffix}"), whole);
                let marked = format!("«{middle}»");
                assert!(template.body.contains(&marked), "{marked}");
            }
        }
        for example in samples(5_000) {
            let (prefix, middle, suffix) = parts(&example);
            let text = format!("{prefix}{middle}{suffix}");
            assert!(!text.contains(['«', '»']));
            for open in ["()", "[]", "{}"] {
                let count = |at: usize| text.matches(&open[at..=at]).count();
                assert_eq!(count(0), count(1), "{text}");
            }
            for key in [
                "{f}", "{a}", "{b}", "{v}", "{i}", "{n}", "{m}", "{s}", "{t}",
            ] {
                assert!(!text.contains(key), "{text}");
            }
        }
    }

    // Breaks with: any choice that doesn't come from the draw, or a part that doesn't follow from
    // the id.
    #[test]
    fn the_same_draw_gives_the_same_example() {
        assert!(samples(200).eq(samples(200)));
        assert!(samples(200).all(|example| example.split == Split::of(&example.id)));
    }
}
