//! What a sampler promises to the engine: padding, seeds, errors, log-probabilities.
#![allow(clippy::unwrap_used)]

use dsv3_sampling::{
    FrequencyPenalty, History, LogProbs, LogitBias, PresencePenalty, Preset, RepetitionPenalty,
    Sampler, SamplingError, SamplingParams, Seed, Temperature, TopLogprobs, log_softmax,
    logprob_of,
};
use proptest::prelude::*;

fn sampler(params: SamplingParams, vocab_size: usize) -> Sampler {
    Sampler::new(params, vocab_size, 0u64).unwrap()
}

/// The logits after penalties, as far as a distribution shows them: relative to token `base`.
fn relative(params: SamplingParams, logits: &[f32], history: &History, base: u32) -> Vec<f64> {
    let kept = sampler(params, logits.len())
        .distribution(logits, history)
        .unwrap();
    let q = |id: u32| kept.iter().find(|c| c.0 == id).unwrap().1.ln();
    (0..logits.len() as u32).map(|id| q(id) - q(base)).collect()
}

fn assert_near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    assert!(
        got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6),
        "{got:?} {want:?}"
    );
}

// Breaks when equal logits are not settled in favour of the lower id, as torch and the golden
// continuations do.
#[test]
fn greedy_ties_go_to_the_lower_id() {
    let mut greedy = sampler(SamplingParams::greedy(), 4);
    let picked = greedy
        .sample(&[1.0, 3.0, 3.0, 3.0], &History::default())
        .unwrap();
    assert_eq!(picked.token, 1);
    let signed_zeros = greedy
        .sample(&[0.0, -0.0, -1.0, -1.0], &History::default())
        .unwrap();
    assert_eq!(signed_zeros.token, 0);
}

// Breaks when the rows that pad DeepSeek-V3.1's output layer can be chosen, are counted in the
// probabilities, or can end a sequence with their garbage.
#[test]
fn padding_rows_do_not_exist() {
    let logits = [0.0, 0.0, f32::NAN, f32::INFINITY, 1e30];
    for params in [SamplingParams::greedy(), SamplingParams::default()] {
        let mut sampler = sampler(params.with_top_logprobs(TopLogprobs::new(20).unwrap()), 2);
        let mut history = History::default();
        for _ in 0..200 {
            let sampled = sampler.sample(&logits, &history).unwrap();
            assert!(sampled.token < 2);
            assert_eq!(sampled.logprob, -std::f32::consts::LN_2);
            assert_eq!(sampled.top.len(), 2);
            history.push(sampled.token);
        }
    }
}

// Breaks when a damaged forward pass yields a token instead of an error that names the place.
#[test]
fn non_finite_logits_end_the_sequence() {
    for params in [SamplingParams::greedy(), SamplingParams::default()] {
        let mut sampler = sampler(params, 3);
        let history = History::default();
        let error = sampler
            .sample(&[0.0, f32::NAN, f32::INFINITY], &history)
            .unwrap_err();
        assert!(matches!(error, SamplingError::NonFinite { index: 1, value } if value.is_nan()));
        let error = sampler
            .sample(&[0.0, 0.0, f32::INFINITY], &history)
            .unwrap_err();
        assert_eq!(
            error,
            SamplingError::NonFinite {
                index: 2,
                value: f32::INFINITY
            }
        );
        let error = sampler
            .sample(&[f32::NEG_INFINITY; 3], &history)
            .unwrap_err();
        assert_eq!(error, SamplingError::AllMasked { vocab_size: 3 });
        let error = sampler.sample(&[0.0; 2], &history).unwrap_err();
        assert_eq!(
            error,
            SamplingError::TooFewLogits {
                got: 2,
                vocab_size: 3
            }
        );
        // And the sampler goes on.
        let masked = [f32::NEG_INFINITY, -5.0, f32::NEG_INFINITY];
        assert_eq!(sampler.sample(&masked, &history).unwrap().token, 1);
    }
}

// Breaks when a sampler can be made over no tokens, or with a bias on one that does not exist.
#[test]
fn impossible_vocabularies_are_refused() {
    let error = Sampler::new(SamplingParams::default(), 0, 0u64).unwrap_err();
    assert_eq!(error, SamplingError::VocabularySize { vocab_size: 0 });
    assert!(Sampler::new(SamplingParams::default(), usize::MAX, 0u64).is_err());
    let logit_bias = LogitBias::new([(128_815, 1.0)]).unwrap();
    let params = SamplingParams {
        logit_bias,
        ..SamplingParams::default()
    };
    let error = Sampler::new(params, 128_815, 0u64).unwrap_err();
    assert_eq!(
        error,
        SamplingError::UnknownToken {
            token: 128_815,
            vocab_size: 128_815
        }
    );
}

