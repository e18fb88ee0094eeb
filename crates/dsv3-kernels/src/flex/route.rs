//! The router, one token at a time.

use std::cmp::Ordering;

use crate::spec::RouteSpec;

/// Ids by falling value, ties by rising id; the first `n`.
fn top(values: &[f32], n: usize) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..values.len()).collect();
    ids.sort_by(|a, b| {
        let order = values[*b].partial_cmp(&values[*a]);
        order.unwrap_or(Ordering::Equal).then(a.cmp(b))
    });
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
