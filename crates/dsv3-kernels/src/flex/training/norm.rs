//! Gradient of RMSNorm.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;

use super::super::wide::{dot, wide};
use super::super::{dim, floats};
use super::{ROWS, f32_tensor};

/// `y = w · x / r`, `r = sqrt(mean(x²) + eps)`:
/// `dx = (g·w − x/r · mean(g·w·x/r)) / r`, `dw = Σ_t g · x/r`.
pub(super) fn gradient(
    x: FloatTensor<Flex>,
    weight: FloatTensor<Flex>,
    eps: f32,
    grad: FloatTensor<Flex>,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let (x, weight, grad) = (
        x.to_contiguous(),
        weight.to_contiguous(),
        grad.to_contiguous(),
    );
    let (tokens, n) = (dim(&x, 0), dim(&x, 1));
    let (xs, w, gs) = (floats(&x), floats(&weight), floats(&grad));
    let mut dx = vec![0f32; tokens * n];
    let piece = (ROWS * n).max(1);
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(piece)
        .zip(xs.par_chunks(piece).zip(gs.par_chunks(piece)))
        .map(|(dx, (x, g))| {
            let mut dw = vec![0f32; n];
            let mut scaled = vec![0f32; n];
            wide(
                #[inline(always)]
                || {
                    for ((dx, x), g) in dx
                        .chunks_exact_mut(n)
                        .zip(x.chunks_exact(n))
                        .zip(g.chunks_exact(n))
                    {
                        let inverse = 1.0 / (dot(x, x) / n as f32 + eps).sqrt();
                        for i in 0..n {
                            scaled[i] = g[i] * w[i];
                            dw[i] += g[i] * x[i] * inverse;
                        }
                        let mean = dot(&scaled, x) * inverse / n as f32;
                        for i in 0..n {
                            dx[i] = (scaled[i] - x[i] * inverse * mean) * inverse;
                        }
                    }
                },
            );
            dw
        })
        .collect();
    let mut dw = vec![0f32; n];
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    (f32_tensor(dx, &[tokens, n]), f32_tensor(dw, &[n]))
}
