//! The eight golden sets, on every device: what transformers' DeepseekV3ForCausalLM computes in
//! f32, this graph computes within rounding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use burn::tensor::Tensor;
use common::{
    BLOCK, Golden, Recorder, Runner, SETS, argmax, assert_close, devices, max_distance, values,
};
use dsv3_model::{
    AttentionForm, ForwardBatch, LoadOptions, MlaForm, MtpModule, Precision, YarnRope,
};

/// Breaks with: any wrong formula, tensor name, layer order, mask, rope layout or routing rule.
#[test]
fn f32_logits_hidden_states_and_router_choices() {
    for device in devices() {
        for name in SETS {
            let golden = Golden::open(name);
            let model = golden.model(&LoadOptions::new(device.device.clone()));
            let prompt = golden.prompt();
            let mut cache = model.new_cache(prompt.len().div_ceil(BLOCK), BLOCK);
            let mut batch = ForwardBatch::default();
            batch.push(&prompt, 0, (0..cache.blocks() as u32).collect());
            batch.want_all_logits();
            let mut seen = Recorder::default();
            let output = model.forward_traced(&batch, &mut cache, &mut seen).unwrap();
            seen.0.insert("f32.logits".into(), values(output.logits));
            seen.0
                .insert("f32.final_norm".into(), values(output.hidden));
            let mut compared = 0;
            for (key, actual) in &seen.0 {
                let Some(expected) = golden.get(key) else {
                    continue;
                };
                let what = format!("{} {name} {key}", device.name);
                // Choices of experts are ids: equal or wrong. The stream's values grow with the
                // layers, its error with them.
                let tolerance = match key {
                    k if k.contains(".idx.") => 0.0,
                    _ => device.tolerance,
                };
                assert_close(&what, actual, expected, tolerance);
                compared += 1;
            }
            assert!(compared >= 4, "{name}: only {compared} tensors compared");
            println!("{} {name}: {compared} tensors agree", device.name);
        }
    }
}

/// Breaks with: a cache that forgets, a wrong position in decode, a block table read wrongly.
#[test]
fn greedy_tokens_with_cache_in_chunks_and_token_by_token() {
    for device in devices() {
        for name in SETS {
            let golden = Golden::open(name);
            let model = golden.model(&LoadOptions::new(device.device.clone()));
            let (prompt, expected) = (golden.prompt(), golden.ids("greedy_f32"));
            for chunk in [prompt.len(), 7, 1] {
                let total = prompt.len() + expected.len();
                let mut cache = model.new_cache(2 * total.div_ceil(BLOCK), BLOCK);
                // every other block, in falling order: a table, not an offset
                let blocks = (0..cache.blocks() as u32).rev().step_by(2).collect();
                let mut runner = Runner {
                    model: &model,
                    cache: &mut cache,
                    blocks,
                    cached: 0,
                };
                let mut last = Vec::new();
                for tokens in prompt.chunks(chunk) {
                    last = runner.feed(tokens);
                }
                let (ids, logits) = runner.greedy(last, expected.len());
                assert_eq!(ids, expected, "{} {name} chunks of {chunk}", device.name);
                let what = format!("{} {name} greedy logits", device.name);
                assert_close(
                    &what,
                    &logits,
                    golden.tensor("f32.greedy_logits"),
                    device.tolerance,
                );
            }
        }
    }
}

/// Breaks with: decode that differs from computing everything anew.
#[test]
fn greedy_tokens_without_cache() {
    let golden = Golden::open("base");
    let model = golden.model(&LoadOptions::cpu());
    let mut tokens = golden.prompt();
    for expected in golden.ids("greedy_f32") {
        let mut cache = model.new_cache(tokens.len().div_ceil(BLOCK), BLOCK);
        let blocks = (0..cache.blocks() as u32).collect();
        let mut runner = Runner {
            model: &model,
            cache: &mut cache,
            blocks,
            cached: 0,
        };
        let logits = runner.feed(&tokens);
        let next = argmax(&logits[logits.len() - model.args().vocab_size..]);
        assert_eq!(next, expected);
        tokens.push(next);
    }
}

/// Breaks with: any leak between sequences of a batch: masks, slots, expert grouping, tiling.
#[test]
fn a_sequence_beside_others_has_the_same_bits() {
    let golden = Golden::open("base");
    let model = golden.model(&LoadOptions::cpu());
    let (prompt, vocab) = (golden.prompt(), model.args().vocab_size);
    let mut cache = model.new_cache(32, BLOCK);
    let mut alone = ForwardBatch::default();
    alone.push(&prompt, 0, vec![0, 1, 2]);
    let alone = values(model.forward(&alone, &mut cache).unwrap().logits);

    let other: Vec<u32> = (0..37).map(|i| (i * 31 + 5) % vocab as u32).collect();
    let mut crowd = ForwardBatch::default();
    crowd.push(&other, 0, vec![10, 11, 12]);
    crowd.push(&prompt, 0, vec![20, 4, 9]);
    crowd.push(&other[..3], 0, vec![30]);
    let crowd = values(model.forward(&crowd, &mut cache).unwrap().logits);
    assert_eq!(
        alone,
        crowd[vocab..2 * vocab],
        "neighbours changed a sequence's logits"
    );
}