// Breaks when presence and frequency count the prompt, repetition leaves it out, or a sign turns.
#[test]
fn penalties_by_hand() {
    let logits = [1.0, 2.0, -2.0, 0.0];
    let mut history = History::new(&[1]);
    [2, 2, 2].into_iter().for_each(|token| history.push(token));
    let off = SamplingParams::unfiltered();

    let presence = Some(PresencePenalty::new(0.5).unwrap());
    let params = SamplingParams {
        presence_penalty: presence,
        ..off.clone()
    };
    assert_near(
        &relative(params, &logits, &history, 3),
        &[1.0, 2.0, -2.5, 0.0],
    );

    let frequency = Some(FrequencyPenalty::new(-0.5).unwrap());
    let params = SamplingParams {
        frequency_penalty: frequency,
        ..off.clone()
    };
    assert_near(
        &relative(params, &logits, &history, 3),
        &[1.0, 2.0, -0.5, 0.0],
    );

    let repetition = Some(RepetitionPenalty::new(2.0).unwrap());
    let params = SamplingParams {
        repetition_penalty: repetition,
        ..off.clone()
    };
    assert_near(
        &relative(params, &logits, &history, 3),
        &[1.0, 1.0, -4.0, 0.0],
    );

    // Together: repetition first, then the subtractions, then the bias.
    let params = SamplingParams {
        repetition_penalty: repetition,
        frequency_penalty: frequency,
        presence_penalty: presence,
        logit_bias: LogitBias::new([(2, 3.0), (0, -1.0)]).unwrap(),
        ..off
    };
    assert_near(
        &relative(params, &logits, &history, 3),
        &[0.0, 1.0, 0.0, 0.0],
    );
}

// Breaks when a penalty drives a finite logit to an infinity, or a bias lifts a mask.
#[test]
fn penalties_keep_logits_finite_and_masks_shut() {
    let params = SamplingParams {
        repetition_penalty: Some(RepetitionPenalty::new(1e-300).unwrap()),
        logit_bias: LogitBias::new([(1, 100.0)]).unwrap(),
        ..SamplingParams::greedy()
    };
    let history = History::new(&[0, 1, 2, 4_000_000_000]);
    let mut sampler = sampler(params, 3);
    let sampled = sampler
        .sample(&[1e30, f32::NEG_INFINITY, f32::MIN], &history)
        .unwrap();
    assert_eq!(sampled.token, 0);
}

// Breaks when a seeded text depends on the steps that this sampler made before: an engine that sets
// a sequence aside and starts it again must get the same tokens.
#[test]
fn a_sequence_begun_again_from_its_middle_draws_the_same() {
    let row = |position: usize| -> Vec<f32> {
        (0..50)
            .map(|id| ((id * 7 + position * 13) % 11) as f32 * 0.3)
            .collect()
    };
    let params = Preset::Creative.params().with_seed(Some(Seed(99)));
    let mut first = Sampler::new(params.clone(), 50, 1u64).unwrap();
    let mut history = History::new(&[1, 2, 3]);
    let mut tokens = Vec::new();
    for _ in 0..40 {
        let token = first.sample(&row(history.len()), &history).unwrap().token;
        history.push(token);
        tokens.push(token);
    }
    // Another sequence seed: the request's own seed rules.
    let mut second = Sampler::new(params.clone(), 50, 2u64).unwrap();
    let mut history = History::new(&[1, 2, 3]);
    tokens[..20].iter().for_each(|&token| history.push(token));
    for &token in &tokens[20..] {
        assert_eq!(
            second.sample(&row(history.len()), &history).unwrap().token,
            token
        );
        history.push(token);
    }
    // And another stream of it differs, or n answers would be one.
    let mut other = Sampler::new(params, 50, 1u64).unwrap().with_stream(1);
    let mut history = History::new(&[1, 2, 3]);
    let differs = tokens.iter().any(|&token| {
        let drawn = other.sample(&row(history.len()), &history).unwrap().token;
        history.push(token);
        drawn != token
    });
    assert!(differs);
}

