//! Multi-head latent attention, both forms, one sequence at a time, all scores at once.

use burn::backend::tensor::FloatTensor;
use burn::tensor::FloatDType;

use super::dequantize;
use super::latent::latent_rows;
use crate::latent::Latents;
use crate::ops::Dsv3Ops;
use crate::packed::Packed;
use crate::spec::{MlaForm, MlaSpec, SequenceSpan};
use crate::stock::Float;

/// Added to the score of a position that a query may not see; `exp` of it is exactly 0.
const HIDDEN: f32 = -1e30;

/// The factors of an adapter on `kv_b`.
pub(crate) struct Factors<B: Dsv3Ops> {
    /// `[r, latent]` f32
    pub(crate) a: FloatTensor<B>,
    /// `[heads · (nope + value), r]` f32
    pub(crate) b: FloatTensor<B>,
    pub(crate) scale: f32,
}

/// `kv_b` by head, and the factors beside it.
struct KeyValue<B: Dsv3Ops> {
    /// `[heads, nope + value, latent]`
    base: Float<B>,
    /// `[r, latent]` and `[heads, nope + value, r]`, the scale in the second.
    factors: Option<[Float<B>; 2]>,
}

impl<B: Dsv3Ops> KeyValue<B> {
    fn new(kv_b: &Packed<B>, factors: Option<Factors<B>>, spec: &MlaSpec) -> Self {
        let (heads, width) = (spec.heads, spec.nope + spec.value);
        KeyValue {
            base: dequantize(kv_b).reshape(&[heads, width, spec.latent]),
            factors: factors.map(|Factors { a, b, scale }| {
                let a = Float::<B>(a);
                let rank = a.dim(0);
                let b = Float::<B>(b).scale(scale).reshape(&[heads, width, rank]);
                [a, b]
            }),
        }
    }

    /// Keys and values of every head from latents: `[S, latent]` → `[S, heads · (nope + value)]`.
    fn expand(&self, latent: &Float<B>) -> Float<B> {
        let rows = |matrix: &Float<B>| {
            let shape = matrix.shape();
            let [heads, width, columns] = [shape[0], shape[1], shape[2]];
            let flat = matrix.clone().reshape(&[heads * width, columns]);
            flat.swap(0, 1)
        };
        let kv = latent.clone().matmul(rows(&self.base));
        match &self.factors {
            None => kv,
            Some([a, b]) => {
                let narrow = latent.clone().matmul(a.clone().swap(0, 1)); // [S, r]
                kv.add(narrow.matmul(rows(b)))
            }
        }
    }

    /// Queries into the latent space: `[heads, n, nope]` → `[heads, n, latent]`.
    fn absorb(&self, query: &Float<B>, spec: &MlaSpec) -> Float<B> {
        let keys = |matrix: &Float<B>| matrix.clone().narrow(1, 0, spec.nope);
        let absorbed = query.clone().matmul(keys(&self.base)); // [heads, n, latent]
        match &self.factors {
            None => absorbed,
            Some([a, b]) => {
                let narrow = query.clone().matmul(keys(b)); // [heads, n, r]
                absorbed.add(by_row(narrow, a.clone()))
            }
        }
    }

    /// Sums of latents to values: `[heads, n, latent]` → `[heads, n, value]`.
    fn values(&self, sums: Float<B>, spec: &MlaSpec) -> Float<B> {
        let rows = |matrix: &Float<B>| {
            let values = matrix.clone().narrow(1, spec.nope, spec.value);
            values.swap(1, 2) // [heads, columns, value]
        };
        let values = sums.clone().matmul(rows(&self.base));
        match &self.factors {
            None => values,
            Some([a, b]) => {
                let narrow = by_row(sums, a.clone().swap(0, 1)); // [heads, n, r]
                values.add(narrow.matmul(rows(b)))
            }
        }
    }
}

/// `x [heads, n, c]` times the one matrix `[c, d]` → `[heads, n, d]`.
fn by_row<B: Dsv3Ops>(x: Float<B>, matrix: Float<B>) -> Float<B> {
    let [heads, n, columns] = [x.dim(0), x.dim(1), x.dim(2)];
    let to = matrix.dim(1);
    x.reshape(&[heads * n, columns])
        .matmul(matrix)
        .reshape(&[heads, n, to])
}

/// One sequence's operands.
struct Operands<B: Dsv3Ops> {
    /// `[heads, n, nope]`
    q_nope: Float<B>,
    /// `[heads · n, rope]`
    q_pe: Float<B>,
    /// `[S, latent]`
    latent: Float<B>,
    /// `[S, rope]`
    k_pe: Float<B>,
    /// `[1, n, S]`: 0 or [`HIDDEN`].
    mask: Float<B>,
}

