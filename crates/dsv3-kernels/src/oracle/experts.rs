//! The routed experts: tokens grouped by expert, one SwiGLU each, a weighted sum.

use std::collections::BTreeMap;

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{FloatDType, IndexingUpdateOp};

use crate::packed::{Activations, Experts, Packed};
use crate::stock::{Float, Ints};

/// How one weight is applied: `x [T, in]`, `[out, in]` → `[T, out]`.
pub(crate) type ApplyLinear<B> = dyn Fn(FloatTensor<B>, &Packed<B>, Activations) -> FloatTensor<B>;

/// What the expert of an id makes of its tokens: `[n, hidden]` → `[n, hidden]`.
pub(crate) type ApplyExpert<'a, B> = dyn Fn(usize, FloatTensor<B>) -> Option<FloatTensor<B>> + 'a;

/// `x [T, hidden]`, `ids [T, k]`, `weights [T, k]` → `[T, hidden]`; `linear` is how one weight
/// is applied.
pub(crate) fn packed_experts<B: Backend>(
    x: FloatTensor<B>,
    ids: IntTensor<B>,
    weights: FloatTensor<B>,
    experts: &Experts<B>,
    activations: Activations,
    linear: &ApplyLinear<B>,
) -> FloatTensor<B> {
    grouped_experts::<B>(x, ids, weights, &|id, x| {
        let expert = experts.0.get(id)?;
        let gate = Float::<B>(linear(x.clone(), &expert.gate, activations)); // [n, inter]
        let up = Float::<B>(linear(x, &expert.up, activations)); // [n, inter]
        let inner = gate.silu().mul(up); // [n, inter]
        Some(linear(inner.0, &expert.down, activations)) // [n, hidden]
    })
}

/// The grouping around the experts: `expert` is what the one of an id makes of its tokens,
/// `[n, hidden]` → `[n, hidden]`, or none where there is no such expert. Sums in the order of the
/// ids.
pub(crate) fn grouped_experts<B: Backend>(
    x: FloatTensor<B>,
    ids: IntTensor<B>,
    weights: FloatTensor<B>,
    expert: &ApplyExpert<'_, B>,
) -> FloatTensor<B> {
    let x = Float::<B>(x);
    let (device, dtype) = (x.device(), x.dtype());
    let (tokens, hidden) = (x.dim(0), x.dim(1));
    let weights = Float::<B>(weights);
    let k = weights.dim(1);
    let zeros = Float::<B>::zeros(&[tokens, hidden], &device, FloatDType::F32);
    let Ok(ids) = Ints::<B>(ids).into_host() else {
        // The device is lost. NaN is what the engine's check of the logits reports.
        return zeros.add_scalar(f32::NAN).cast(dtype).0;
    };

    let mut chosen: BTreeMap<usize, Vec<i32>> = BTreeMap::new(); // expert → places in [T · k]
    for (place, id) in ids.into_iter().enumerate() {
        chosen.entry(id as usize).or_default().push(place as i32);
    }
    let weights = weights.reshape(&[tokens * k, 1]); // [T · k, 1]
    let mut sum = zeros;
    for (id, places) in chosen {
        let rows = places.iter().map(|p| p / k as i32).collect();
        let rows = Ints::<B>::from_vec(rows, &device); // [n]
        let places = Ints::<B>::from_vec(places, &device); // [n]
        let x = x.clone().select(0, rows.clone()); // [n, hidden]
        let Some(y) = expert(id, x.0) else {
            continue;
        };
        let weight = weights.clone().select(0, places); // [n, 1]
        let y = Float::<B>(y).cast(FloatDType::F32).mul(weight); // [n, hidden]
        let add = IndexingUpdateOp::Add;
        sum = Float(B::float_select_assign(sum.0, 0, rows.0, y.0, add));
    }
    sum.cast(dtype).0
}
