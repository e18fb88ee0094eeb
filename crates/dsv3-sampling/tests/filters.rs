//! The fast sampler against the slow one, and what the definitions of the filters promise.
#![allow(clippy::unwrap_used)]

mod oracle;

use dsv3_sampling::{
    FrequencyPenalty, History, LogitBias, MinP, PresencePenalty, RepetitionPenalty, Sampler,
    SamplingParams, Seed, Temperature, TopK, TopP, TypicalP,
};
use proptest::prelude::*;

/// Rows with ties, masks, narrow and wide spreads; 1 to 400 tokens, more than one partial
/// selection holds.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        8 => -12.0..12.0f32,
        2 => (-3..3i8).prop_map(f32::from),
        1 => Just(f32::NEG_INFINITY),
    ];
    (prop::collection::vec(logit, 1..400), 0.0..1.0f32).prop_map(|(mut row, first)| {
        // At least one token is not masked.
        row[0] = first;
        row
    })
}

fn filters() -> impl Strategy<Value = SamplingParams> {
    (
        prop_oneof![Just(0.0), 0.01..2.0f64],
        prop_oneof![Just(1.0), 0.01..1.0f64],
        prop::option::of(1..500i64),
        prop::option::of(0.0..1.0f64),
        prop::option::of(0.05..1.0f64),
    )
        .prop_map(|(t, p, k, m, y)| SamplingParams {
            temperature: Temperature::new(t).unwrap(),
            top_p: TopP::new(p).unwrap(),
            top_k: k.map(|k| TopK::new(k).unwrap()),
            min_p: m.map(|m| MinP::new(m).unwrap()),
            typical_p: y.map(|y| TypicalP::new(y).unwrap()),
            ..SamplingParams::default()
        })
}

fn penalties(params: SamplingParams) -> impl Strategy<Value = SamplingParams> {
    (
        prop::option::of(0.2..5.0f64),
        prop::option::of(-2.0..=2.0f64),
        prop::option::of(-2.0..=2.0f64),
        prop::collection::vec((0..400u32, -100.0..=100.0f64), 0..4),
    )
        .prop_map(move |(r, f, p, bias)| SamplingParams {
            repetition_penalty: r.map(|r| RepetitionPenalty::new(r).unwrap()),
            frequency_penalty: f.map(|f| FrequencyPenalty::new(f).unwrap()),
            presence_penalty: p.map(|p| PresencePenalty::new(p).unwrap()),
            logit_bias: LogitBias::new(bias).unwrap(),
            ..params.clone()
        })
}

/// The same parameters without biases on tokens that a row lacks.
fn fitting(mut params: SamplingParams, len: usize) -> SamplingParams {
    let biases: Vec<_> = params
        .logit_bias
        .iter()
        .filter(|b| (b.0 as usize) < len)
        .collect();
    params.logit_bias = LogitBias::new(biases).unwrap();
    params
}

