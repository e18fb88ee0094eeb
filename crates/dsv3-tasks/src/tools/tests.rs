//! What holds for every example with tools.

use std::collections::{HashMap, HashSet};

use dsv3_tokenizer::{Segment, Special, dumps};
use serde_json::Value;

use super::family::split_of_name;
use super::{LONGEST, USUAL, example, families, turn_length};
use crate::check::Check;
use crate::draw::Draw;
use crate::example::{Example, Split, Turn, spell};
use crate::length;
use crate::split::UNSEEN_TOOLS;
use crate::testing::{asked, said};

fn samples(count: u64) -> impl Iterator<Item = Example> {
    (0..count).map(|stream| example(&mut Draw::new(3, stream)).unwrap())
}

/// The tools that the prompt lists, with their schemas.
fn listed(example: &Example) -> HashMap<String, Value> {
    let prompt = spell(&example.turns[0].given);
    prompt
        .split("\n### ")
        .skip(1)
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            let schema = rest.split_once("Parameters: ").unwrap().1;
            let schema = schema.split_once('\n').unwrap().0;
            (name.to_owned(), serde_json::from_str(schema).unwrap())
        })
        .collect()
}

/// The user's text that this turn, or the turn before, answers.
fn request(turns: &[Turn], at: usize) -> String {
    let user = Segment::Special(Special::User);
    match turns[at].given.contains(&user) {
        true => asked(&turns[at]),
        false => asked(&turns[at - 1]),
    }
}

fn calls(turn: &Turn) -> &[(String, Value)] {
    match &turn.check {
        Check::ToolCalls { calls } => calls,
        _ => &[],
    }
}

// Breaks with: arguments that the schema doesn't allow, that miss a required one, or that stand in
// another order than the schema's; text that isn't the JSON of the check.
#[test]
fn arguments_follow_the_schema() {
    let mut optional_left_out = 0;
    for example in samples(1500) {
        let tools = listed(&example);
        for turn in &example.turns {
            for (name, arguments) in calls(turn) {
                let schema = &tools[name];
                let properties = schema["properties"].as_object().unwrap();
                let arguments_map = arguments.as_object().unwrap();
                for (key, value) in arguments_map {
                    let property = &properties[key];
                    let fits = match property["type"].as_str().unwrap() {
                        "string" => value.is_string(),
                        "integer" => value.is_i64(),
                        "number" => value.is_number(),
                        "boolean" => value.is_boolean(),
                        other => panic!("{other} in {schema}"),
                    };
                    assert!(fits, "{value} for {property}");
                    if let Some(choices) = property.get("enum") {
                        assert!(choices.as_array().unwrap().contains(value));
                    }
                }
                for required in schema["required"].as_array().unwrap() {
                    assert!(arguments_map.contains_key(required.as_str().unwrap()));
                }
                let given: Vec<_> = arguments_map.keys().collect();
                let order = properties.keys().filter(|key| given.contains(key));
                assert_eq!(given, order.collect::<Vec<_>>());
                optional_left_out += usize::from(given.len() < properties.len());
                let written = format!("{name}<｜tool▁sep｜>{}<", dumps(arguments));
                assert!(spell(&turn.answer).contains(&written));
            }
        }
    }
    assert!(optional_left_out > 50, "{optional_left_out}");
}

// Breaks with: a tool that is not named before the choice, one that is named out of turn, or a need
// that stands for two of them, so that the choice can't be made from what is said.
#[test]
fn what_each_tool_is_for_is_said_first() {
    for example in samples(1000) {
        let prompt = spell(&example.turns[0].given);
        let in_order: Vec<&str> = prompt
            .split("\n### ")
            .skip(1)
            .filter_map(|block| block.lines().next())
            .collect();
        for turn in &example.turns {
            let Check::ToolCalls { calls } = &turn.check else {
                continue;
            };
            let said = spell(&turn.answer);
            let tools = said.strip_prefix("Tools: ").unwrap();
            let (tools, choice) = tools.split_once(". For ").unwrap();
            let (needs, names): (Vec<_>, Vec<_>) = tools
                .split(", ")
                .map(|tool| tool.rsplit_once(' ').unwrap())
                .unzip();
            assert_eq!(names, in_order, "{said}");
            assert_eq!(needs.iter().collect::<HashSet<_>>().len(), needs.len());
            for (name, _) in calls {
                let at = names.iter().position(|listed| listed == name).unwrap();
                let wanted = format!("{} I have {name}", needs[at]);
                assert!(choice.contains(&wanted), "{wanted}: {said}");
            }
        }
    }
}

// Breaks with: an argument that can't be copied from the request.
#[test]
fn the_request_has_every_argument() {
    let mut both = 0;
    for example in samples(1500) {
        for (at, turn) in example.turns.iter().enumerate() {
            let text = request(&example.turns, at);
            for (_, arguments) in calls(turn) {
                for value in arguments.as_object().unwrap().values() {
                    let shown = match value {
                        Value::String(text) => text.clone(),
                        Value::Bool(true) => "on".to_owned(),
                        Value::Bool(false) => "off".to_owned(),
                        other => other.to_string(),
                    };
                    assert!(text.contains(&shown), "{shown} in {text}");
                }
            }
            both += usize::from(calls(turn).len() == 2);
        }
    }
    assert!(both > 100, "{both} turns with two calls");
}