/// Breaks with: an absorbed form that scales by its own width, or rows of `kv_b` mixed up.
#[test]
fn naive_and_absorbed_attention_give_the_reference_logits() {
    for device in devices() {
        for name in SETS {
            let golden = Golden::open(name);
            for form in [MlaForm::Naive, MlaForm::Absorbed] {
                let options = LoadOptions {
                    attention: AttentionForm::Always(form),
                    ..LoadOptions::new(device.device.clone())
                };
                let model = golden.model(&options);
                let mut cache = model.new_cache(8, BLOCK);
                let blocks = (0..8).collect();
                let mut runner = Runner {
                    model: &model,
                    cache: &mut cache,
                    blocks,
                    cached: 0,
                };
                let logits = runner.feed(&golden.prompt());
                let what = format!("{} {name} {form:?}", device.name);
                assert_close(
                    &what,
                    &logits,
                    golden.tensor("f32.logits"),
                    device.tolerance,
                );
            }
        }
    }
}

/// Breaks with: activation scales rounded after quantising, wrong groups, or a latent that is
/// rounded in one form of attention and not in the other.
#[test]
fn w8a8_matches_the_quantised_reference() {
    for device in devices() {
        let golden = Golden::open("fp8_ue8m0");
        let weight_only = golden.number("w8a8_vs_weightonly_maxabs");
        for form in [MlaForm::Naive, MlaForm::Absorbed] {
            let options = LoadOptions {
                quantize_activations: true,
                attention: AttentionForm::Always(form),
                ..LoadOptions::new(device.device.clone())
            };
            let model = golden.model(&options);
            let mut cache = model.new_cache(8, BLOCK);
            let blocks = (0..8).collect();
            let mut runner = Runner {
                model: &model,
                cache: &mut cache,
                blocks,
                cached: 0,
            };
            let logits = runner.feed(&golden.prompt());
            let distance = max_distance(&logits, golden.tensor("w8a8.logits"));
            println!(
                "{} {form:?}: {distance} from W8A8, which is {weight_only} from weight-only",
                device.name
            );
            assert!(distance < 1e-3, "{} {form:?}: {distance}", device.name);
        }
    }
}

/// Breaks with: a bf16 run that rounds more often than it must, or in the wrong places.
///
/// Rounding can flip a close choice of experts, in the reference's bf16 run as in ours, and then
/// that token is as far off as another model would be, and later ones attend to it. So: few tokens
/// may flip, and those before the first must stay as near to the f32 run as the reference's own bf16 run does where nothing flips in
/// it (0.044 at most).
#[test]
fn bf16_stays_within_the_reference_runs_own_distance() {
    for name in SETS {
        let golden = Golden::open(name);
        let options = LoadOptions {
            precision: Precision::Bf16,
            ..LoadOptions::cpu()
        };
        let model = golden.model(&options);
        let (prompt, vocab) = (golden.prompt(), model.args().vocab_size);
        let mut cache = model.new_cache(8, BLOCK);
        let mut batch = ForwardBatch::default();
        batch.push(&prompt, 0, (0..8).collect());
        batch.want_all_logits();
        let mut seen = Recorder::default();
        let logits = model.forward_traced(&batch, &mut cache, &mut seen).unwrap();
        let logits = values(logits.logits);
        let mut flipped = vec![false; prompt.len()];
        for (key, ours) in seen.0.iter().filter(|(key, _)| key.contains(".idx.")) {
            let k = model.args().num_experts_per_tok;
            let pairs = ours.chunks(k).zip(golden.tensor(key).chunks(k));
            for (flipped, (ours, theirs)) in flipped.iter_mut().zip(pairs) {
                *flipped |= ours != theirs;
            }
        }
        let distances = |logits: &[f32]| -> Vec<f32> {
            let rows = logits
                .chunks(vocab)
                .zip(golden.tensor("f32.logits").chunks(vocab));
            rows.map(|(a, b)| max_distance(a, b)).collect()
        };
        let median = |mut d: Vec<f32>| {
            d.sort_by(f32::total_cmp);
            d[d.len() / 2]
        };
        let ours = distances(&logits);
        let flips = flipped.iter().filter(|f| **f).count();
        // Later tokens attend to a flipped one.
        let first = flipped.iter().position(|f| *f).unwrap_or(prompt.len());
        let worst = ours[..first].iter().copied().fold(0.0, f32::max);
        let (mid, theirs) = (
            median(ours),
            median(distances(golden.tensor("bf16.logits"))),
        );
        println!(
            "{name}: {flips} of {} tokens flipped, those before within {worst:.4}; median {mid:.4}, reference {theirs:.4}",
            prompt.len()
        );
        assert!(
            flips * 12 <= prompt.len(),
            "{name}: {flips} tokens chose other experts"
        );
        assert!(worst <= 0.05, "{name}: {worst}");
        assert!(
            mid <= 1.25 * theirs,
            "{name}: median {mid}, reference {theirs}"
        );
    }
}

