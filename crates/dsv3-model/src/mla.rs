//! Multi-head latent attention (DeepSeek-V2 report §2.1, DeepSeek-V3 report §2.1.1).

use burn::tensor::Tensor;
use dsv3_kernels::{Activations, MlaForm, MlaSpec, SequenceSpan, Spans, Weight};
use dsv3_weights::ModelArgs;

use crate::batch::ForwardBatch;
use crate::cache::LatentCache;
use crate::error::ModelError;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::RMSNorm;
use crate::options::AttentionForm;
use crate::parameters::{ParameterVisitor, linear, matrix, norm};
use crate::rope::YarnRope;

/// What every layer of one forward pass shares.
pub struct Context {
    /// `[T, rope / 2]`
    pub cos: Tensor<2>,
    /// `[T, rope / 2]`
    pub sin: Tensor<2>,
    /// Cache slot of every row.
    pub slots: Vec<u32>,
    /// Each sequence's rows, cached tokens and blocks.
    pub spans: Spans,
}

impl Context {
    pub(crate) fn new(
        batch: &ForwardBatch,
        cache: &LatentCache,
        rope: &YarnRope,
        mla: &Mla,
        form: AttentionForm,
        device: &burn::tensor::Device,
    ) -> Self {
        let (cos, sin) = rope.angles(&batch.positions, device);
        let spans = batch.sequences.iter().map(|s| SequenceSpan {
            rows: s.rows.clone(),
            context: s.context,
            blocks: s.blocks.clone(),
            form: match form {
                AttentionForm::Always(form) => form,
                AttentionForm::Auto => mla.cheaper_form(s.rows.len(), s.context),
            },
        });
        Context {
            cos,
            sin,
            slots: batch.slots(cache.block_size()),
            spans: Spans::new(spans.collect()),
        }
    }
}

/// How queries are made: through a low-rank bottleneck or directly (`q_lora_rank` null).
#[allow(clippy::large_enum_variant)] // one a layer, of the same kind in all of them
#[derive(Clone, Debug)]
enum Query {
    LowRank { a: Linear, norm: RMSNorm, b: Linear },
    Direct(Linear),
}

impl Query {
    /// `x [T, hidden]` → `[T, heads · (nope + rope)]`, and what `kv_a` makes of the same `x`.
    fn forward(&self, kv_a: &Linear, x: Tensor<2>) -> [Tensor<2>; 2] {
        match self {
            Query::LowRank { a, norm, b } => {
                let [q, kv] = a.forward_pair(kv_a, x); // [T, q_lora_rank], [T, latent + rope]
                [b.forward(norm.forward(q)), kv]
            }
            Query::Direct(linear) => linear.forward_pair(kv_a, x),
        }
    }
}

/// DeepSeek's `MLA`: attention whose cache is one latent and one rotated key a token.
#[derive(Clone, Debug)]
pub struct Mla {
    query: Query,
    kv_a: Linear,
    kv_a_norm: RMSNorm,
    kv_b: Weight,
    o: Linear,
    spec: MlaSpec,
    latent_activations: Activations,
}

impl Mla {
    /// Load `{prefix}.q_a_proj` and so on; `prefix` ends in `self_attn`.
    pub(crate) fn load(loader: &Loader<'_>, prefix: &str) -> Result<Self, ModelError> {
        let args: &ModelArgs = loader.args();
        let (hidden, heads) = (args.hidden_size, args.num_attention_heads);
        let queries = heads * args.qk_head_dim();
        let query = match args.q_lora_rank {
            Some(rank) => Query::LowRank {
                a: loader.linear(&format!("{prefix}.q_a_proj"), [rank, hidden])?,
                norm: loader.norm(&format!("{prefix}.q_a_layernorm"), rank)?,
                b: loader.linear(&format!("{prefix}.q_b_proj"), [queries, rank])?,
            },
            None => Query::Direct(loader.linear(&format!("{prefix}.q_proj"), [queries, hidden])?),
        };
        let latent = args.kv_lora_rank;
        let per_head = args.qk_nope_head_dim + args.v_head_dim;
        Ok(Mla {
            query,
            kv_a: loader.linear(
                &format!("{prefix}.kv_a_proj_with_mqa"),
                [args.latent_dim(), hidden],
            )?,
            kv_a_norm: loader.norm(&format!("{prefix}.kv_a_layernorm"), latent)?,
            kv_b: loader.weight(
                &format!("{prefix}.kv_b_proj.weight"),
                [heads * per_head, latent],
            )?,
            o: loader.linear(
                &format!("{prefix}.o_proj"),
                [hidden, heads * args.v_head_dim],
            )?,
            spec: MlaSpec {
                heads,
                nope: args.qk_nope_head_dim,
                rope: args.qk_rope_head_dim,
                value: args.v_head_dim,
                latent,
                softmax_scale: YarnRope::new(args).softmax_scale() as f32,
            },
            latent_activations: loader.activations(),
        })
    }

