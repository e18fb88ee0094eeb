use std::collections::HashMap;

use dsv3_tasks::{Corpus, Mix};
use proptest::prelude::*;

use super::jsonl::{TOKENIZER, dataset, line};
use crate::TrainError;
use crate::data::*;

/// Sequences of given lengths whose tokens tell them apart; every third token is read only.
fn made(lengths: &[usize]) -> Vec<TrainSequence> {
    let make = |(at, length): (usize, &usize)| {
        let token = |i: usize| (at * 100 + i) as u32;
        let mask = (0..*length).map(|i| i % 3 != 0).collect();
        TrainSequence::new((0..*length).map(token).collect(), mask).unwrap()
    };
    lengths.iter().enumerate().map(make).collect()
}

fn source(lengths: &[usize], seed: u64) -> DatasetSource {
    let dataset = Dataset {
        conversations: vec![0; lengths.len()],
        sequences: made(lengths),
        ..Dataset::default()
    };
    DatasetSource::new(dataset, seed).unwrap()
}

proptest! {
    // Breaks with: a sequence lost or given twice, a batch over its budget, an epoch begun while
    // the one before is far from done.
    #[test]
    fn nothing_is_lost_and_budgets_are_kept(
        lengths in prop::collection::vec(2usize..40, 1..40),
        budget in 40usize..100, window in 0usize..8, seed: u64, epochs in 1u64..4,
    ) {
        let options = PackingOptions { tokens_per_batch: budget, window };
        let mut packer = Packer::new(source(&lengths, seed), options);
        let mut given: HashMap<u32, u64> = HashMap::new();
        while packer.source().position().epoch < epochs {
            let batch = packer.next_batch().unwrap();
            prop_assert!(!batch.sequences.is_empty() && batch.token_count() <= budget);
            for sequence in batch.sequences {
                *given.entry(sequence.tokens()[0]).or_default() += 1;
            }
        }
        for pending in packer.position().pending {
            let mut again = source(&lengths, seed);
            again.seek(pending).unwrap();
            *given.entry(again.next_sequence().unwrap().tokens()[0]).or_default() += 1;
        }
        // All of what the source gave: whole epochs, and what it gave of the next.
        let position = packer.source().position();
        let total: u64 = given.values().sum();
        prop_assert_eq!(total, position.epoch * lengths.len() as u64 + position.index);
        prop_assert_eq!(given.len(), lengths.len());
        for count in given.into_values() {
            prop_assert!((position.epoch..=position.epoch + 1).contains(&count));
        }
    }

    // Breaks with: a resumed run that trains on other batches than one never stopped.
    #[test]
    fn a_resumed_packer_gives_the_same_batches(
        lengths in prop::collection::vec(2usize..40, 1..30),
        budget in 40usize..100, window in 1usize..8, seed: u64, stop in 0usize..20,
    ) {
        let options = PackingOptions { tokens_per_batch: budget, window };
        let mut never_stopped = Packer::new(source(&lengths, seed), options);
        for _ in 0..stop {
            never_stopped.next_batch().unwrap();
        }
        let saved = serde_json::to_string(&never_stopped.position()).unwrap();
        let mut resumed = Packer::new(source(&lengths, seed), options);
        resumed.next_batch().unwrap();
        resumed.seek(&serde_json::from_str(&saved).unwrap()).unwrap();
        for _ in 0..20 {
            prop_assert_eq!(never_stopped.position(), resumed.position());
            prop_assert_eq!(never_stopped.next_batch().unwrap(), resumed.next_batch().unwrap());
        }
    }

    // Breaks with: sequences that share rows, cache blocks or positions, a target of a
    // neighbour's token, a target that no row predicts.
    #[test]
    fn spans_and_targets(
        lengths in prop::collection::vec(2usize..20, 1..8), block_size in 0usize..9,
    ) {
        let batch = PackedBatch { sequences: made(&lengths) };
        let packed = batch.forward_batch(block_size);
        let size = block_size.max(1);
        let (mut row, mut blocks) = (0, Vec::new());
        let (mut next, mut mtp) = (Targets::default(), Targets::default());
        for (sequence, slice) in batch.sequences.iter().zip(&packed.batch.sequences) {
            let count = sequence.token_count();
            prop_assert_eq!(&slice.rows, &(row..row + count));
            prop_assert_eq!(&packed.batch.tokens[slice.rows.clone()], sequence.tokens());
            let positions: Vec<u32> = (0..count as u32).collect();
            prop_assert_eq!(&packed.batch.positions[slice.rows.clone()], &positions);
            prop_assert_eq!(slice.context, count);
            prop_assert_eq!(slice.blocks.len(), count.div_ceil(size));
            blocks.extend(slice.blocks.clone());
            for i in 0..count {
                for (ahead, targets) in [(1, &mut next), (2, &mut mtp)] {
                    if i + ahead < count && sequence.targets_mask()[i + ahead] {
                        targets.rows.push(row + i);
                        targets.tokens.push(sequence.tokens()[i + ahead]);
                    }
                }
            }
            row += count;
        }
        prop_assert_eq!(packed.batch.sequences.len(), lengths.len());
        prop_assert_eq!(packed.batch.tokens.len(), row);
        prop_assert_eq!(blocks, (0..packed.blocks as u32).collect::<Vec<_>>());
        prop_assert_eq!(&packed.batch.logit_rows, &next.rows);
        prop_assert_eq!(next.rows.len(), batch.target_count());
        prop_assert_eq!(packed.next, next);
        prop_assert_eq!(packed.mtp, mtp);
    }

    // Breaks with: an evaluation that leaves something out or overfills a batch.
    #[test]
    fn all_of_a_held_out_part_is_packed(lengths in prop::collection::vec(2usize..40, 0..40)) {
        let sequences = made(&lengths);
        let batches = PackedBatch::pack_all(&sequences, 40).unwrap();
        prop_assert!(batches.iter().all(|batch| batch.token_count() <= 40));
        let packed: Vec<_> = batches.into_iter().flat_map(|batch| batch.sequences).collect();
        prop_assert_eq!(packed, sequences);
    }
}

