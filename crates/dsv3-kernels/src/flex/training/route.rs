//! Gradient of the router's weights with respect to its logits.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::super::{dim, floats, integers};
use super::f32_tensor;
use crate::spec::RouteSpec;

/// `w_j = c · s_j / Σ s` over the chosen, `s = sigmoid(logit)`. The choice itself has no gradient.
pub(super) fn gradient(
    logits: FloatTensor<Flex>,
    ids: IntTensor<Flex>,
    grad: FloatTensor<Flex>,
    spec: RouteSpec,
) -> FloatTensor<Flex> {
    let (logits, grad) = (logits.to_contiguous(), grad.to_contiguous());
    let (tokens, experts) = (dim(&logits, 0), dim(&logits, 1));
    let (values, gs) = (floats(&logits), floats(&grad));
    let ids = integers(&ids);
    let k = spec.top_k.max(1);
    let mut out = vec![0f32; tokens * experts];
    let rows = values
        .chunks_exact(experts.max(1))
        .zip(out.chunks_exact_mut(experts.max(1)));
    let places = ids.chunks_exact(k).zip(gs.chunks_exact(k));
    for ((logits, out), (ids, g)) in rows.zip(places) {
        let score = |id: usize| 1.0 / (1.0 + (-logits[id]).exp());
        let (mut sum, mut weighted) = (1e-20f32, 0f32); // 1e-20 as in the forward pass
        for (id, g) in ids.iter().zip(g) {
            sum += score(*id);
            weighted += g * score(*id);
        }
        for (id, g) in ids.iter().zip(g) {
            let s = score(*id);
            let ds = match spec.normalize {
                true => (g - weighted / sum) / sum,
                false => *g,
            };
            out[*id] += spec.scaling * ds * s * (1.0 - s);
        }
    }
    f32_tensor(out, &[tokens, experts])
}