// Breaks with: an output that isn't JSON, an answer that isn't made from it, or outputs that don't
// follow their calls one by one.
#[test]
fn answers_come_from_the_outputs() {
    for example in samples(1000) {
        for pair in example.turns.windows(2) {
            let [call, answer] = pair else { continue };
            if calls(call).is_empty() {
                assert_eq!(answer.given[0], Segment::Special(Special::User));
                continue;
            }
            assert_eq!(answer.given.len(), 3 * calls(call).len());
            let said = said(answer);
            for output in answer.given.chunks(3) {
                let [
                    Segment::Special(Special::ToolOutputBegin),
                    Segment::Text(json),
                    Segment::Special(Special::ToolOutputEnd),
                ] = output
                else {
                    panic!("{}", spell(output));
                };
                let json: Value = serde_json::from_str(json).unwrap();
                let value = json.as_object().unwrap().values().next().unwrap();
                let value = value.as_str().map_or(value.to_string(), str::to_owned);
                assert!(said.contains(&value), "{value} in {said}");
                if let Check::Contains { answer, .. } = &answer.check {
                    assert_eq!(*answer, value);
                }
            }
            assert!(!matches!(answer.check, Check::ToolCalls { .. }));
        }
    }
}

// Breaks with: a held-out tool in training, a known one among unseen ones, or a held-out part with
// too few of either.
#[test]
fn unseen_tools_are_never_in_training() {
    let (mut seen, mut unseen) = (0, 0);
    for example in samples(10_000) {
        let is_unseen = example.id.starts_with(UNSEEN_TOOLS);
        assert_eq!(example.split, Split::of(&example.id));
        for name in listed(&example).keys() {
            assert_eq!(split_of_name(name) == Split::HeldOut, is_unseen, "{name}");
        }
        if example.split == Split::HeldOut {
            *(if is_unseen { &mut unseen } else { &mut seen }) += 1;
        }
    }
    let share = f64::from(unseen) / f64::from(seen + unseen);
    assert!((0.4..0.6).contains(&share), "{unseen} and {seen}");
}

// Breaks with: a word that only unseen tools have (training would never have moved its
// embedding), or a name that two families share.
#[test]
fn every_word_of_a_name_is_trained() {
    let names_of = |split| families().flat_map(move |family| family.names(split));
    let words = |names: &[String]| -> HashSet<String> {
        let words = names.iter().flat_map(|name| name.split('_'));
        words.map(str::to_owned).collect()
    };
    let trained: Vec<_> = names_of(Split::Train).collect();
    let held_out: Vec<_> = names_of(Split::HeldOut).collect();
    let known = words(&trained);
    for word in words(&held_out) {
        assert!(known.contains(&word), "{word}");
    }
    for family in families() {
        assert!(!family.names(Split::Train).is_empty(), "{}", family.key);
    }
    let all: HashSet<_> = trained.iter().chain(&held_out).collect();
    assert_eq!(all.len(), trained.len() + held_out.len());
    let share = held_out.len() as f64 / all.len() as f64;
    assert!(
        (0.15..0.35).contains(&share),
        "{} of {}",
        held_out.len(),
        all.len()
    );
}

// Breaks with: two parameters of one name, which JSON can't hold; a template whose argument is
// missing or left unfilled.
#[test]
fn families_are_whole() {
    for family in families() {
        for (at, slot) in family.slots.iter().enumerate() {
            for other in &family.slots[at + 1..] {
                assert!(slot.names.iter().all(|name| !other.names.contains(name)));
            }
            for ask in family.asks {
                let used = ask.contains(&format!("{{{at}}}"));
                assert_eq!(used, slot.phrase.is_none(), "{ask}");
                assert!(ask.ends_with(['.', '?']), "{ask}");
            }
            assert!(slot.phrase.is_none_or(|phrase| phrase.contains("{}")));
        }
        assert!(family.answer.contains("{r}"), "{}", family.answer);
    }
    for example in samples(500) {
        for (at, turn) in example.turns.iter().enumerate() {
            assert!(!request(&example.turns, at).contains(['{', '}']));
            if !matches!(turn.check, Check::ToolCalls { .. }) {
                assert!(!said(turn).contains(['{', '}']));
            }
        }
    }
}

// Breaks with: conversations that outgrow the trained context, or that most of the time do.
#[test]
fn conversations_are_short() {
    let lengths: Vec<usize> = samples(2000)
        .map(|example| example.turns.iter().map(turn_length).sum())
        .collect();
    let longest = lengths.iter().max().unwrap();
    assert!(*longest <= LONGEST, "{longest}");
    let usual = lengths.iter().filter(|length| **length <= USUAL).count();
    assert!(usual > 1500, "{usual} of 2000");
    // The mark of a turn's end is counted, too.
    assert_eq!(length::of_segments(&[Segment::Special(Special::Eos)]), 1);
}

// Breaks with: requests that all call, or a refusal in place of a call.
#[test]
fn some_requests_need_no_call() {
    let (mut called, mut refused, mut direct) = (0, 0, 0);
    for example in samples(1000) {
        for (at, turn) in example.turns.iter().enumerate() {
            match &turn.check {
                Check::ToolCalls { calls } if calls.is_empty() => {
                    refused += 1;
                    assert!(said(turn).ends_with(super::NO_TOOL));
                }
                Check::ToolCalls { .. } => called += 1,
                Check::Exact { answer }
                    if turn.given.contains(&Segment::Special(Special::User)) =>
                {
                    direct += 1;
                    assert_eq!(said(turn), *answer);
                    assert!(!request(&example.turns, at).is_empty());
                }
                _ => {}
            }
        }
    }
    assert!(
        called > 1000 && refused > 80 && direct > 80,
        "{called} {refused} {direct}"
    );
}

// Breaks with: any choice that doesn't come from the draw.
#[test]
fn the_same_draw_gives_the_same_example() {
    assert!(samples(200).eq(samples(200)));
}
