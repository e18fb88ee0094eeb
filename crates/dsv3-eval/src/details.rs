//! What is counted beside right and wrong.

use std::collections::BTreeMap;

use dsv3_tasks::{Check, Kind, Mode, Turn};
use dsv3_tokenizer::{Segment, Special};

use crate::interval::Rate;
use crate::report::{Detail, Pair, counts};
use crate::score::Verdict;

/// The mark in the id of a task with tools that training never had.
const UNSEEN: &str = "unseen";

/// All that is worth counting about the tasks of one kind and mode.
pub(crate) fn details(kind: Kind, mode: Mode, pairs: &[Pair<'_>]) -> Vec<Detail> {
    let scored: Vec<Pair<'_>> = pairs.iter().filter(|p| counts(p.0)).copied().collect();
    let mut measures = Measures::default();
    match kind {
        Kind::Tools => tools(&scored, &mut measures),
        Kind::Search => search(&scored, &mut measures),
        Kind::Buried => lengths(pairs, &mut measures),
        _ => {}
    }
    turns(&scored, &mut measures);
    let rates = measures
        .0
        .into_iter()
        .map(|(measure, (right, count))| Detail {
            kind,
            mode,
            measure,
            rate: Rate::new(right, count),
        });
    rates.filter(|detail| detail.rate.count > 0).collect()
}

/// Measures in the order in which they were first counted.
#[derive(Default)]
struct Measures(Vec<(String, (usize, usize))>);

impl Measures {
    fn count(&mut self, measure: impl Into<String>, right: bool) {
        self.add(measure, usize::from(right), 1);
    }

    fn add(&mut self, measure: impl Into<String>, right: usize, count: usize) {
        let measure = measure.into();
        if !self.0.iter().any(|(known, _)| *known == measure) {
            self.0.push((measure.clone(), (0, 0)));
        }
        for (known, sums) in &mut self.0 {
            if *known == measure {
                *sums = (sums.0 + right, sums.1 + count);
            }
        }
    }
}

fn turns_of<'a>(pair: &Pair<'a>) -> impl Iterator<Item = (&'a Turn, &'a Verdict)> {
    let (task, outcome) = *pair;
    task.task.example.turns.iter().zip(&outcome.verdicts)
}

/// Each turn by itself, where a task has several.
fn turns(pairs: &[Pair<'_>], measures: &mut Measures) {
    let mut by_turn: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for pair in pairs.iter().filter(|p| p.0.task.example.turns.len() > 1) {
        for (number, (_, verdict)) in turns_of(pair).enumerate() {
            let sums = by_turn.entry(number + 1).or_default();
            *sums = (sums.0 + usize::from(verdict.right()), sums.1 + 1);
        }
    }
    for (right, count) in by_turn.values() {
        measures.add("turns, where there are several", *right, *count);
    }
    for (number, (right, count)) in by_turn {
        measures.add(format!("turn {number} of several"), right, count);
    }
}

/// Whether the user speaks in this turn, rather than a tool or a search.
fn asks(turn: &Turn) -> bool {
    turn.given.contains(&Segment::Special(Special::User))
}

fn calls_for_tools(turn: &Turn) -> bool {
    matches!(&turn.check, Check::ToolCalls { calls } if !calls.is_empty())
}

fn tools(pairs: &[Pair<'_>], measures: &mut Measures) {
    // In this order in the report, whatever comes first among the tasks.
    for measure in [
        "right tools",
        "right tools and arguments",
        "arguments are a JSON object, a call",
        "tools of training",
        "tools never seen",
        "no call where none fits",
    ] {
        measures.add(measure, 0, 0);
    }
    for pair in pairs {
        let unseen = pair.0.task.example.id.contains(UNSEEN);
        for (turn, verdict) in turns_of(pair) {
            // Also of calls where none was asked for.
            let (valid, calls) = (verdict.valid_calls, verdict.calls);
            measures.add("arguments are a JSON object, a call", valid, calls);
            if !calls_for_tools(turn) {
                if asks(turn) {
                    let right = verdict.given && verdict.calls == 0;
                    measures.count("no call where none fits", right);
                }
                continue;
            }
            measures.count("right tools", verdict.right_tools);
            measures.count("right tools and arguments", verdict.right());
            let seen = match unseen {
                true => "tools never seen",
                false => "tools of training",
            };
            measures.count(seen, verdict.right());
        }
    }
}

fn search(pairs: &[Pair<'_>], measures: &mut Measures) {
    for measure in [
        "asked when and only when needed",
        "asked when needed",
        "not asked when not needed",
        "right query",
    ] {
        measures.add(measure, 0, 0);
    }
    for pair in pairs {
        let turns = &pair.0.task.example.turns;
        let is_search = |turn: &Turn| matches!(turn.check, Check::Search { .. });
        let needed = turns.iter().any(is_search);
        for (turn, verdict) in turns_of(pair) {
            // An answer from results is not a case of "not needed".
            if needed && !is_search(turn) {
                continue;
            }
            let right = verdict.given && (verdict.searches > 0) == needed;
            let case = match needed {
                true => "asked when needed",
                false => "not asked when not needed",
            };
            measures.count("asked when and only when needed", right);
            measures.count(case, right);
            if needed {
                measures.count("right query", verdict.right());
            }
        }
    }
}

/// The curve of the buried fact.
fn lengths(pairs: &[Pair<'_>], measures: &mut Measures) {
    for (task, outcome) in pairs {
        if let Some(length) = task.task.buried_length {
            measures.count(format!("within {length} tokens"), outcome.right());
        }
    }
}
