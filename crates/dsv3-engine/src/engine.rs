//! The loop: schedule, run, sample, collect.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use dsv3_model::{Checkpoint, ForwardBatch, LoadOptions, Transformer};
use dsv3_sampling::{Sampled, Sampler, SamplingParams, logprob_of};
use dsv3_tokenizer::{Special, TokenId, Tokenizer};

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::event::{Completion, EngineEvent, FinishReason, SequenceId};
use crate::request::{Input, Request};
use crate::runner::{ModelRunner, TransformerRunner};
use crate::scheduler::{Scheduler, Share};
use crate::sequence::Sequence;
use crate::text::TextStream;

/// Many sequences over one model.
pub struct Engine<R: ModelRunner = TransformerRunner> {
    pub(crate) runner: R,
    pub(crate) scheduler: Scheduler,
    pub(crate) config: EngineConfig,
    tokenizer: Option<Arc<Tokenizer>>,
    eos: Vec<TokenId>,
    next_id: u64,
}

/// Events of a step, each with its sequence.
pub type Events = Vec<(SequenceId, EngineEvent)>;

impl Engine {
    /// Open a checkpoint's folder: the model, and `tokenizer.json` where there is one.
    ///
    /// # Errors
    /// [`EngineError::Model`] or [`EngineError::Tokenizer`], naming file and tensor.
    pub fn open(
        dir: impl AsRef<Path>,
        options: &LoadOptions,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        let dir = dir.as_ref();
        let checkpoint = Checkpoint::open(dir).map_err(dsv3_model::ModelError::from)?;
        let model = Transformer::load(&checkpoint, options)?;
        let tokenizer = dir.join("tokenizer.json");
        let tokenizer = match tokenizer.exists() {
            true => Some(Arc::new(Tokenizer::from_file(tokenizer)?)),
            false => None,
        };
        Engine::new(model, tokenizer, config)
    }

    /// An engine over `model`. Sequences end at the ids that `config.json` and the tokenizer name
    /// as end of sequence.
    ///
    /// # Errors
    /// [`EngineError::Config`].
    pub fn new(
        model: Transformer,
        tokenizer: Option<Arc<Tokenizer>>,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        config.validate()?;
        let eos = model.args().eos_token_id.clone();
        Engine::with_runner(
            TransformerRunner::new(model, config),
            tokenizer,
            eos,
            config,
        )
    }

    /// The model.
    pub fn model(&self) -> &Transformer {
        self.runner.model()
    }
}

