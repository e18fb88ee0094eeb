//! Row-wise operations: RMSNorm and rotary embedding.

use super::vector::dot;

/// `x [T, n]`, `weight [n]` → `[T, n]`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let n = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n.max(1)) {
        let root = (dot(row, row) / n as f32 + eps).sqrt();
        y.extend(row.iter().zip(weight).map(|(x, w)| x / root * w));
    }
    y
}

/// `x [T, heads, n]`, `cos`, `sin` `[T, rope / 2]` → `[T, heads, n]`, the last `rope` rotated.
pub(super) fn rope(
    mut x: Vec<f32>,
    cos: &[f32],
    sin: &[f32],
    [_, heads, dim]: [usize; 3],
    half: usize,
) -> Vec<f32> {
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (token, (cos, sin)) in x.chunks_exact_mut(heads * dim).zip(angles) {
        for head in token.chunks_exact_mut(dim) {
            let (pairs, _) = head[dim - 2 * half..].as_chunks_mut::<2>();
            for ([a, b], (cos, sin)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
    x
}
