//! Latent attention in its naive form, and its gradient: keys and values expanded once for all
//! sequences, then each sequence by itself, head by head, in tiles of rows that end at the
//! diagonal.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use rayon::prelude::*;
use std::borrow::Cow;

use super::super::gemm::{Matrix, MatrixMut, Threads, Write, product};
use super::super::rows::Rows;
use super::super::wide::{exp, wide};
use super::super::{dim, floats};
use super::{decoded, f32_tensor};
use crate::packed::Packed;
use crate::spec::{MlaSpec, SequenceSpan};
use crate::training::{AttentionCall, AttentionGradient};

/// Query rows of one tile.
const TILE: usize = 64;

/// Everything that both directions read.
struct Operands<'a> {
    /// `[T, heads, nope + rope]`
    query: Cow<'a, [f32]>,
    /// Cache slots of every span's context, one span after another.
    slots: Vec<usize>,
    /// Those slots' rows: `[slots, latent + rope]`.
    cached: Vec<f32>,
    /// `[heads · (nope + value), latent]`
    kv_b: Cow<'a, [f32]>,
    /// Keys and values of every head: `[slots, heads · (nope + value)]`.
    kv: Vec<f32>,
    spec: MlaSpec,
}

impl Operands<'_> {
    /// `heads · (nope + value)`
    fn width(&self) -> usize {
        self.spec.heads * (self.spec.nope + self.spec.value)
    }

    fn row(&self) -> usize {
        self.spec.latent + self.spec.rope
    }
}

fn kv_b(weight: &Packed<Flex>) -> Vec<f32> {
    decoded(&Rows::new(weight))
}

fn operands<'a>(
    call: &AttentionCall<Flex>,
    query: &'a burn_flex::FlexTensor,
    cache: &burn_flex::FlexTensor,
) -> Operands<'a> {
    let spec = call.spec;
    let (block_size, row) = (dim(cache, 1), spec.latent + spec.rope);
    let values = floats(cache);
    let spans = call.spans.iter();
    let slots: Vec<usize> = spans.flat_map(|span| span.slots(block_size)).collect();
    let mut cached = Vec::with_capacity(slots.len() * row);
    for slot in &slots {
        cached.extend_from_slice(&values[slot * row..][..row]);
    }
    let kv_b = kv_b(&call.kv_b);
    let width = spec.heads * (spec.nope + spec.value);
    let mut kv = vec![0f32; slots.len() * width];
    product(
        MatrixMut::new(&mut kv, slots.len(), width),
        Write::Replace,
        1.0,
        Matrix::strided(&cached, slots.len(), spec.latent, row),
        Matrix::new(&kv_b, width, spec.latent).transposed(),
        Threads::All,
    );
    Operands {
        query: floats(query),
        slots,
        cached,
        kv_b: Cow::Owned(kv_b),
        kv,
        spec,
    }
}

/// One head of one span: its keys and values, contiguous.
struct Head {
    /// `[S, nope + rope]`
    keys: Vec<f32>,
    /// `[S, value]`
    values: Vec<f32>,
}

/// One span and where its context begins among the slots.
struct Part<'a> {
    span: &'a SequenceSpan,
    first: usize,
}

impl Part<'_> {
    fn head(&self, operands: &Operands<'_>, h: usize) -> Head {
        let MlaSpec {
            nope,
            value,
            latent,
            ..
        } = operands.spec;
        let (width, row) = (operands.width(), operands.row());
        let mut head = Head {
            keys: Vec::with_capacity(self.span.context * (row - latent + nope)),
            values: Vec::with_capacity(self.span.context * value),
        };
        for s in self.first..self.first + self.span.context {
            let kv = &operands.kv[s * width + h * (nope + value)..][..nope + value];
            head.keys.extend_from_slice(&kv[..nope]);
            head.keys
                .extend_from_slice(&operands.cached[s * row..][latent..row]);
            head.values.extend_from_slice(&kv[nope..]);
        }
        head
    }

    /// Probabilities of rows `start..start + m` of the span over the first `seen` of its context,
    /// zero where a row may not look: `[m, seen]`.
    fn probabilities(
        &self,
        operands: &Operands<'_>,
        keys: &[f32],
        h: usize,
        [start, m, seen]: [usize; 3],
        p: &mut [f32],
    ) {
        let spec = operands.spec;
        let d = spec.nope + spec.rope;
        product(
            MatrixMut::new(p, m, seen),
            Write::Replace,
            spec.softmax_scale,
            self.queries(operands, h, start, m),
            Matrix::new(keys, seen, d).transposed(),
            Threads::One,
        );
        for (i, row) in p.chunks_exact_mut(seen).enumerate() {
            let (scores, hidden) = row.split_at_mut(self.span.visible(start + i).min(seen));
            hidden.fill(0.0);
            wide(
                #[inline(always)]
                || softmax(scores),
            );
        }
    }

    /// `[m, nope + rope]`
    fn queries<'a>(
        &self,
        operands: &'a Operands<'_>,
        h: usize,
        start: usize,
        m: usize,
    ) -> Matrix<'a> {
        let d = operands.spec.nope + operands.spec.rope;
        let heads = operands.spec.heads;
        let at = ((self.span.rows.start + start) * heads + h) * d;
        Matrix::strided(&operands.query[at..], m, d, heads * d)
    }

    /// Tiles of rows: first row, rows, how much of the context they see at most.
    fn tiles(&self) -> impl Iterator<Item = [usize; 3]> + '_ {
        let n = self.span.rows.len();
        (0..n).step_by(TILE).map(move |start| {
            let m = TILE.min(n - start);
            [start, m, self.span.visible(start + m - 1)]
        })
    }
}

