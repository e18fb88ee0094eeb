use std::collections::HashSet;

use super::jsonl::{dataset, line};
use crate::data::*;

fn many(numbers: std::ops::Range<u32>) -> String {
    numbers
        .map(|number| line(&format!("What is {number}?"), &format!("It is {number}.")))
        .collect()
}

fn tokens(dataset: &Dataset) -> HashSet<Vec<u32>> {
    let sequences = dataset.sequences().iter();
    sequences
        .map(|sequence| sequence.tokens().to_vec())
        .collect()
}

// Breaks with: a split by order or by chance, which would train on what was held out before.
#[test]
fn the_same_lines_stay_held_out_when_the_file_grows() {
    let mut small = dataset(&many(0..300));
    let mut grown = dataset(&(many(500..800) + &many(0..300)));
    let held = tokens(&small.split_off(0.2, 7).unwrap());
    let held_of_grown = tokens(&grown.split_off(0.2, 7).unwrap());
    assert!((30..=90).contains(&held.len()), "{}", held.len());
    assert!(held.is_subset(&held_of_grown));
    assert!(tokens(&small).is_subset(&tokens(&grown)));
    assert!(tokens(&grown).is_disjoint(&held_of_grown));
    let mut other = dataset(&many(0..300));
    assert_ne!(tokens(&other.split_off(0.2, 8).unwrap()), held);
}

// Breaks with: a conversation that is held out and trained on, as a duplicate or in part.
#[test]
fn duplicates_and_parts_stay_on_one_side() {
    let twice = many(0..100).replace("\":", "\" : ") + &many(0..100);
    let mut data = dataset(&twice);
    let held = data.split_off(0.3, 1).unwrap();
    assert!(held.sequences().len() > 10 && held.sequences().len().is_multiple_of(2));
    assert!(tokens(&data).is_disjoint(&tokens(&held)));

    // Two sequences each: the first turn reasons and isn't the last.
    let parts: String = (0..60)
        .map(|number| {
            serde_json::json!([
                {"role": "user", "content": format!("question {number}")},
                {"role": "assistant", "content": "A", "reasoning_content": "r"},
                {"role": "user", "content": "b"},
                {"role": "assistant", "content": "B"},
            ])
            .to_string()
                + "\n"
        })
        .collect();
    let mut data = dataset(&parts);
    assert_eq!(data.sequences().len(), 120);
    let held = data.split_off(0.5, 1).unwrap();
    for side in [&data, &held] {
        assert!(side.sequences().len() > 20);
        for pair in side.sequences().chunks(2) {
            assert_eq!(pair[0].tokens()[..5], pair[1].tokens()[..5]);
        }
    }
}

// Breaks with: a part that is no part, or a training on nothing.
#[test]
fn impossible_splits_are_refused() {
    let mut data = dataset(&many(0..3));
    for fraction in [-0.1, 1.0, 2.0, f64::NAN, f64::INFINITY] {
        let error = data.split_off(fraction, 1).unwrap_err().to_string();
        assert!(error.contains("from 0 to below 1"), "{error}");
    }
    let error = data.split_off(0.999_999, 1).unwrap_err().to_string();
    assert!(error.contains("every conversation"), "{error}");
    assert_eq!(data, dataset(&many(0..3)));
    assert!(data.split_off(0.0, 1).unwrap().sequences().is_empty());
    assert_eq!(data.sequences().len(), 3);
    assert!(Dataset::default().split_off(0.5, 1).is_ok());
}