// Breaks with: epochs in the file's order or in the same order, which a model could learn.
#[test]
fn each_epoch_has_its_own_order() {
    let mut source = source(&[5; 50], 3);
    let mut epoch = || -> Vec<u32> {
        (0..50)
            .map(|_| source.next_sequence().unwrap().tokens()[0])
            .collect()
    };
    let (first, second) = (epoch(), epoch());
    assert_ne!(first, second);
    let sorted = |mut order: Vec<u32>| {
        order.sort_unstable();
        order
    };
    assert_ne!(first, sorted(first.clone()));
    assert_eq!(sorted(first), sorted(second));
}

// Breaks with: batches that are half empty because sequences are taken strictly in order.
#[test]
fn batches_are_nearly_full() {
    let lengths: Vec<usize> = (0..400).map(|i| 20 + i * 37 % 300).collect();
    let mut packer = Packer::new(source(&lengths, 1), PackingOptions::new(1024));
    let filled: usize = (0..50)
        .map(|_| packer.next_batch().unwrap().token_count())
        .sum();
    assert!(filled > 50 * 1024 * 97 / 100, "{filled}");
}

// Breaks with: a sequence that is longer than a batch dropped without a word or packed anyway.
#[test]
fn attack_a_sequence_longer_than_a_batch() {
    let mut packer = Packer::new(source(&[5, 50, 5], 1), PackingOptions::new(40));
    let error = packer.next_batch().unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::BatchTooSmall {
                tokens: 50,
                budget: 40,
                ..
            }
        ),
        "{error}"
    );
    assert!(PackedBatch::pack_all(&made(&[50]), 40).is_err());
}

// Breaks with: a run resumed on another file as if nothing had happened.
#[test]
fn attack_a_position_that_is_not_there() {
    let beyond = SourcePosition { epoch: 3, index: 9 };
    let error = source(&[5; 9], 1).seek(beyond).unwrap_err().to_string();
    assert!(
        error.contains("epoch 3, index 9") && error.contains("9 sequences"),
        "{error}"
    );
    let far = SourcePosition {
        epoch: u64::MAX,
        index: u64::MAX,
    };
    assert!(source(&[5; 9], 1).seek(far).is_err());
    assert!(DatasetSource::new(Dataset::default(), 1).is_err());
    let corpus = Corpus::new(1, Mix::default()).unwrap();
    assert!(
        CorpusSource::new(corpus, TOKENIZER.clone())
            .seek(beyond)
            .is_err()
    );
}

// Breaks with: a corpus whose examples depend on what was read before.
#[test]
fn a_corpus_is_read_from_any_place() {
    let corpus = Corpus::new(5, Mix::default()).unwrap();
    let mut source = CorpusSource::new(corpus, TOKENIZER.clone());
    let first: Vec<_> = (0..20).map(|_| source.next_sequence().unwrap()).collect();
    let place = SourcePosition {
        epoch: 0,
        index: 12,
    };
    source.seek(place).unwrap();
    assert_eq!(source.position(), place);
    assert_eq!(source.next_sequence().unwrap(), first[12]);
}

// Breaks with: marks that don't belong to the tokens, or a sequence that teaches nothing.
#[test]
fn sequences_are_checked() {
    for (tokens, mask, names) in [
        (vec![1, 2], vec![false], "2 tokens with 1 marks"),
        (vec![1, 2], vec![true, true], "its first token"),
        (vec![1, 2], vec![false, false], "none of its 2 tokens"),
        (vec![], vec![], "none of its 0 tokens"),
    ] {
        let error = TrainSequence::new(tokens, mask).unwrap_err().to_string();
        assert!(error.contains(names), "{error}");
    }
}

// Breaks with: the way from a file to a batch interrupted somewhere.
#[test]
fn from_a_file_to_a_batch() {
    let data = dataset(&(line("a", "A") + &line("b", "B")));
    let mut packer = Packer::new(
        DatasetSource::new(data, 1).unwrap(),
        PackingOptions::new(15),
    );
    let packed = packer.next_batch().unwrap().forward_batch(4);
    assert_eq!((packed.batch.tokens.len(), packed.blocks), (14, 4));
    let eos = TOKENIZER.special().eos;
    assert_eq!(
        packed
            .next
            .tokens
            .iter()
            .filter(|token| **token == eos)
            .count(),
        2
    );
}