    pub(crate) fn set_softmax_scale(&mut self, scale: f64) {
        self.spec.softmax_scale = scale as f32;
    }

    /// Bytes of its projections and norms.
    pub(crate) fn bytes(&self) -> u64 {
        let query = match &self.query {
            Query::LowRank { a, norm, b } => a.bytes() + norm.bytes() + b.bytes(),
            Query::Direct(q) => q.bytes(),
        };
        let kv = self.kv_a.bytes() + self.kv_a_norm.bytes() + self.kv_b.bytes() as u64;
        query + kv + self.o.bytes()
    }

    pub(crate) fn visit_parameters(&mut self, prefix: &str, visitor: &mut ParameterVisitor<'_>) {
        match &mut self.query {
            Query::LowRank { a, norm: q_norm, b } => {
                linear(visitor, &format!("{prefix}.q_a_proj"), a);
                norm(visitor, &format!("{prefix}.q_a_layernorm"), q_norm);
                linear(visitor, &format!("{prefix}.q_b_proj"), b);
            }
            Query::Direct(q) => linear(visitor, &format!("{prefix}.q_proj"), q),
        }
        linear(
            visitor,
            &format!("{prefix}.kv_a_proj_with_mqa"),
            &mut self.kv_a,
        );
        norm(
            visitor,
            &format!("{prefix}.kv_a_layernorm"),
            &mut self.kv_a_norm,
        );
        matrix(
            visitor,
            &format!("{prefix}.kv_b_proj.weight"),
            &mut self.kv_b,
        );
        linear(visitor, &format!("{prefix}.o_proj"), &mut self.o);
    }

    /// The form with fewer multiplications for `rows` new tokens over `context` cached ones.
    pub(crate) fn cheaper_form(&self, rows: usize, context: usize) -> MlaForm {
        let MlaSpec {
            nope,
            rope,
            value,
            latent,
            ..
        } = self.spec;
        let expand = (nope + value) * latent;
        let naive = context * expand + rows * context * (nope + rope + value);
        let absorbed = rows * expand + rows * context * (latent + rope + latent);
        match absorbed <= naive {
            true => MlaForm::Absorbed,
            false => MlaForm::Naive,
        }
    }

    /// `x [T, hidden]`, normalised → `[T, hidden]`; writes layer `layer` of the cache.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        context: &Context,
        cache: &mut LatentCache,
        layer: usize,
    ) -> Result<Tensor<2>, ModelError> {
        let MlaSpec {
            heads,
            nope,
            rope,
            latent,
            ..
        } = self.spec;
        let [tokens, _] = x.dims();
        let [q, kv] = self.query.forward(&self.kv_a, x); // …, [T, latent + rope]
        let q = q.reshape([tokens, heads, nope + rope]); // [T, heads, nope + rope]
        let q = self.rotate(q, context); // [T, heads, nope + rope], the rope part turned

        let c = self.kv_a_norm.forward(kv.clone().narrow(1, 0, latent)); // [T, latent]
        let c = self.quantized(c); // [T, latent]
        let k_pe = kv.narrow(1, latent, rope).reshape([tokens, 1, rope]); // [T, 1, rope]
        let k_pe = self.rotate(k_pe, context).reshape([tokens, rope]); // [T, rope]
        let rows = Tensor::cat(vec![c, k_pe], 1); // [T, latent + rope]

        let blocks = cache
            .take(layer)
            .ok_or_else(|| ModelError::batch(format!("the cache has no layer {layer}")))?;
        let blocks = dsv3_kernels::append_latent(blocks, rows, context.slots.clone());
        let spans = Spans::clone(&context.spans);
        let out = dsv3_kernels::mla_attention(q, blocks.clone(), &self.kv_b, self.spec, spans);
        cache.put(layer, blocks);
        Ok(self.o.forward(out)) // [T, hidden]
    }

    fn rotate(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        dsv3_kernels::rope(x, context.cos.clone(), context.sin.clone())
    }

    /// In a W8A8 run the latent is an fp8 `kv_b`'s input and so is rounded like any other. It meets
    /// nothing else, so it is rounded on the way into the cache: both forms then agree. Integer
    /// codes meet it as it is: attention multiplies in f32.
    fn quantized(&self, c: Tensor<2>) -> Tensor<2> {
        match self.latent_activations {
            Activations::EightBits { ue8m0 } if self.kv_b.is_fp8() => {
                dsv3_kernels::quantize_activations(c, ue8m0)
            }
            _ => c,
        }
    }
}