// Breaks when sequences without a seed of their own share their draws.
#[test]
fn sequence_seeds_decide_where_the_request_names_none() {
    let draw = |seed: u64| -> Vec<u32> {
        let mut sampler = Sampler::new(SamplingParams::unfiltered(), 1000, seed).unwrap();
        let mut history = History::default();
        let step = |_| {
            let token = sampler.sample(&[0.0; 1000], &history).unwrap().token;
            history.push(token);
            token
        };
        (0..8).map(step).collect()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

// Breaks when tokens come in other frequencies than the temperature's distribution says.
#[test]
fn frequencies_match_the_distribution() {
    let logits: Vec<f32> = (0..12).map(|i| (i as f32 * 0.77).sin() * 2.0).collect();
    let temperature = Temperature::new(0.8).unwrap();
    let mut sampler = sampler(
        SamplingParams::unfiltered().with_temperature(temperature),
        12,
    );
    let mut history = History::default();
    let mut counts = [0u32; 12];
    const DRAWS: u32 = 40_000;
    for _ in 0..DRAWS {
        let token = sampler.sample(&logits, &history).unwrap().token;
        counts[token as usize] += 1;
        history.push(token);
    }
    let weights: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / 0.8).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let chi2: f64 = counts
        .iter()
        .zip(&weights)
        .map(|(&n, w)| {
            let want = f64::from(DRAWS) * w / sum;
            (f64::from(n) - want).powi(2) / want
        })
        .sum();
    // With 11 degrees of freedom, 37.4 is exceeded once in 10,000 seeds.
    assert!(chi2 < 37.4, "{chi2}");
}

// Breaks when the reported log-probabilities follow the penalties, the temperature or the filters.
#[test]
fn logprobs_are_those_of_the_raw_distribution() {
    let logits = [1.0, 3.0, 2.0, 2.0];
    let params = SamplingParams {
        logit_bias: LogitBias::new([(0, 100.0)]).unwrap(),
        top_logprobs: TopLogprobs::new(3).unwrap(),
        ..SamplingParams::greedy()
    };
    let sampled = sampler(params, 4)
        .sample(&logits, &History::default())
        .unwrap();
    let total = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let want = |id: usize| (f64::from(logits[id]) - total) as f32;
    assert_eq!(sampled.token, 0);
    assert!((sampled.logprob - want(0)).abs() < 1e-6);
    let ids: Vec<u32> = sampled.top.iter().map(|t| t.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(
        sampled
            .top
            .iter()
            .all(|&(id, l)| (l - want(id as usize)).abs() < 1e-6)
    );
}

// Breaks when a temperature near 0 divides into an infinity or a NaN instead of acting greedily.
#[test]
fn the_smallest_temperatures_act_greedily() {
    for t in [f64::from_bits(1), 1e-300, 1e-30] {
        let temperature = Temperature::new(t).unwrap();
        let params = SamplingParams::unfiltered().with_temperature(temperature);
        let kept = sampler(params, 3)
            .distribution(&[f32::MIN, f32::MAX, 0.0], &History::default())
            .unwrap();
        assert_eq!(kept, [(1, 1.0)]);
    }
}

proptest! {
    // Breaks when log_softmax overflows, loses digits, or its helpers disagree with it.
    #[test]
    fn log_softmax_is_a_distribution(
        row in prop::collection::vec(-1e4..1e4f32, 1..200), n in 0..=20i64,
    ) {
        let logprobs = log_softmax(&row).unwrap();
        let sum: f64 = logprobs.iter().map(|&l| f64::from(l).exp()).sum();
        // An f32 near 10^4 has steps of 10^-3, which the exponential turns into its own error.
        prop_assert!((sum - 1.0).abs() < 1e-2, "{}", sum);
        for (id, &l) in logprobs.iter().enumerate() {
            prop_assert_eq!(logprob_of(&row, id as u32).unwrap(), l);
            prop_assert!(l <= 0.0);
        }
        let n = TopLogprobs::new(n).unwrap();
        let mut ranked: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(n.get());
        let want: Vec<_> = ranked.iter().map(|&(id, _)| (id, logprobs[id as usize])).collect();
        prop_assert_eq!(LogProbs::new(&row).unwrap().top(n), want);
        prop_assert!(logprob_of(&row, row.len() as u32).is_err());
    }
}