/// In place, shifted by the maximum.
#[inline(always)]
fn softmax(scores: &mut [f32]) {
    const LANES: usize = 16;
    let mut max = f32::NEG_INFINITY;
    for s in scores.iter() {
        max = if *s > max { *s } else { max };
    }
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    let mut sums = [0f32; LANES];
    for chunk in chunks.iter_mut() {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - max);
            sums[i] += chunk[i];
        }
    }
    let mut total: f32 = sums.iter().sum();
    for s in rest {
        *s = exp(*s - max);
        total += *s;
    }
    let inverse = 1.0 / total;
    scores.iter_mut().for_each(|s| *s *= inverse);
}

/// `values [T, width]` cut into the spans' rows.
fn split<'a>(
    spans: &[SequenceSpan],
    mut values: &'a mut [f32],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(spans.len());
    for span in spans {
        let (part, rest) = values.split_at_mut(span.rows.len() * width);
        parts.push(part);
        values = rest;
    }
    parts
}

/// The spans with where each one's context begins.
fn parts(spans: &[SequenceSpan]) -> impl Iterator<Item = Part<'_>> {
    spans.iter().scan(0, |next, span| {
        let first = *next;
        *next += span.context;
        Some(Part { span, first })
    })
}

/// → `[T, heads · value]`
pub(super) fn forward(call: &AttentionCall<Flex>) -> FloatTensor<Flex> {
    let (query, cache) = (call.query.to_contiguous(), call.cache.to_contiguous());
    let operands = operands(call, &query, &cache);
    let (tokens, MlaSpec { heads, value, .. }) = (dim(&query, 0), call.spec);
    let mut out = vec![0f32; tokens * heads * value];
    let outputs = split(&call.spans, &mut out, heads * value);
    let work: Vec<_> = parts(&call.spans).zip(outputs).collect();
    work.into_par_iter().for_each(|(part, out)| {
        let mut p = vec![0f32; TILE * part.span.context];
        for h in 0..heads {
            let head = part.head(&operands, h);
            for [start, m, seen] in part.tiles() {
                let p = &mut p[..m * seen];
                part.probabilities(&operands, &head.keys, h, [start, m, seen], p);
                let at = start * heads * value + h * value;
                product(
                    MatrixMut::strided(&mut out[at..], m, value, heads * value),
                    Write::Replace,
                    1.0,
                    Matrix::new(p, m, seen),
                    Matrix::new(&head.values, seen, value),
                    Threads::One,
                );
            }
        }
    });
    f32_tensor(out, &[tokens, heads * value])
}

/// `dS = P · (dP − Σ P dP)` in place of `dP`, row by row.
#[inline(always)]
fn softmax_gradient(p: &[f32], dp: &mut [f32]) {
    let sum = super::super::wide::dot(p, dp);
    dp.iter_mut()
        .zip(p)
        .for_each(|(dp, p)| *dp = p * (*dp - sum));
}

