//! The router: sigmoid scores, group-limited choice, ties to the lower id.
//!
//! Sorting leaves ties to the backend. Ranks don't: an expert's rank is how many come before it,
//! where "before" means a larger value, or the same value and a lower id.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use crate::packed::Routed;
use crate::spec::RouteSpec;
use crate::stock::Float;

/// What a masked expert counts as: −∞, yet finite, so that `0 · it` stays 0.
const MASKED: f32 = -1e30;

/// Ranks within each row: `values [n, m]` → `[n, m]`, 0 the largest.
fn ranks<B: Backend>(values: Float<B>) -> Float<B> {
    let device = values.device();
    let (n, m) = (values.dim(0), values.dim(1));
    let mine = values.clone().reshape(&[n, m, 1]).repeat(2, m); // [n, m, other]
    let other = values.reshape(&[n, 1, m]).repeat(1, m); // [n, m, other]
    let lower_id = (0..m * m).map(|i| f32::from(u8::from(i % m < i / m)));
    let lower_id = Float::<B>::from_vec(lower_id.collect(), &[1, m, m], &device);
    let larger = other.clone().greater(mine.clone());
    let tied = other.equal(mine).mul(lower_id);
    larger.add(tied).sum_dim(2).reshape(&[n, m])
}

/// `logits [T, experts]`, `bias [experts]` → ids and weights `[T, k]`.
pub(crate) fn route<B: Backend>(
    logits: FloatTensor<B>,
    bias: FloatTensor<B>,
    spec: RouteSpec,
) -> Routed<B> {
    let logits = Float::<B>(logits).cast(FloatDType::F32);
    let device = logits.device();
    let (tokens, experts) = (logits.dim(0), logits.dim(1));
    let scores = logits.sigmoid(); // [T, experts]
    let bias = Float::<B>(bias)
        .cast(FloatDType::F32)
        .reshape(&[1, experts]);
    let mut choice = scores.clone().add(bias); // [T, experts]

    if spec.top_groups < spec.groups {
        let size = experts / spec.groups;
        let grouped = choice.clone().reshape(&[tokens * spec.groups, size]);
        let top_two = ranks(grouped.clone()).below(1.5); // [T · groups, size]
        let group_score = grouped
            .mul(top_two)
            .sum_dim(1)
            .reshape(&[tokens, spec.groups]); // [T, groups]
        let kept = ranks(group_score)
            .below(spec.top_groups as f32 - 0.5) // [T, groups]
            .reshape(&[tokens, spec.groups, 1])
            .repeat(2, size)
            .reshape(&[tokens, experts]); // [T, experts]
        choice = choice.fill_where_zero(kept, MASKED);
    }

    let rank = ranks(choice); // [T, experts]
    let id = Float::<B>::from_vec(
        (0..experts).map(|i| i as f32).collect(),
        &[1, experts],
        &device,
    );
    let one = Float::<B>::zeros(&[tokens, experts], &device, FloatDType::F32).add_scalar(1.0);
    let ids = (0..spec.top_k).map(|j| {
        let here = rank.clone().equal(one.clone().scale(j as f32)); // [T, experts]
        here.mul(id.clone()).sum_dim(1) // [T, 1]
    });
    // NaN logits would make ranks meet; the clamp keeps their sum a valid id.
    let ids = Float::<B>::cat(ids.collect(), 1);
    let ids = Float::<B>(B::float_clamp_max(ids.0, (experts as f64 - 1.0).into())).into_ints(); // [T, k]

    let mut weights = scores.gather(1, ids.clone()); // [T, k]
    if spec.normalize {
        // 1e-20 as transformers has it; below f32's resolution unless every score underflows
        let sum = weights.clone().sum_dim(1).add_scalar(1e-20);
        weights = weights.div(sum);
    }
    Routed {
        ids: ids.0,
        weights: weights.scale(spec.scaling).0,
    }
}