fn history(prompt: &[u32], output: &[u32]) -> History {
    let mut history = History::new(prompt);
    output.iter().for_each(|&token| history.push(token));
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    // Breaks when partial selection, the weight floor, or the order of the steps changes what can
    // be drawn, or with what probability.
    #[test]
    fn fast_equals_slow(
        row in rows(),
        params in filters().prop_flat_map(penalties),
        prompt in prop::collection::vec(0..400u32, 0..6),
        output in prop::collection::vec(0..400u32, 0..6),
        seed in any::<u64>(),
    ) {
        let params = fitting(params, row.len());
        let mut sampler = Sampler::new(params.clone(), row.len(), seed).unwrap();
        let history = history(&prompt, &output);
        let slow = oracle::distribution(&params, &row, &prompt, &output);
        let fast = sampler.distribution(&row, &history).unwrap();
        let ids = |d: &[(u32, f64)]| d.iter().map(|c| c.0).collect::<Vec<_>>();
        prop_assert_eq!(ids(&fast), ids(&slow));
        for (f, s) in fast.iter().zip(&slow) {
            prop_assert!((f.1 - s.1).abs() < 1e-12, "{:?} {:?}", f, s);
        }

        // The same uniform number: what an unfiltered sampler over many equal tokens draws shows
        // it to 1 part in its size.
        let u = uniform(seed, history.len());
        let sampled = sampler.sample(&row, &history).unwrap().token;
        let (low, high) = (oracle::pick(&slow, u), oracle::pick(&slow, u + 1e-5));
        let place = |id| slow.iter().position(|c| c.0 == id).unwrap();
        prop_assert!((place(low)..=place(high)).contains(&place(sampled)));
    }

    // Breaks when a filter other than typical-p can take the best token away, when the kept
    // probabilities do not sum to 1, or when they are out of order.
    #[test]
    fn best_token_stays_and_probabilities_sum_to_one(row in rows(), params in filters()) {
        let params = SamplingParams { typical_p: None, ..params };
        let mut sampler = Sampler::new(params, row.len(), 0u64).unwrap();
        let kept = sampler.distribution(&row, &History::default()).unwrap();
        let best = (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        prop_assert_eq!(kept[0].0 as usize, best);
        prop_assert!((kept.iter().map(|c| c.1).sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(kept.windows(2).all(|w| w[0].1 >= w[1].1));
    }

    // Breaks when top-p keeps a token too many or too few.
    #[test]
    fn top_p_keeps_the_smallest_set(row in rows(), p in 0.01..0.999f64, t in 0.1..2.0f64) {
        let all = SamplingParams::unfiltered().with_temperature(Temperature::new(t).unwrap());
        let some = all.clone().with_top_p(TopP::new(p).unwrap());
        let of = |params| {
            let mut sampler = Sampler::new(params, row.len(), 0u64).unwrap();
            sampler.distribution(&row, &History::default()).unwrap()
        };
        let (all, some) = (of(all), of(some));
        let sum = |n: usize| all[..n].iter().map(|c| c.1).sum::<f64>();
        prop_assert!(sum(some.len()) >= p - 1e-12);
        prop_assert!(sum(some.len() - 1) < p + 1e-12);
        // Of sets of that size, none weighs more: the kept ones are the most probable.
        prop_assert!(some.iter().zip(&all).all(|(s, a)| s.0 == a.0));
    }

    // Breaks when min-p measures against anything but the most probable token.
    #[test]
    fn min_p_keeps_what_is_near_the_best(row in rows(), m in 0.0..=1.0f64) {
        let all = SamplingParams::unfiltered();
        let some = all.clone().with_min_p(Some(MinP::new(m).unwrap()));
        let of = |params| {
            let mut sampler = Sampler::new(params, row.len(), 0u64).unwrap();
            sampler.distribution(&row, &History::default()).unwrap()
        };
        let (all, some) = (of(all), of(some));
        for (place, &(_, q)) in all.iter().enumerate() {
            let ratio = q / all[0].1;
            if (ratio - m).abs() > 1e-12 {
                prop_assert_eq!(place < some.len(), ratio > m);
            }
        }
    }
}

/// The uniform number of a seed and a position, to 1e-5: seen through a sampler over 100,001 equal
/// tokens, where the token's place in the row is the number.
fn uniform(seed: u64, position: usize) -> f64 {
    const TOKENS: usize = 100_000;
    let row = vec![0.0; TOKENS];
    let prompt = vec![0; position];
    let mut sampler = Sampler::new(SamplingParams::unfiltered(), TOKENS, Seed(seed)).unwrap();
    f64::from(sampler.sample(&row, &History::new(&prompt)).unwrap().token) / TOKENS as f64
}

/// Logits of a row as wide as DeepSeek-V3.1's output layer, from a fixed generator.
fn wide_row(spread: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..129_280)
        .map(|_| spread * (next() + next() + next() - 1.5))
        .collect()
}

// Breaks when the weight floor or the partial selection goes wrong at the real width, on rows from
// nearly flat (all must be ordered) to steep (a handful).
#[test]
fn fast_equals_slow_at_full_width() {
    for spread in [0.01, 1.0, 8.0, 60.0] {
        let row = wide_row(spread);
        for p in [0.5, 0.95, 0.999999] {
            let params = SamplingParams::unfiltered().with_top_p(TopP::new(p).unwrap());
            let mut sampler = Sampler::new(params.clone(), row.len(), 0u64).unwrap();
            let fast = sampler.distribution(&row, &History::default()).unwrap();
            let slow = oracle_top_p(&row, p);
            assert_eq!(fast.len(), slow.len(), "spread {spread}, p {p}");
            assert!(
                fast.iter().zip(&slow).all(|(f, &s)| f.0 == s),
                "spread {spread}, p {p}"
            );
        }
    }
}

/// Top-p at temperature 1 with one full sort and one running sum.
fn oracle_top_p(row: &[f32], p: f64) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..row.len() as u32).collect();
    ids.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    let weights: Vec<f64> = ids
        .iter()
        .map(|&i| f64::from(row[i as usize]).exp())
        .collect();
    let (mass, mut sum) = (weights.iter().sum::<f64>(), 0.0);
    let reaches = |w: &f64| {
        sum += w;
        sum >= p * mass
    };
    let last = weights.iter().position(reaches).unwrap();
    ids.truncate(last + 1);
    ids
}

// Breaks when typical-p is applied to another entropy, in another order, or cuts elsewhere. By
// hand: q = (0.7, 0.1, 0.1, 0.1) has the entropy 0.9404; the surprises are 0.357 and 2.303, so the
// first token is nearest, and 0.7 of the weight needs it alone.
#[test]
fn typical_p_by_hand() {
    let row = [7.0f32.ln(), 0.0, 0.0, 0.0];
    let kept = |p: f64| {
        let params = SamplingParams {
            typical_p: Some(TypicalP::new(p).unwrap()),
            ..SamplingParams::unfiltered()
        };
        let mut sampler = Sampler::new(params, 4, 0u64).unwrap();
        let kept = sampler.distribution(&row, &History::default()).unwrap();
        kept.into_iter().map(|c| c.0).collect::<Vec<_>>()
    };
    assert_eq!(kept(0.65), [0]);
    assert_eq!(kept(0.75), [0, 1]);
    assert_eq!(kept(0.85), [0, 1, 2]);
    // q = (0.4, 0.3, 0.3/7 × 7) has the entropy 1.673: the surprises are 0.916, 1.204 and 3.150,
    // so the *second* token is the most typical and the most probable one is left out.
    let row: Vec<f32> = [0.4f32, 0.3]
        .into_iter()
        .chain([0.3 / 7.0; 7])
        .map(f32::ln)
        .collect();
    let params = SamplingParams {
        typical_p: Some(TypicalP::new(0.2).unwrap()),
        ..SamplingParams::unfiltered()
    };
    let mut sampler = Sampler::new(params, 9, 0u64).unwrap();
    assert_eq!(
        sampler.distribution(&row, &History::default()).unwrap(),
        [(1, 1.0)]
    );
}
