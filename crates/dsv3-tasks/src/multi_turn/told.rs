//! Things that the user tells first and asks for later.

use crate::comparing::compare_all;
use crate::conversation::{Conversation, Exchange};
use crate::draw::Draw;
use crate::names::{city, fill, person as name};
use crate::question::listed;
use crate::sorting::{joined, select_numbers};
use crate::words::WORDS;

const ORDINALS: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "sixth"];
const COUNTS: [&str; 7] = ["no", "one", "two", "three", "four", "five", "six"];

/// Words, then which is the second.
pub(super) fn list(draw: &mut Draw) -> Conversation {
    let count = draw.between(3, 6) as usize;
    let mut words: Vec<&str> = Vec::with_capacity(count);
    while words.len() < count {
        let next = draw.pick(&WORDS);
        if !words.contains(&next) {
            words.push(next);
        }
    }
    let wording = draw.pick(&[
        "Here are {n} words: {list}.",
        "Remember these {n} words: {list}.",
        "My {n} words are {list}.",
    ]);
    let number = COUNTS.get(count).copied().unwrap_or_default();
    let text = fill(wording, &[("n", number), ("list", &listed(&words, ""))]);
    let numbered: Vec<String> = (1..)
        .zip(&words)
        .map(|(n, word)| format!("{word} {n}"))
        .collect();
    let mut exchanges = vec![Exchange::new(
        text,
        "The user tells me some words.",
        "Okay.",
    )];
    let mut places: Vec<usize> = (0..count).collect();
    draw.shuffle(&mut places);
    places.truncate(draw.between(1, 3) as usize);
    for (turn, &place) in places.iter().enumerate() {
        let last = place + 1 == count && draw.one_in(2);
        let which = if last {
            "last"
        } else {
            ORDINALS.get(place).copied().unwrap_or_default()
        };
        let wording = if turn == 0 {
            draw.pick(&[
                "What is the {w} word?",
                "Which word is the {w} one?",
                "Tell me the {w} word.",
            ])
        } else {
            draw.pick(&[
                "And the {w} one?",
                "And the {w}?",
                "What about the {w} one?",
            ])
        };
        let word = words.get(place).copied().unwrap_or_default();
        let reasoning = format!("{}. {}: {word}", numbered.join(", "), place + 1);
        exchanges.push(Exchange::new(
            fill(wording, &[("w", which)]),
            reasoning,
            word,
        ));
    }
    let asked: Vec<String> = places.iter().map(usize::to_string).collect();
    Conversation {
        id: format!("multi_turn/list/{}/{}", words.join(","), asked.join(",")),
        exchanges,
        ..Conversation::default()
    }
}

/// Numbers, then which is the largest, or all in order.
pub(super) fn numbers(draw: &mut Draw) -> Conversation {
    let count = draw.between(3, 5) as usize;
    let mut numbers: Vec<i64> = Vec::with_capacity(count);
    while numbers.len() < count {
        let next = draw.between(10, 99);
        if !numbers.contains(&next) {
            numbers.push(next);
        }
    }
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let list = listed(&texts, "and");
    let wording = draw.pick(&[
        "My numbers are {list}.",
        "Here are some numbers: {list}.",
        "Remember the numbers {list}.",
    ]);
    let text = fill(wording, &[("list", &list)]);
    let mut exchanges = vec![Exchange::new(
        text,
        "The user tells me some numbers.",
        "Okay.",
    )];
    let mut questions = ["largest", "smallest", "ascending", "descending"];
    draw.shuffle(&mut questions);
    let asked = draw.between(1, 3) as usize;
    for (turn, what) in questions.iter().take(asked).enumerate() {
        let extreme = ["largest", "smallest"].contains(what);
        let wording = match (extreme, turn) {
            (true, 0) => draw.pick(&["Which of them is the {w}?", "What is the {w} of them?"]),
            (true, _) => draw.pick(&["And which is the {w}?", "And the {w} of them?"]),
            (false, 0) => draw.pick(&["Sort them in {w} order.", "Put them in {w} order."]),
            (false, _) => draw.pick(&["Now sort them in {w} order.", "And in {w} order?"]),
        };
        let text = fill(wording, &[("w", what)]);
        exchanges.push(if extreme {
            let (reasoning, answer) = compare_all(&texts, *what == "largest");
            Exchange::new(text, reasoning, answer)
        } else {
            let descending = *what == "descending";
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            if descending {
                sorted.reverse();
            }
            Exchange::new(text, select_numbers(&numbers, descending), joined(&sorted))
        });
    }
    let order = questions.get(..asked).unwrap_or_default().join(",");
    Conversation {
        id: format!("multi_turn/numbers/{}/{order}", texts.join(",")),
        exchanges,
        ..Conversation::default()
    }
}

