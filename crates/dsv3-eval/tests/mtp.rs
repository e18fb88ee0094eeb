//! MTP's acceptance against the reference's logits.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::ops::{ControlFlow, Range};

use dsv3_eval::{WrittenText, acceptance};
use dsv3_model::{Checkpoint, LoadOptions, MtpModule, Transformer};
use safetensors::SafeTensors;

fn fixture(name: &str) -> String {
    format!(
        "{}/../../fixtures/golden/mtp/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

const VOCAB: usize = 512;

/// The most probable of the first `vocab` ids in each row of a golden tensor.
fn choices(name: &str, vocab: usize) -> Vec<usize> {
    let file = std::fs::read(fixture("golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let bytes = tensors.tensor(name).unwrap().data();
    let values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let row = |row: &[f32]| {
        (0..vocab)
            .max_by(|a, b| row[*a].total_cmp(&row[*b]))
            .unwrap()
    };
    values.chunks_exact(VOCAB).map(row).collect()
}

/// Breaks with: a guess compared with the wrong position, counted outside of the answer, or made
/// from another token than the one that was written; padded rows that are chosen.
#[test]
fn acceptance_is_that_of_the_references_logits() {
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("golden.json")).unwrap()).unwrap();
    let mut ids: Vec<u32> = serde_json::from_value(golden["prompt"].clone()).unwrap();
    let prompt = ids.len();
    // The reference's module saw the prompt and the first greedy token.
    ids.push(golden["greedy_f32"][0].as_u64().unwrap() as u32);

    let checkpoint = Checkpoint::open(fixture("model")).unwrap();
    let model = Transformer::load(&checkpoint, &LoadOptions::cpu()).unwrap();
    let module = MtpModule::load(&checkpoint, &model).unwrap();
    let all: Range<usize> = 0..ids.len();
    let parts = [3..10, 12..13, 15..prompt];
    for vocab in [2, 3, VOCAB] {
        let (main, draft) = (choices("f32.logits", vocab), choices("mtp.logits", vocab));
        for written in [std::slice::from_ref(&all), &parts] {
            let (mut right, mut count) = (0, 0);
            for part in written {
                // The token at i + 2 is guessed in row i and chosen in row i + 1.
                for at in part.start.max(1) + 1..part.end {
                    right += usize::from(draft[at - 2] == main[at - 1]);
                    count += 1;
                }
            }
            let text = WrittenText { ids: &ids, written };
            let mut heard = 0;
            let rate = acceptance(&model, &module, &[text, text], vocab, &mut || {
                heard += 1;
                ControlFlow::Continue(())
            });
            let rate = rate.unwrap();
            assert_eq!((rate.right, rate.count), (2 * right, 2 * count), "{vocab}");
            assert_eq!(heard, 2);
            assert!(
                vocab > 3 || right > 0,
                "this test must have something to count"
            );
        }
    }
}
