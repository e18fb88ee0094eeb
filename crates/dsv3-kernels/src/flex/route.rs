//! The router, one token at a time.

use crate::spec::RouteSpec;

/// Ids by falling value, ties by rising id; the first `n`. NaN, of either sign, counts as the largest
/// number: so an expert whose logit is NaN is chosen, and the logits of the model show it. One whose
/// correction bias alone is NaN is chosen with the weight of its score, which does not.
fn top(values: &[f32], n: usize) -> Vec<usize> {
    let key = |id: usize| match values[id] {
        value if value.is_nan() => f32::INFINITY,
        value => value + 0.0, // -0 is 0
    };
    let mut ids: Vec<usize> = (0..values.len()).collect();
    // A total order: sorting panics where it finds out that there is none.
    ids.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(a.cmp(b)));
    ids.truncate(n);
    ids
}

/// `logits [T, experts]`, `bias [experts]` → ids and weights, each `[T, k]`.
pub(super) fn route(logits: &[f32], bias: &[f32], spec: &RouteSpec) -> (Vec<i32>, Vec<f32>) {
    let experts = bias.len();
    let (mut ids, mut weights) = (Vec::new(), Vec::new());
    for logits in logits.chunks_exact(experts.max(1)) {
        let scores: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        let mut choice: Vec<f32> = scores.iter().zip(bias).map(|(s, b)| s + b).collect();
        if spec.top_groups < spec.groups {
            let size = experts / spec.groups;
            let group_scores: Vec<f32> = choice
                .chunks_exact(size)
                .map(|group| top(group, 2).iter().map(|i| group[*i]).sum())
                .collect();
            let kept = top(&group_scores, spec.top_groups);
            for (g, group) in choice.chunks_exact_mut(size).enumerate() {
                if !kept.contains(&g) {
                    group.fill(f32::NEG_INFINITY);
                }
            }
        }
        let chosen = top(&choice, spec.top_k);
        let sum: f32 = match spec.normalize {
            // 1e-20 as transformers has it
            true => chosen.iter().map(|i| scores[*i]).sum::<f32>() + 1e-20,
            false => 1.0,
        };
        weights.extend(chosen.iter().map(|i| scores[*i] / sum * spec.scaling));
        ids.extend(chosen.iter().map(|i| *i as i32));
    }
    (ids, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: RouteSpec = RouteSpec {
        groups: 1,
        top_groups: 1,
        top_k: 2,
        normalize: true,
        scaling: 2.5,
    };

    /// Breaks with: a panic of the sort, which a NaN among more than twenty numbers is enough for; a
    /// NaN logit that hides.
    #[test]
    fn nan_is_chosen_and_ends_in_the_weights() {
        for at in 0..32 {
            for sign in [0.0f32, -0.0] {
                let nan = f32::NAN.copysign(sign);
                let mut logits: Vec<f32> = (0..32).map(|i| ((i * 13) % 32) as f32 / 8.0).collect();
                let bias = vec![0.0; 32];
                let (sound, _) = route(&logits, &bias, &SPEC);
                logits[at] = nan;
                let (ids, weights) = route(&logits, &bias, &SPEC);
                assert_eq!(ids[0], at as i32);
                assert!(weights.iter().all(|w| w.is_nan()), "{weights:?}");
                let rest = sound.iter().find(|id| **id != at as i32);
                assert_eq!(Some(&ids[1]), rest);
            }
        }
    }

    /// Breaks with: an order that tells zeros of both signs apart.
    #[test]
    fn zeros_are_equal() {
        assert_eq!(top(&[0.0, -0.0, 0.0], 3), [0, 1, 2]);
        assert_eq!(top(&[-0.0, 0.0, -0.0], 3), [0, 1, 2]);
    }
}
