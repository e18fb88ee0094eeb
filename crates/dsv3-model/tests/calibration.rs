//! What a model's weights are multiplied with, and packing that knows it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{BLOCK, assert_close, values};
use dsv3_model::{Calibration, Checkpoint, ForwardBatch, LoadOptions, Transformer};
use dsv3_weights::{ConvertFormat, ConvertOptions, Importance, WeightsError, convert};

const TOKENS: usize = 60;

fn source() -> Checkpoint {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dsv3-tiny");
    Checkpoint::open(dir).unwrap()
}

fn logits(model: &Transformer) -> Vec<f32> {
    let prompt: Vec<u32> = (0..TOKENS as u32).map(|i| 5 + i * 37 % 2000).collect();
    let mut cache = model.new_cache(prompt.len().div_ceil(BLOCK), BLOCK);
    let mut batch = ForwardBatch::default();
    batch.push(&prompt, 0, (0..cache.blocks() as u32).collect());
    batch.want_all_logits();
    values(model.forward(&batch, &mut cache).unwrap().logits)
}

fn calibrated() -> BTreeMap<String, Vec<f32>> {
    let mut model = Transformer::load(&source(), &LoadOptions::cpu()).unwrap();
    let plain = logits(&model);
    let calibration = Calibration::watch(&mut model);
    // Breaks with: watching that changes what is computed.
    assert_close("watched", &logits(&model), &plain, 1e-4);
    calibration.mean_squares()
}

/// Breaks with: inputs counted for another weight, or twice; an expert that sees tokens that are
/// not its own; squares that are not divided by the rows.
#[test]
fn inputs_are_those_of_the_weight() {
    let found = calibrated();
    let of = |name: &str| &found[&format!("model.layers.{name}.weight")];
    // What two projections share they see alike.
    assert_eq!(of("0.mlp.gate_proj"), of("0.mlp.up_proj"));
    assert_eq!(
        of("1.self_attn.q_a_proj"),
        of("1.self_attn.kv_a_proj_with_mqa")
    );
    assert_ne!(of("1.self_attn.q_a_proj"), of("2.self_attn.q_a_proj"));
    // A norm's output has a mean square of its weight's, near one: not of a sum over 60 rows.
    let mean: f32 = of("1.self_attn.q_a_proj").iter().sum::<f32>() / 256.0;
    assert!((0.01..20.0).contains(&mean), "{mean}");
    // Experts meet their own tokens alone.
    let expert =
        |id: usize| found.get(&format!("model.layers.1.mlp.experts.{id}.gate_proj.weight"));
    let seen: Vec<_> = (0..64).filter_map(expert).collect();
    assert!(seen.len() > 4, "{} experts", seen.len());
    assert!(seen.windows(2).any(|pair| pair[0] != pair[1]));
    assert!(!found.keys().any(|name| name.contains("kv_b_proj")));
}

fn packed(out: &Path, importance: Option<Importance>) -> Result<Checkpoint, WeightsError> {
    let options = ConvertOptions {
        format: ConvertFormat::Int4 { group: 32 },
        importance,
        ..ConvertOptions::default()
    };
    convert(&source(), out, &options, &mut |_| ControlFlow::Continue(()))?;
    Checkpoint::open(out)
}

/// Breaks with: importance of another weight, or of none; an expert of a stack that is packed with
/// its neighbour's.
#[test]
fn errors_fall_where_they_are_felt_less() {
    let found = calibrated();
    let folder = tempfile::tempdir().unwrap();
    let plain = packed(&folder.path().join("plain"), None).unwrap();
    let importance = Importance::new(found.clone()).unwrap();
    let weighed = packed(&folder.path().join("weighed"), Some(importance)).unwrap();
    let base = source();
    let (mut better, mut total) = (0, 0);
    for (name, importance) in &found {
        if !name.contains("_proj") {
            continue;
        }
        let rows = base.tensor(name).unwrap().shape()[0];
        let shape = [rows, importance.len()];
        let want = base.matrix_f32(name, shape).unwrap();
        let error = |checkpoint: &Checkpoint| -> f64 {
            let got = checkpoint.matrix_f32(name, shape).unwrap();
            let errors = got.iter().zip(&want).map(|(a, b)| f64::from(a - b).powi(2));
            let weighed = errors.zip(importance.iter().cycle());
            weighed.map(|(error, i)| error * f64::from(*i)).sum()
        };
        let (plain, weighed) = (error(&plain), error(&weighed));
        assert!(weighed <= plain * 1.001, "{name}: {weighed} after {plain}");
        better += usize::from(weighed < 0.98 * plain);
        total += 1;
    }
    assert!(better * 10 > total * 9, "{better} of {total}");
}

/// Breaks with: numbers that would make every error count for nothing, or against itself.
#[test]
fn importance_that_is_none_is_refused() {
    for bad in [f32::NAN, -1.0, f32::INFINITY] {
        let values = BTreeMap::from([("a".to_owned(), vec![1.0, bad])]);
        let error = Importance::new(values).unwrap_err();
        assert!(
            matches!(error, WeightsError::CannotPack { index: 1, .. }),
            "{error}"
        );
    }
}
