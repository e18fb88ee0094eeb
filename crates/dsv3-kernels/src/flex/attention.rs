//! Latent attention, a task for each sequence and head. No `[T, S]` matrix is ever held: a
//! query's scores are one row of its visible tokens.

use std::borrow::Cow;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::rows::Rows;
use super::vector::{add_scaled, dot, softmax};
use super::{dim, floats};
use crate::spec::{MlaForm, MlaSpec, SequenceSpan};

/// One call's operands.
pub(super) struct Call<'a> {
    /// `[T, heads, nope + rope]`
    pub(super) query: &'a [f32],
    /// `[blocks, block_size, latent + rope]`
    pub(super) cache: &'a FlexTensor,
    /// `[heads · (nope + value), latent]`
    pub(super) kv_b: &'a Rows,
    pub(super) spec: MlaSpec,
}

/// One sequence's cached rows, found through its blocks.
struct Cached<'a> {
    values: Cow<'a, [f32]>,
    /// Start of each token's row in `values`.
    starts: Vec<usize>,
    latent: usize,
    width: usize,
}

impl Cached<'_> {
    /// The latent and the rotated key of token `i`.
    fn row(&self, i: usize) -> (&[f32], &[f32]) {
        self.values[self.starts[i]..][..self.width].split_at(self.latent)
    }

    fn len(&self) -> usize {
        self.starts.len()
    }
}

impl Call<'_> {
    /// → `[T, heads · value]`.
    pub(super) fn run(&self, spans: &[SequenceSpan], tokens: usize) -> Vec<f32> {
        let MlaSpec { heads, value, .. } = self.spec;
        let (block_size, width) = (dim(self.cache, 1), dim(self.cache, 2));
        let caches: Vec<Cached<'_>> = spans
            .iter()
            .map(|span| self.cached(span, block_size, width))
            .collect();
        let tasks: Vec<(usize, usize)> = (0..spans.len())
            .flat_map(|s| (0..heads).map(move |h| (s, h)))
            .collect();
        let parts: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|(s, h)| match spans[*s].form {
                MlaForm::Naive => self.naive(&spans[*s], &caches[*s], *h),
                MlaForm::Absorbed => self.absorbed(&spans[*s], &caches[*s], *h),
            })
            .collect(); // each [n, value]
        let mut out = vec![0f32; tokens * heads * value];
        for ((s, h), part) in tasks.into_iter().zip(parts) {
            for (row, part) in spans[s].rows.clone().zip(part.chunks_exact(value)) {
                out[(row * heads + h) * value..][..value].copy_from_slice(part);
            }
        }
        out
    }

    fn cached(&self, span: &SequenceSpan, block_size: usize, width: usize) -> Cached<'_> {
        let latent = self.spec.latent;
        let slots = span.slots(block_size);
        match floats_in_place(self.cache) {
            Some(values) => Cached {
                values: Cow::Borrowed(values),
                starts: slots.map(|s| s * width).collect(),
                latent,
                width,
            },
            None => {
                // Only this sequence's rows are widened, not the whole cache.
                let mut values = Vec::with_capacity(span.context * width);
                for slot in slots {
                    let row = self.cache.narrow(0, slot / block_size, 1);
                    let row = row.narrow(1, slot % block_size, 1).to_contiguous();
                    values.extend_from_slice(&floats(&row));
                }
                Cached {
                    values: Cow::Owned(values),
                    starts: (0..span.context).map(|i| i * width).collect(),
                    latent,
                    width,
                }
            }
        }
    }

    /// Query of token row `row`, head `h`, split into its two parts.
    fn query(&self, row: usize, h: usize) -> (&[f32], &[f32]) {
        let MlaSpec {
            heads, nope, rope, ..
        } = self.spec;
        self.query[(row * heads + h) * (nope + rope)..][..nope + rope].split_at(nope)
    }

    /// Head `h`'s rows of `kv_b`: `[nope + value, latent]`.
    fn head_weights(&self, h: usize) -> Vec<f32> {
        let MlaSpec {
            nope,
            value,
            latent,
            ..
        } = self.spec;
        let mut weights = vec![0f32; (nope + value) * latent];
        for (i, row) in weights.chunks_exact_mut(latent).enumerate() {
            self.kv_b.decode(h * (nope + value) + i, row);
        }
        weights
    }

    /// Expand this head's keys and values, then attend: → `[n, value]`.
    fn naive(&self, span: &SequenceSpan, cached: &Cached<'_>, h: usize) -> Vec<f32> {
        let MlaSpec {
            nope,
            value,
            latent,
            softmax_scale,
            ..
        } = self.spec;
        let weights = self.head_weights(h);
        let (w_uk, w_uv) = weights.split_at(nope * latent);
        let expand = |w: &[f32], width: usize| {
            let mut to = Vec::with_capacity(cached.len() * width); // [S, width]
            for i in 0..cached.len() {
                let (c, _) = cached.row(i);
                to.extend(w.chunks_exact(latent).map(|w| dot(w, c)));
            }
            to
        };
        let keys = expand(w_uk, nope); // [S, nope]
        let values = expand(w_uv, value); // [S, value]
        let mut out = vec![0f32; span.rows.len() * value];
        let mut scores = Vec::with_capacity(span.context);
        for (i, out) in out.chunks_exact_mut(value).enumerate() {
            let (q_nope, q_pe) = self.query(span.rows.start + i, h);
            scores.clear();
            scores.extend(
                keys.chunks_exact(nope)
                    .take(span.visible(i))
                    .enumerate()
                    .map(|(s, k)| (dot(q_nope, k) + dot(q_pe, cached.row(s).1)) * softmax_scale),
            );
            softmax(&mut scores);
            for (p, v) in scores.iter().zip(values.chunks_exact(value)) {
                add_scaled(out, *p, v);
            }
        }
        out
    }

    /// Attend in the latent space: → `[n, value]`.
    fn absorbed(&self, span: &SequenceSpan, cached: &Cached<'_>, h: usize) -> Vec<f32> {
        let MlaSpec {
            nope,
            value,
            latent,
            softmax_scale,
            ..
        } = self.spec;
        let weights = self.head_weights(h);
        let (w_uk, w_uv) = weights.split_at(nope * latent);
        let mut out = Vec::with_capacity(span.rows.len() * value);
        let mut scores = Vec::with_capacity(span.context);
        let mut query = vec![0f32; latent];
        let mut sum = vec![0f32; latent];
        for i in 0..span.rows.len() {
            let (q_nope, q_pe) = self.query(span.rows.start + i, h);
            query.fill(0.0);
            for (q, w) in q_nope.iter().zip(w_uk.chunks_exact(latent)) {
                add_scaled(&mut query, *q, w);
            }
            scores.clear();
            scores.extend((0..span.visible(i)).map(|s| {
                let (c, k_pe) = cached.row(s);
                (dot(&query, c) + dot(q_pe, k_pe)) * softmax_scale
            }));
            softmax(&mut scores);
            sum.fill(0.0);
            for (s, p) in scores.iter().enumerate() {
                add_scaled(&mut sum, *p, cached.row(s).0);
            }
            out.extend(w_uv.chunks_exact(latent).map(|w| dot(w, &sum)));
        }
        out
    }
}

/// The tensor's values where they are f32.
fn floats_in_place(tensor: &FlexTensor) -> Option<&[f32]> {
    (tensor.dtype() == burn::tensor::DType::F32).then(|| tensor.storage::<f32>())
}
