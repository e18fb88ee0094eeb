//! The gradient of the whole objective against finite differences, for every kind of parameter:
//! embedding, norms, latent attention, dense layer, router, routed and shared experts, head, MTP
//! module, over packed sequences and several batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;

use common::{Random, config, objective, options, trainer};
use dsv3_train::data::PackedBatch;

/// Breaks with: any module whose backward pass is not the derivative of its forward pass, a loss
/// that is left out of the gradient, batches whose means are not added up right.
#[test]
fn every_parameter_has_the_gradient_of_the_objective() {
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = trainer(dir.path(), &config(false), options());
    let mut random = Random(3);
    // Head and output layers begin near zero; moved, they let gradients through to the rest.
    let names: Vec<(String, usize)> = trainer
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), p.shape.iter().product()))
        .collect();
    trainer
        .restore(|parameters| {
            for parameter in parameters.iter_mut() {
                let values = parameter.values()?.into_iter();
                let values = values.map(|v| v + (random.below(1001) as f32 / 1000.0 - 0.5) * 0.3);
                parameter.restore(values.collect(), None);
            }
            Ok(())
        })
        .unwrap();
    let batches = [random.batch(&[9, 5, 14]), random.batch(&[7, 11])];
    let (_, gradients) = trainer.gradients(&batches).unwrap();
    let gradients: HashMap<String, Vec<f32>> = gradients.into_iter().collect();
    let mut checked = 0;
    for (name, count) in names {
        if name.ends_with("e_score_correction_bias") {
            assert!(!gradients.contains_key(&name), "{name} must not have one");
            continue;
        }
        let gradient = &gradients[&name];
        assert_eq!(gradient.len(), count, "{name}");
        // The element that matters most: differences in f32 say little about small ones.
        let largest = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
        let at = (0..count).max_by(largest).unwrap();
        // Where the router chooses otherwise between the two points a difference says nothing; a
        // smaller step then still does.
        let differences = [1e-3f32, 3e-4].map(|h| {
            let up = objective(&mut trainer, &batches, &name, at, h);
            let down = objective(&mut trainer, &batches, &name, at, -h);
            (up - down) / f64::from(2.0 * h)
        });
        let wrong = |d: &f64| (f64::from(gradient[at]) - d).abs() > 1e-3 + 0.02 * d.abs();
        assert!(
            !differences.iter().all(wrong),
            "{name}[{at}]: gradient {}, differences {differences:?}",
            gradient[at]
        );
        checked += 1;
    }
    assert!(checked > 80, "{checked} parameters");
}

/// Breaks with: a sequence that sees its neighbour in the batch, a mean over the wrong count.
#[test]
fn a_packed_batch_is_the_sum_of_its_sequences() {
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = trainer(dir.path(), &config(false), options());
    let batch = Random(4).batch(&[6, 13, 4, 9]);
    let alone: Vec<PackedBatch> = batch
        .sequences
        .iter()
        .map(|s| PackedBatch {
            sequences: vec![s.clone()],
        })
        .collect();
    let (packed, a) = trainer.gradients(&[batch]).unwrap();
    let (apart, b) = trainer.gradients(&alone).unwrap();
    assert!((packed - apart).abs() < 1e-5, "{packed} {apart}");
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!(name, other);
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
        }
    }
}

/// Breaks with: a token of one sequence that reaches another's loss.
#[test]
fn a_neighbour_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let trainer = trainer(dir.path(), &config(false), options());
    let mut random = Random(5);
    let kept = random.sequence(12);
    let loss = |neighbour| {
        let pair = PackedBatch {
            sequences: vec![neighbour, kept.clone()],
        };
        let neighbour = PackedBatch {
            sequences: vec![pair.sequences[0].clone()],
        };
        let (n, m) = (neighbour.target_count(), pair.target_count());
        let alone = trainer.evaluate(&[neighbour]).unwrap() * n as f64;
        trainer.evaluate(&[pair]).unwrap() * m as f64 - alone
    };
    let (a, b) = (loss(random.sequence(9)), loss(random.sequence(9)));
    assert!((a - b).abs() < 1e-4, "{a} {b}");
}
