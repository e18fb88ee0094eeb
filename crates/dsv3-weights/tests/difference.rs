//! Two checkpoints held against each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{golden, safetensors_bytes, tensors_of, write_checkpoint};
use dsv3_weights::difference::{TensorDifference, by_component, differences};
use dsv3_weights::{
    Checkpoint, Component, ConvertFormat, ConvertOptions, Layout, WeightsError, convert,
};

/// `mtp` with the tensors that `keep` chooses by name; `config.json` still promises all.
fn cut(dir: &Path, keep: impl Fn(&str) -> bool) -> Checkpoint {
    let mut tensors = tensors_of(&golden("mtp"));
    tensors.retain(|t| keep(&t.name));
    write_checkpoint(dir, "mtp", &safetensors_bytes(&tensors));
    Checkpoint::open(dir).unwrap()
}

fn int4(source: &Checkpoint, out: &Path) -> Checkpoint {
    let options = ConvertOptions {
        format: ConvertFormat::Int4 { group: 32 },
        ..ConvertOptions::default()
    };
    convert(source, out, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    Checkpoint::open(out).unwrap()
}

/// The differences, each of which must have been told of with the right number of all.
#[track_caller]
fn told(base: &Checkpoint, other: &Checkpoint) -> Vec<TensorDifference> {
    let mut heard = Vec::new();
    let found = differences(base, other, &mut |difference, total| {
        heard.push((difference.name.clone(), total));
    });
    let found = found.unwrap();
    let total = found.len() as u64;
    let names = found.iter().map(|d| (d.name.clone(), total));
    assert!(names.eq(heard), "what was told is not what was found");
    found
}

/// Breaks with: a report that fails on a checkpoint whose MTP modules are cut off, one that
/// leaves out what both hold, a bar that never reaches its end.
#[test]
fn mtp_modules_that_are_cut_off_are_left_out() {
    let tmp = tempfile::tempdir().unwrap();
    let whole = golden("mtp");
    let layout = Layout::new(whole.args());
    let mtp = |name: &str| layout.component_of(name).is_mtp();
    let all = layout.num_tensors() as usize;
    let main = layout.tensors().filter(|s| !mtp(&s.name)).count();
    let bare = cut(&tmp.path().join("bare"), |name| !mtp(name));
    let packed_bare = int4(&bare, &tmp.path().join("packed bare"));
    let packed = int4(&whole, &tmp.path().join("packed"));

    for (base, other, count) in [
        (&whole, &whole, all),
        (&whole, &packed, all), // whose experts are found in their stacks
        (&bare, &bare, main),
        (&bare, &packed_bare, main),
        // One of the two has nothing to hold the other's against.
        (&whole, &packed_bare, main),
        (&packed, &bare, main),
    ] {
        let found = told(base, other);
        assert_eq!(found.len(), count);
        let of_mtp = by_component(&found).iter().any(|c| c.component.is_mtp());
        assert_eq!(of_mtp, count == all);
    }
}

/// Breaks with: a module of which one expert is missing left out as a whole; a weight of the main
/// model that is missing left out as MTP's are.
#[test]
fn only_what_is_missing_of_a_module_is_left_out() {
    let tmp = tempfile::tempdir().unwrap();
    let whole = golden("mtp");
    let lost = "model.layers.2.mlp.experts.3.up_proj.weight";
    let partly = cut(&tmp.path().join("partly"), |name| name != lost);
    let found = told(&whole, &partly);
    assert_eq!(
        found.len() as u64 + 1,
        Layout::new(whole.args()).num_tensors()
    );
    let experts = |d: &&TensorDifference| d.component == Component::MtpRoutedExperts;
    assert!(found.iter().filter(experts).count() > 1);
    assert!(
        found
            .iter()
            .all(|d| d.name != lost && d.relative_rms == 0.0)
    );

    let lost = "model.layers.1.mlp.experts.3.up_proj.weight";
    let broken = cut(&tmp.path().join("broken"), |name| name != lost);
    let e = differences(&whole, &broken, &mut |_, _| ()).unwrap_err();
    assert!(
        matches!(&e, WeightsError::MissingTensor { tensor, .. } if tensor == lost),
        "{e}"
    );
}
