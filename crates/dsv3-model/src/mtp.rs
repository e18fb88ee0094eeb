//! Multi-token prediction (DeepSeek-V3 report §2.2): one more layer that guesses the token after
//! the next.

use burn::tensor::{DType, Tensor};
use dsv3_weights::Checkpoint;

use crate::batch::ForwardBatch;
use crate::block::Block;
use crate::cache::LatentCache;
use crate::embedding::Embedding;
use crate::error::ModelError;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::RMSNorm;
use crate::parameters::{ParameterVisitor, linear, norm};
use crate::rope::YarnRope;
use crate::trace::Trace;
use crate::transformer::{Transformer, select_rows};

/// What the module computes for each row.
#[derive(Clone, Debug)]
pub struct MtpOutput {
    /// The projection of embedding and hidden state: `[T, hidden]`.
    pub projected: Tensor<2>,
    /// The stream after the module's layer: `[T, hidden]`.
    pub hidden: Tensor<2>,
    /// Logits of the token two places on, of the rows asked for: `[rows, vocab]` f32.
    pub logits: Tensor<2>,
}

/// The module at layer index `num_hidden_layers`. Embedding and head are the checkpoint's own
/// copies where it has them, else the main model's.
#[derive(Clone, Debug)]
pub struct MtpModule {
    embed: Embedding,
    enorm: RMSNorm,
    hnorm: RMSNorm,
    eh_proj: Linear,
    block: Block,
    norm: RMSNorm,
    head: Linear,
}

impl MtpModule {
    /// Load the module that belongs to `model`.
    ///
    /// # Errors
    /// [`ModelError::NoMtp`] where the configuration has none; else as [`Transformer::load`].
    pub fn load(checkpoint: &Checkpoint, model: &Transformer) -> Result<Self, ModelError> {
        let args = checkpoint.args();
        if args.num_nextn_predict_layers == 0 {
            return Err(ModelError::NoMtp);
        }
        let loader = Loader {
            checkpoint,
            options: model.options(),
        };
        let (layer, hidden) = (args.num_hidden_layers, args.hidden_size);
        let prefix = format!("model.layers.{layer}");
        let embed = format!("{prefix}.embed_tokens");
        let head = format!("{prefix}.shared_head.head");
        let has = |name: &str| checkpoint.get(&format!("{name}.weight")).is_some();
        Ok(MtpModule {
            embed: match has(&embed) {
                true => Embedding::load(&loader, &embed)?,
                false => model.embed().clone(),
            },
            enorm: loader.norm(&format!("{prefix}.enorm"), hidden)?,
            hnorm: loader.norm(&format!("{prefix}.hnorm"), hidden)?,
            eh_proj: loader.linear(&format!("{prefix}.eh_proj"), [hidden, 2 * hidden])?,
            block: Block::load(&loader, layer)?,
            norm: loader.norm(&format!("{prefix}.shared_head.norm"), hidden)?,
            head: match has(&head) {
                true => loader.linear(&head, [args.vocab_size, hidden])?,
                false => model.head().clone(),
            },
        })
    }

    /// Shows `visitor` the module's own parameters, to read or to replace. Embedding and head are
    /// not among them: trained, they are the main model's; see [`share`](Self::share).
    pub fn visit_parameters(&mut self, model: &Transformer, visitor: &mut ParameterVisitor<'_>) {
        let layer = model.args().num_hidden_layers;
        let prefix = format!("model.layers.{layer}");
        norm(visitor, &format!("{prefix}.enorm"), &mut self.enorm);
        norm(visitor, &format!("{prefix}.hnorm"), &mut self.hnorm);
        linear(visitor, &format!("{prefix}.eh_proj"), &mut self.eh_proj);
        self.block.visit_parameters(layer, visitor);
        norm(
            visitor,
            &format!("{prefix}.shared_head.norm"),
            &mut self.norm,
        );
    }

    /// Take embedding, head and positions from `model` (DeepSeek-V3 report §2.2: the first two are
    /// shared).
    pub fn share(&mut self, model: &Transformer) {
        let scale = YarnRope::new(model.args()).softmax_scale();
        self.block.attention.set_softmax_scale(scale);
        self.embed = model.embed().clone();
        self.head = model.head().clone();
    }

    /// A cache for the module's one layer.
    pub fn new_cache(&self, model: &Transformer, blocks: usize, block_size: usize) -> LatentCache {
        LatentCache::new(
            model.args(),
            1,
            blocks,
            block_size,
            model.cache_format(),
            model.device(),
        )
    }

    /// `hidden [T, hidden]` is the main model's at each position, after the final norm; the
    /// batch's tokens are those one place later. → logits of the token after those.
    ///
    /// The embedding half comes first in the concatenation, as in the released weights; the
    /// report's equation 21 prints it second.
    ///
    /// # Errors
    /// As [`Transformer::forward`].
    pub fn forward(
        &self,
        model: &Transformer,
        hidden: Tensor<2>,
        batch: &ForwardBatch,
        cache: &mut LatentCache,
        trace: &mut dyn Trace,
    ) -> Result<MtpOutput, ModelError> {
        batch.validate(model.args(), cache)?;
        let embedded = self.enorm.forward(self.embed.forward(&batch.tokens)?); // [T, hidden]
        let previous = self.hnorm.forward(hidden); // [T, hidden]
        let joined = Tensor::cat(vec![embedded, previous], 1); // [T, 2 · hidden]
        let projected = self.eh_proj.forward(joined); // [T, hidden]
        let context = model.context(batch, cache, &self.block);
        let x = self
            .block
            .forward(projected.clone(), &context, cache, 0, trace)?; // [T, hidden]
        let wanted = select_rows(x.clone(), &batch.logit_rows); // [rows, hidden]
        let logits = self.head.forward(self.norm.forward(wanted)); // [rows, vocab]
        Ok(MtpOutput {
            projected,
            hidden: x,
            logits: logits.cast(DType::F32),
        })
    }
}