/// What can be told of oneself: statement, question, recalling sentence.
const TOLD: [(&str, &str, &str, &str); 7] = [
    (
        "name",
        "My name is {v}.",
        "What is my name?",
        "The user's name is {v}.",
    ),
    (
        "cat",
        "My cat is called {v}.",
        "What is my cat called?",
        "The user's cat is called {v}.",
    ),
    (
        "dog",
        "My dog is called {v}.",
        "What is my dog called?",
        "The user's dog is called {v}.",
    ),
    (
        "colour",
        "My favourite colour is {v}.",
        "What is my favourite colour?",
        "The user's favourite colour is {v}.",
    ),
    (
        "city",
        "I live in {v}.",
        "Where do I live?",
        "The user lives in {v}.",
    ),
    (
        "age",
        "I am {v} years old.",
        "How old am I?",
        "The user is {v} years old.",
    ),
    (
        "number",
        "My lucky number is {v}.",
        "What is my lucky number?",
        "The user's lucky number is {v}.",
    ),
];

const COLOURS: [&str; 9] = [
    "red", "blue", "green", "yellow", "black", "white", "brown", "orange", "pink",
];

/// Two to four things of oneself, then one of them.
pub(super) fn person(draw: &mut Draw) -> Conversation {
    let mut things: Vec<usize> = (0..TOLD.len()).collect();
    draw.shuffle(&mut things);
    things.truncate(draw.between(2, 4) as usize);
    let mut known: Vec<(usize, String)> = Vec::new();
    for thing in things {
        let value = loop {
            let value = match TOLD.get(thing).map(|told| told.0) {
                Some("colour") => draw.pick(&COLOURS).to_owned(),
                Some("city") => city(draw),
                Some("age" | "number") => draw.between(6, 99).to_string(),
                _ => name(draw),
            };
            // A cat with its owner's name would make the question too easy.
            if known.iter().all(|(_, other)| *other != value) {
                break value;
            }
        };
        known.push((thing, value));
    }
    let told = |(thing, value): &(usize, String)| {
        let (_, statement, question, recall) = TOLD.get(*thing).copied().unwrap_or_default();
        (
            fill(statement, &[("v", value)]),
            question,
            fill(recall, &[("v", value)]),
        )
    };
    let statements: Vec<String> = known.iter().map(|thing| told(thing).0).collect();
    let mut exchanges = Vec::new();
    let noted = "The user tells me something.";
    if draw.one_in(2) {
        exchanges.push(Exchange::new(statements.join(" "), noted, "Okay."));
    } else {
        for statement in statements.iter().take(2) {
            exchanges.push(Exchange::new(statement.clone(), noted, "Okay."));
        }
        known.truncate(2);
    }
    let id = known
        .iter()
        .map(|(thing, value)| format!("{}={value}", TOLD.get(*thing).map_or("", |told| told.0)));
    let id: Vec<String> = id.collect();
    let mut asked: Vec<usize> = (0..known.len()).collect();
    draw.shuffle(&mut asked);
    asked.truncate(draw.between(1, 2) as usize);
    for &at in &asked {
        if let Some(thing) = known.get(at) {
            let (_, question, recall) = told(thing);
            exchanges.push(Exchange::new(question, recall, thing.1.clone()));
        }
    }
    let order: Vec<String> = asked.iter().map(usize::to_string).collect();
    Conversation {
        id: format!("multi_turn/told/{}/{}", id.join(","), order.join(",")),
        exchanges,
        ..Conversation::default()
    }
}