impl<B: Dsv3Ops> Operands<B> {
    fn new(query: &Float<B>, cache: &Latents<B>, spec: &MlaSpec, span: &SequenceSpan) -> Self {
        let device = query.device();
        let (n, s) = (span.rows.len(), span.context);
        let cached = latent_rows(cache, span.slots(cache.block_size())); // [S, latent + rope]
        let q = query
            .clone()
            .narrow(0, span.rows.start, n)
            .cast(FloatDType::F32)
            .swap(0, 1); // [heads, n, nope + rope]
        let mask = (0..n * s).map(|i| match i % s < span.visible(i / s) {
            true => 0.0,
            false => HIDDEN,
        });
        Operands {
            q_nope: q.clone().narrow(2, 0, spec.nope),
            q_pe: q
                .narrow(2, spec.nope, spec.rope)
                .reshape(&[spec.heads * n, spec.rope]),
            latent: cached.clone().narrow(1, 0, spec.latent),
            k_pe: cached.narrow(1, spec.latent, spec.rope),
            mask: Float::from_vec(mask.collect(), &[1, n, s], &device),
        }
    }

    /// Softmax of `scores [heads, n, S]` plus the positional part, scaled and masked.
    fn probabilities(&self, scores: Float<B>, spec: &MlaSpec) -> Float<B> {
        let (n, s) = (self.mask.dim(1), self.mask.dim(2));
        let positional = self
            .q_pe
            .clone()
            .matmul(self.k_pe.clone().swap(0, 1))
            .reshape(&[spec.heads, n, s]);
        scores
            .add(positional)
            .scale(spec.softmax_scale)
            .add(self.mask.clone())
            .softmax(2)
    }

    /// Keys and values of every head expanded: → `[heads, n, value]`.
    fn naive(&self, kv_b: &KeyValue<B>, spec: &MlaSpec) -> Float<B> {
        let s = self.latent.dim(0);
        let width = spec.nope + spec.value;
        let kv = kv_b
            .expand(&self.latent) // [S, heads · (nope + value)]
            .reshape(&[s, spec.heads, width])
            .swap(0, 1); // [heads, S, nope + value]
        let keys = kv.clone().narrow(2, 0, spec.nope); // [heads, S, nope]
        let values = kv.narrow(2, spec.nope, spec.value); // [heads, S, value]
        let scores = self.q_nope.clone().matmul(keys.swap(1, 2)); // [heads, n, S]
        self.probabilities(scores, spec).matmul(values)
    }

    /// Queries moved into the latent space, the sum of latents moved back:
    /// → `[heads, n, value]`.
    fn absorbed(&self, kv_b: &KeyValue<B>, spec: &MlaSpec) -> Float<B> {
        let (n, s) = (self.mask.dim(1), self.mask.dim(2));
        let rows = spec.heads * n;
        let query = kv_b
            .absorb(&self.q_nope, spec)
            .reshape(&[rows, spec.latent]); // [heads · n, latent]
        let scores = query
            .matmul(self.latent.clone().swap(0, 1))
            .reshape(&[spec.heads, n, s]); // [heads, n, S]
        let sums = self
            .probabilities(scores, spec)
            .reshape(&[rows, s])
            .matmul(self.latent.clone())
            .reshape(&[spec.heads, n, spec.latent]); // [heads, n, latent]
        kv_b.values(sums, spec)
    }
}

/// `query [T, heads, nope + rope]`, `cache [blocks, size]` tokens → `[T, heads · value]`.
pub(crate) fn mla_attention<B: Dsv3Ops>(
    query: FloatTensor<B>,
    cache: &Latents<B>,
    kv_b: &Packed<B>,
    spec: MlaSpec,
    spans: &[SequenceSpan],
) -> FloatTensor<B> {
    adapted_mla_attention::<B>(query, cache, kv_b, None, spec, spans)
}

/// As [`mla_attention`], with the factors of an adapter beside `kv_b`.
pub(crate) fn adapted_mla_attention<B: Dsv3Ops>(
    query: FloatTensor<B>,
    cache: &Latents<B>,
    kv_b: &Packed<B>,
    factors: Option<Factors<B>>,
    spec: MlaSpec,
    spans: &[SequenceSpan],
) -> FloatTensor<B> {
    let query = Float::<B>(query);
    let dtype = query.dtype();
    let kv_b = KeyValue::new(kv_b, factors, &spec);
    let parts = spans.iter().filter(|s| !s.rows.is_empty()).map(|span| {
        let operands = Operands::new(&query, cache, &spec, span);
        let out = match span.form {
            MlaForm::Naive => operands.naive(&kv_b, &spec),
            MlaForm::Absorbed => operands.absorbed(&kv_b, &spec),
        }; // [heads, n, value]
        out.swap(0, 1)
            .reshape(&[span.rows.len(), spec.heads * spec.value]) // [n, heads · value]
    });
    Float::<B>::cat(parts.collect(), 0).cast(dtype).0
}