impl<R: ModelRunner> Engine<R> {
    /// An engine over anything that computes logits; `eos` are ids that end a sequence.
    ///
    /// # Errors
    /// [`EngineError::Config`].
    pub fn with_runner(
        runner: R,
        tokenizer: Option<Arc<Tokenizer>>,
        mut eos: Vec<TokenId>,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        config.validate()?;
        if let Some(tokenizer) = &tokenizer {
            let special = tokenizer.special();
            eos.push(special.eos);
            eos.extend(special.id(Special::Eot));
        }
        Ok(Engine {
            scheduler: Scheduler::new(config),
            runner,
            config,
            tokenizer,
            eos,
            next_id: 0,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Option<&Arc<Tokenizer>> {
        self.tokenizer.as_ref()
    }

    /// Its limits.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Ids that can be sampled: rows of the head above them are padding.
    pub fn real_vocab_size(&self) -> usize {
        let rows = self.runner.vocab_size();
        let ids = self.tokenizer.as_ref().map_or(rows, |t| t.vocab_size());
        ids.min(rows)
    }

    /// Tokens that one sequence may grow to.
    pub fn capacity(&self) -> usize {
        let cache = self.config.blocks() * self.config.block_size;
        cache.min(self.runner.max_positions())
    }

    /// Whether any sequence is waiting or running.
    pub fn has_work(&self) -> bool {
        self.scheduler.has_work()
    }

    /// Take a request on. It joins at the next step.
    ///
    /// # Errors
    /// [`EngineError`] for a prompt that is empty, too long or out of the vocabulary, for text
    /// without a tokenizer, and for parameters that don't fit the vocabulary.
    pub fn submit(&mut self, request: Request) -> Result<SequenceId, EngineError> {
        let tokenizer = self.tokenizer.as_deref();
        let prompt = request.input.ids(tokenizer)?;
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let capacity = self.capacity();
        if prompt.len() >= capacity {
            return Err(EngineError::PromptTooLong {
                tokens: prompt.len(),
                capacity,
            });
        }
        let rows = self.runner.vocab_size();
        if let Some(token) = prompt.iter().find(|t| **t as usize >= rows) {
            return Err(EngineError::Model(
                dsv3_model::ModelError::TokenOutOfRange {
                    token: *token,
                    vocab_size: rows,
                },
            ));
        }
        let mut stop_ids = request.stop.ids.clone();
        if !request.stop.ignore_eos {
            stop_ids.extend(&self.eos);
        }
        let id = SequenceId(self.next_id);
        let sampler = Sampler::new(request.params, self.real_vocab_size(), self.next_id)?;
        let text = TextStream::new(tokenizer, request.parse, &request.stop.strings)?;
        let think_end = tokenizer.and_then(|t| t.special().id(Special::ThinkEnd));
        self.next_id += 1;
        self.scheduler.add(Sequence::new(
            id,
            prompt,
            sampler,
            request.stop,
            stop_ids,
            think_end,
            text,
        ));
        Ok(id)
    }

    /// End a sequence now. Its blocks are free again before the next step.
    pub fn cancel(&mut self, id: SequenceId) -> Events {
        self.finish(id, FinishReason::Cancelled)
    }

    /// Compute one step of whatever there is to do. A sequence that can't go on ends with an
    /// error of its own; the others go on.
    pub fn step(&mut self) -> Events {
        let plan = self.scheduler.schedule();
        if plan.is_empty() {
            return Events::new();
        }
        let (batch, sampling) = self.batch(&plan);
        match self.runner.run(&batch) {
            Ok(logits) => {
                self.scheduler.advance(&plan);
                self.sample(&sampling, &logits)
            }
            Err(error) => self.fail(&plan, &error),
        }
    }

    /// The forward pass of a plan, and the sequences whose logits it gives, in order.
    fn batch(&self, plan: &[Share]) -> (ForwardBatch, Vec<SequenceId>) {
        let (mut batch, mut sampling) = (ForwardBatch::default(), Vec::new());
        for share in plan {
            let Some(sequence) = self.scheduler.sequences.get(&share.id) else {
                continue;
            };
            let end = sequence.computed + share.tokens;
            let Some(tokens) = sequence.tokens.get(sequence.computed..end) else {
                continue;
            };
            let blocks = sequence.blocks.iter().map(|b| b.0).collect();
            batch.push(tokens, sequence.computed, blocks);
            match end == sequence.tokens.len() {
                true => sampling.push(share.id),
                // a chunk in the middle of a prompt: nobody needs its logits
                false => drop(batch.logit_rows.pop()),
            }
        }
        if batch.logit_rows.is_empty() {
            // Not every device computes a product of no rows.
            batch.logit_rows.extend(batch.tokens.len().checked_sub(1));
        }
        (batch, sampling)
    }

    fn sample(&mut self, sampling: &[SequenceId], logits: &[f32]) -> Events {
        let mut events = Events::new();
        let (real, capacity) = (self.real_vocab_size(), self.capacity());
        let rows = logits.chunks_exact(self.runner.vocab_size().max(1));
        for (id, row) in sampling.iter().zip(rows) {
            let Some(sequence) = self.scheduler.sequences.get_mut(id) else {
                continue;
            };
            let sampled = match sequence.forced() {
                Some(token) => {
                    logprob_of(row.get(..real).unwrap_or(row), token).map(|logprob| Sampled {
                        token,
                        logprob,
                        top: Vec::new(),
                    })
                }
                None => sequence.sampler.sample(row, &sequence.history),
            };
            let (said, reason) = match sampled {
                Ok(sampled) => sequence.append(sampled, capacity),
                Err(error) => {
                    sequence.taint(&mut self.scheduler.pool);
                    (Vec::new(), Some(FinishReason::Error(error.to_string())))
                }
            };
            events.extend(said.into_iter().map(|event| (*id, event)));
            if let Some(reason) = reason {
                events.extend(self.finish(*id, reason));
            }
        }
        events
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) -> Events {
        let Some(mut sequence) = self.scheduler.remove(id) else {
            return Events::new();
        };
        let events = sequence.finish(reason).into_iter();
        events.map(|event| (id, event)).collect()
    }

    /// The pass failed as a whole: its sequences end, the others begin again on a new cache.
    fn fail(&mut self, plan: &[Share], error: &EngineError) -> Events {
        tracing::error!(%error, "forward pass failed");
        let reason = FinishReason::Error(error.to_string());
        let events = plan
            .iter()
            .flat_map(|share| self.finish(share.id, reason.clone()))
            .collect();
        self.scheduler.restart_all();
        self.runner.reset();
        events
    }

    /// Generate one sequence to its end, telling `on_event` as it goes; `Break` cancels it.
    /// Other sequences of the engine go on meanwhile; their events are dropped.
    ///
    /// # Errors
    /// As [`submit`](Self::submit). A sequence that fails on its way ends with
    /// [`FinishReason::Error`] instead.
    pub fn stream(
        &mut self,
        request: Request,
        on_event: &mut dyn FnMut(&EngineEvent) -> ControlFlow<()>,
    ) -> Result<Completion, EngineError> {
        let id = self.submit(request)?;
        let mut completion = Completion::default();
        let mut cancelled = false;
        while self.scheduler.sequences.contains_key(&id) {
            let mut events = self.step();
            let mut at = 0;
            while let Some((of, event)) = events.get(at) {
                at += 1;
                if *of != id {
                    continue;
                }
                completion.apply(event);
                if on_event(event).is_break() && !cancelled {
                    cancelled = true;
                    events.extend(self.cancel(id));
                }
            }
        }
        Ok(completion)
    }

    /// Generate one answer: text or ids in, a [`Completion`] out.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn generate(
        &mut self,
        prompt: impl Into<Input>,
        params: SamplingParams,
    ) -> Result<Completion, EngineError> {
        self.stream(Request::new(prompt, params), &mut |_| {
            ControlFlow::Continue(())
        })
    }
}
