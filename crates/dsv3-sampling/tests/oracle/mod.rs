//! The slow sampler: each step as its definition says, on the whole distribution, fully sorted.

use dsv3_sampling::SamplingParams;

/// The distribution that `params` make of `logits` after `prompt` and `output`, most probable
/// first, equal logits by id.
pub(crate) fn distribution(
    params: &SamplingParams,
    logits: &[f32],
    prompt: &[u32],
    output: &[u32],
) -> Vec<(u32, f64)> {
    let mut z: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    for (id, z) in z.iter_mut().enumerate() {
        let id = id as u32;
        let count = output.iter().filter(|&&t| t == id).count() as f64;
        if let Some(r) = params.repetition_penalty
            && (count > 0.0 || prompt.contains(&id))
        {
            *z = if *z > 0.0 { *z / r.get() } else { *z * r.get() };
        }
        *z -= params.frequency_penalty.map_or(0.0, |p| p.get()) * count;
        *z -= params.presence_penalty.map_or(0.0, |p| p.get()) * f64::from(u8::from(count > 0.0));
        *z += params
            .logit_bias
            .iter()
            .find(|b| b.0 == id)
            .map_or(0.0, |b| b.1);
        // Adjusted logits are f32, as the others are.
        *z = f64::from(*z as f32);
    }
    // Every id in order of rank, with its temperature-scaled logit.
    let mut ids: Vec<usize> = (0..z.len()).filter(|&i| z[i] > f64::NEG_INFINITY).collect();
    ids.sort_by(|&a, &b| z[b].total_cmp(&z[a]).then(a.cmp(&b)));
    if params.temperature.is_greedy() {
        return vec![(ids[0] as u32, 1.0)];
    }
    let t = params.temperature.get();
    let mut kept: Vec<(usize, f64)> = softmax(ids.iter().map(|&i| (i, z[i] / t)).collect());
    if let Some(k) = params.top_k {
        kept.truncate(k.get());
        kept = normalise(kept);
    }
    if let Some(p) = params.typical_p.map(|p| p.get()).filter(|&p| p < 1.0) {
        let entropy: f64 = -kept
            .iter()
            .map(|&(_, q)| if q > 0.0 { q * q.ln() } else { 0.0 })
            .sum::<f64>();
        let mut by_distance = kept.clone();
        by_distance.sort_by(|a, b| {
            (-a.1.ln() - entropy)
                .abs()
                .total_cmp(&(-b.1.ln() - entropy).abs())
        });
        let chosen = smallest_head(&by_distance, p);
        kept.retain(|c| by_distance[..chosen].iter().any(|d| d.0 == c.0));
        kept = normalise(kept);
    }
    let p = params.top_p.get();
    if p < 1.0 {
        kept.truncate(smallest_head(&kept, p));
        kept = normalise(kept);
    }
    if let Some(m) = params.min_p {
        let least = m.get() * kept[0].1;
        kept.retain(|c| c.1 >= least);
        kept = normalise(kept);
    }
    kept.into_iter().map(|(i, q)| (i as u32, q)).collect()
}

/// The token that a uniform number falls on.
pub(crate) fn pick(distribution: &[(u32, f64)], u: f64) -> u32 {
    let mut sum = 0.0;
    for &(id, q) in distribution {
        sum += q;
        if sum > u {
            return id;
        }
    }
    distribution.last().unwrap().0
}

/// Length of the shortest head whose probabilities reach `p`.
fn smallest_head(sorted: &[(usize, f64)], p: f64) -> usize {
    (1..=sorted.len())
        .find(|&n| sorted[..n].iter().map(|c| c.1).sum::<f64>() >= p)
        .unwrap_or(sorted.len())
}

fn softmax(scaled: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let max = scaled.iter().map(|c| c.1).fold(f64::NEG_INFINITY, f64::max);
    let weights = scaled.into_iter().map(|(i, s)| (i, (s - max).exp()));
    normalise(weights.filter(|c| c.1 > 0.0).collect())
}

fn normalise(weights: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let sum: f64 = weights.iter().map(|c| c.1).sum();
    weights.into_iter().map(|(i, w)| (i, w / sum)).collect()
}