pub(super) fn gradient(
    call: &AttentionCall<Flex>,
    grad: FloatTensor<Flex>,
) -> AttentionGradient<Flex> {
    let (query, cache) = (call.query.to_contiguous(), call.cache.to_contiguous());
    let grad = grad.to_contiguous();
    let operands = operands(call, &query, &cache);
    let gs = floats(&grad); // [T, heads · value]
    let MlaSpec {
        heads,
        nope,
        rope,
        value,
        latent,
        softmax_scale,
    } = call.spec;
    let (tokens, d) = (dim(&query, 0), nope + rope);
    let (width, row, slots) = (operands.width(), operands.row(), operands.slots.len());

    let mut dquery = vec![0f32; tokens * heads * d]; // [T, heads, nope + rope]
    let mut dkv = vec![0f32; slots * width]; // [slots, heads · (nope + value)]
    let mut dcached = vec![0f32; slots * row]; // [slots, latent + rope]
    let mut work = Vec::with_capacity(call.spans.len());
    let (mut dkv_rest, mut dcached_rest) = (&mut dkv[..], &mut dcached[..]);
    for (part, dquery) in parts(&call.spans).zip(split(&call.spans, &mut dquery, heads * d)) {
        let (dkv, rest) = dkv_rest.split_at_mut(part.span.context * width);
        dkv_rest = rest;
        let (dcached, rest) = dcached_rest.split_at_mut(part.span.context * row);
        dcached_rest = rest;
        work.push((part, dquery, dkv, dcached));
    }
    work.into_par_iter()
        .for_each(|(part, dquery, dkv, dcached)| {
            let context = part.span.context;
            let mut p = vec![0f32; TILE * context];
            let mut dp = vec![0f32; TILE * context];
            for h in 0..heads {
                let head = part.head(&operands, h);
                let mut dkeys = vec![0f32; context * d]; // [S, nope + rope]
                let mut dvalues = vec![0f32; context * value]; // [S, value]
                for [start, m, seen] in part.tiles() {
                    let (p, dp) = (&mut p[..m * seen], &mut dp[..m * seen]);
                    part.probabilities(&operands, &head.keys, h, [start, m, seen], p);
                    let at = (part.span.rows.start + start) * heads * value + h * value;
                    let g = Matrix::strided(&gs[at..], m, value, heads * value); // [m, value]
                    product(
                        MatrixMut::new(&mut dvalues[..seen * value], seen, value),
                        Write::Add,
                        1.0,
                        Matrix::new(p, m, seen).transposed(),
                        g,
                        Threads::One,
                    );
                    product(
                        MatrixMut::new(dp, m, seen),
                        Write::Replace,
                        1.0,
                        g,
                        Matrix::new(&head.values, seen, value).transposed(),
                        Threads::One,
                    );
                    for (p, dp) in p.chunks_exact(seen).zip(dp.chunks_exact_mut(seen)) {
                        wide(
                            #[inline(always)]
                            || softmax_gradient(p, dp),
                        );
                    }
                    let ds = Matrix::new(dp, m, seen);
                    let at = start * heads * d + h * d;
                    product(
                        MatrixMut::strided(&mut dquery[at..], m, d, heads * d),
                        Write::Replace,
                        softmax_scale,
                        ds,
                        Matrix::new(&head.keys, seen, d),
                        Threads::One,
                    );
                    product(
                        MatrixMut::new(&mut dkeys[..seen * d], seen, d),
                        Write::Add,
                        softmax_scale,
                        ds.transposed(),
                        part.queries(&operands, h, start, m),
                        Threads::One,
                    );
                }
                for s in 0..context {
                    let to = &mut dkv[s * width + h * (nope + value)..][..nope + value];
                    to[..nope].copy_from_slice(&dkeys[s * d..][..nope]);
                    to[nope..].copy_from_slice(&dvalues[s * value..][..value]);
                    let to = &mut dcached[s * row..][latent..row];
                    let pe = &dkeys[s * d + nope..][..rope];
                    to.iter_mut().zip(pe).for_each(|(to, v)| *to += v);
                }
            }
        });

    let dkv = Matrix::new(&dkv, slots, width);
    product(
        MatrixMut::strided(&mut dcached, slots, latent, row),
        Write::Replace,
        1.0,
        dkv,
        Matrix::new(&operands.kv_b, width, latent),
        Threads::All,
    );
    let mut dkv_b = vec![0f32; width * latent];
    product(
        MatrixMut::new(&mut dkv_b, width, latent),
        Write::Replace,
        1.0,
        dkv.transposed(),
        Matrix::strided(&operands.cached, slots, latent, row),
        Threads::All,
    );
    let (blocks, block_size) = (dim(&cache, 0), dim(&cache, 1));
    let mut dcache = vec![0f32; blocks * block_size * row];
    for (slot, from) in operands.slots.iter().zip(dcached.chunks_exact(row)) {
        let to = &mut dcache[slot * row..][..row];
        to.iter_mut().zip(from).for_each(|(to, v)| *to += v);
    }
    AttentionGradient {
        query: f32_tensor(dquery, &[tokens, heads, d]),
        cache: f32_tensor(dcache, &[blocks, block_size, row]),
        kv_b: f32_tensor(dkv_b, &[width, latent]),
    }
}
