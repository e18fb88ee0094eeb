//! Row-wise operations: RMSNorm and rotary embedding.

use super::team;
use super::vector::dot;

/// `x [T, n]`, `weight [n]` → `[T, n]`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let n = weight.len();
    let mut y = vec![0f32; x.len()];
    team::for_rows(&mut y, n, |first, y| {
        let rows = x[first * n..].chunks_exact(n.max(1));
        for (y, row) in y.chunks_exact_mut(n.max(1)).zip(rows) {
            let root = (dot(row, row) / n as f32 + eps).sqrt();
            for ((y, x), w) in y.iter_mut().zip(row).zip(weight) {
                *y = x / root * w;
            }
        }
    });
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
    team::for_rows(&mut x, heads * dim, |first, x| {
        let (cos, sin) = (&cos[first * half..], &sin[first * half..]);
        let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (token, (cos, sin)) in x.chunks_exact_mut(heads * dim).zip(angles) {
            for head in token.chunks_exact_mut(dim) {
                let (pairs, _) = head[dim - 2 * half..].as_chunks_mut::<2>();
                for ([a, b], (cos, sin)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
                    (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                }
            }
        }
    });
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a stretch of rows that is given another's tokens, angles or places.
    #[test]
    fn many_tokens_have_the_bits_of_each_alone() {
        let (tokens, heads, dim, half) = (500, 3, 24, 4);
        let values = |n: usize| {
            (0..n)
                .map(|i| (i as f32 * 0.37).sin())
                .collect::<Vec<f32>>()
        };
        let (x, weight) = (values(tokens * heads * dim), values(heads * dim));
        let (cos, sin) = (values(tokens * half), values(tokens * half + 1));
        let normed = rms_norm(&x, &weight, 1e-6);
        let turned = rope(x.clone(), &cos, &sin[1..], [tokens, heads, dim], half);
        for t in 0..tokens {
            let of = |values: &[f32], n: usize| values[t * n..][..n].to_vec();
            let row = of(&x, heads * dim);
            assert_eq!(of(&normed, heads * dim), rms_norm(&row, &weight, 1e-6));
            let (cos, sin) = (of(&cos, half), of(&sin[1..], half));
            let alone = rope(row, &cos, &sin, [1, heads, dim], half);
            assert_eq!(of(&turned, heads * dim), alone);
        }
    }
}