/// Breaks with: the hidden half first, a zeroed embedding at position 0, the stream taken before
/// the final norm, or a wrong norm in front of the head.
#[test]
fn mtp_module() {
    for device in devices() {
        let golden = Golden::open("mtp");
        let model = golden.model(&LoadOptions::new(device.device.clone()));
        let module = MtpModule::load(&golden.checkpoint, &model).unwrap();
        let prompt = golden.prompt();
        let (mut cache, mut own) = (
            model.new_cache(4, BLOCK),
            module.new_cache(&model, 4, BLOCK),
        );
        let mut batch = ForwardBatch::default();
        batch.push(&prompt, 0, vec![0, 1]);
        let hidden: Tensor<2> = model.forward(&batch, &mut cache).unwrap().hidden;
        batch.tokens = golden
            .tensor("mtp.next_ids")
            .iter()
            .map(|id| *id as u32)
            .collect();
        batch.want_all_logits();
        let out = module
            .forward(&model, hidden, &batch, &mut own, &mut ())
            .unwrap();
        let what = |part: &str| format!("{} mtp {part}", device.name);
        let tolerance = device.tolerance;
        assert_close(
            &what("eh"),
            &values(out.projected),
            golden.tensor("mtp.eh_out"),
            tolerance,
        );
        assert_close(
            &what("block"),
            &values(out.hidden),
            golden.tensor("mtp.block_out"),
            tolerance,
        );
        let logits = values(out.logits);
        assert_close(
            &what("logits"),
            &logits,
            golden.tensor("mtp.logits"),
            tolerance,
        );
        let drafts: Vec<u32> = logits.chunks(model.args().vocab_size).map(argmax).collect();
        assert_eq!(drafts, golden.ids("mtp_draft_greedy"));
        let zeroed = golden.tensor("mtp.logits_pos0_embed_zeroed");
        assert!(
            max_distance(&logits, zeroed) > 1.0,
            "as an engine that zeroes position 0"
        );
    }
}

/// Breaks with: another ramp, another correction, angles in too low a precision.
#[test]
fn yarn_frequencies_and_scales() {
    for name in SETS {
        let golden = Golden::open(name);
        let rope = YarnRope::new(golden.checkpoint.args());
        let ours: Vec<f32> = rope.inv_freq().iter().map(|f| *f as f32).collect();
        assert_close(name, &ours, golden.tensor("inv_freq"), 1e-6);
        assert!(
            (rope.softmax_scale() - golden.number("softmax_scale")).abs() < 1e-6,
            "{name}"
        );
        let scaling = golden.number("rope_attention_scaling");
        assert!((rope.attention_scaling() - scaling).abs() < 1e-6, "{name}");
    }
}

/// Breaks with: a rotation that depends on where a sequence stands and not on distances alone.
#[test]
fn only_differences_of_positions_matter() {
    let golden = Golden::open("realdims");
    let model = golden.model(&LoadOptions::cpu());
    let mut cache = model.new_cache(8, BLOCK);
    let mut batch = ForwardBatch::default();
    batch.push(&golden.prompt(), 0, (0..8).collect());
    batch.want_all_logits();
    for shift in [1, 1000, 100_000] {
        let mut moved = batch.clone();
        moved.positions.iter_mut().for_each(|p| *p += shift);
        let logits = values(model.forward(&moved, &mut cache).unwrap().logits);
        let what = format!("moved by {shift}");
        assert_close(&what, &logits, golden.tensor("f32.logits"), 1e-4);
    }
}

/// Breaks with: a batch that a kernel takes on trust: it would read or write another sequence's
/// cache, or memory that is none of its.
#[test]
fn batches_that_lie_are_refused() {
    let golden = Golden::open("noqlora");
    let model = golden.model(&LoadOptions::cpu());
    let mut cache = model.new_cache(2, BLOCK);
    let mut good = ForwardBatch::default();
    good.push(&[1, 2, 3], 0, vec![0]);
    assert!(model.forward(&good, &mut cache).is_ok());
    let mut refused = |what: &str, change: &dyn Fn(&mut ForwardBatch)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = model.forward(&bad, &mut cache).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused("token id 512", &|b| b.tokens[1] = 512);
    refused("max_position_embeddings", &|b| b.positions[0] = u32::MAX);
    refused("2 positions", &|b| b.positions.truncate(2));
    refused("cache block 2", &|b| b.sequences[0].blocks = vec![2]);
    refused("needs room", &|b| b.sequences[0].blocks.clear());
    refused("in a context of 2", &|b| b.sequences[0].context = 2);
    refused("logits asked of row 3", &|b| b.logit_rows = vec![3]);
    refused("cover 2 of 3", &|b| b.sequences[0].rows = 0..2);
    refused("no tokens", &|b| *b = ForwardBatch::default());
}
