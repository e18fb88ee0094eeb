//! One sequence: its tokens, its blocks, how it is sampled and when it ends.

use std::time::Instant;

use dsv3_sampling::{History, Sampled, Sampler};
use dsv3_tokenizer::TokenId;

use crate::block_pool::{BlockId, BlockPool, Content, START};
use crate::event::{EngineEvent, FinishReason, SequenceId, Usage};
use crate::request::StopConditions;
use crate::text::TextStream;

/// A request on its way.
pub struct Sequence {
    pub(crate) id: SequenceId,
    /// Prompt, then what was written.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Tokens whose latents are in the cache.
    pub(crate) computed: usize,
    pub(crate) blocks: Vec<BlockId>,
    /// Full blocks that others may share, and what the last of them stands for.
    sealed: usize,
    content: Content,
    pub(crate) sampler: Sampler,
    pub(crate) history: History,
    stop: StopConditions,
    /// All ids that end it.
    stop_ids: Vec<TokenId>,
    think_end: Option<TokenId>,
    thought: usize,
    text: TextStream,
    cached: usize,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

impl Sequence {
    pub(crate) fn new(
        id: SequenceId,
        prompt: Vec<TokenId>,
        sampler: Sampler,
        stop: StopConditions,
        stop_ids: Vec<TokenId>,
        think_end: Option<TokenId>,
        text: TextStream,
    ) -> Self {
        Sequence {
            id,
            prompt_len: prompt.len(),
            history: History::new(&prompt),
            tokens: prompt,
            computed: 0,
            blocks: Vec::new(),
            sealed: 0,
            content: START,
            sampler,
            stop,
            stop_ids,
            think_end,
            thought: 0,
            text,
            cached: 0,
            started: None,
            first_token: None,
        }
    }

    /// Tokens that are not computed yet.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether only its newest token is to be computed.
    pub(crate) fn is_decoding(&self) -> bool {
        self.pending() == 1 && self.computed > 0
    }

    /// Begin, or begin again after a preemption: share what the cache knows of the tokens. At
    /// least the last token is left to compute, since its logits are wanted.
    pub(crate) fn start(&mut self, pool: &mut BlockPool, block_size: usize) {
        let shareable = self.tokens.len().saturating_sub(1) / block_size;
        for tokens in self.tokens.chunks_exact(block_size).take(shareable) {
            let Some((block, content)) = pool.share(self.content, tokens) else {
                break;
            };
            self.blocks.push(block);
            self.content = content;
            self.sealed += 1;
        }
        self.computed = self.sealed * block_size;
        if self.started.is_none() {
            self.started = Some(Instant::now());
            self.cached = self.computed;
        }
    }

    /// Take `tokens` more as computed and let others share the blocks that are full now.
    pub(crate) fn advance(&mut self, tokens: usize, pool: &mut BlockPool, block_size: usize) {
        self.computed += tokens;
        while (self.sealed + 1) * block_size <= self.computed {
            let from = self.sealed * block_size;
            let (Some(block), Some(tokens)) = (
                self.blocks.get(self.sealed),
                self.tokens.get(from..from + block_size),
            ) else {
                break;
            };
            self.content = pool.seal(*block, self.content, tokens);
            self.sealed += 1;
        }
    }

    /// Give all blocks back; what was computed is lost to it unless the cache keeps it.
    pub(crate) fn release(&mut self, pool: &mut BlockPool) {
        // The last first: a prefix is worth more than what follows it.
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
        (self.computed, self.sealed, self.content) = (0, 0, START);
    }

    /// Let nobody share its blocks: what they hold led to numbers that are none.
    pub(crate) fn taint(&self, pool: &mut BlockPool) {
        for block in &self.blocks {
            pool.unseal(*block);
        }
    }

    /// The token that must come next, whatever the model says: the end of reasoning that has
    /// gone on for long enough.
    pub(crate) fn forced(&self) -> Option<TokenId> {
        let limit = self.stop.max_thinking_tokens?;
        (self.text.in_reasoning() && self.thought >= limit)
            .then_some(self.think_end)
            .flatten()
    }

    /// Append a token: what there is to say, and whether this is the end.
    pub(crate) fn append(
        &mut self,
        sampled: Sampled,
        capacity: usize,
    ) -> (Vec<EngineEvent>, Option<FinishReason>) {
        let token = sampled.token;
        self.tokens.push(token);
        self.history.push(token);
        self.first_token.get_or_insert_with(Instant::now);
        if self.text.in_reasoning() {
            self.thought += 1;
        }
        let event = |text| EngineEvent::Token {
            token,
            text,
            logprob: sampled.logprob,
            top: sampled.top.clone(),
        };
        let stops = self.stop_ids.contains(&token);
        let added = match stops {
            true => self.text.end_at(token),
            false => self.text.push(token),
        };
        let added = match added {
            Ok(added) => added,
            Err(error) => {
                let reason = FinishReason::Error(error.to_string());
                return (vec![event(String::new())], Some(reason));
            }
        };
        let mut events = vec![event(added.text)];
        events.extend(added.events.into_iter().map(EngineEvent::Parsed));
        let written = self.tokens.len() - self.prompt_len;
        let reason = if stops || added.stopped {
            Some(FinishReason::Stop)
        } else if written >= self.stop.max_new_tokens || self.tokens.len() >= capacity {
            Some(FinishReason::Length)
        } else {
            None
        };
        (events, reason)
    }

    /// The closing events.
    pub(crate) fn finish(&mut self, reason: FinishReason) -> Vec<EngineEvent> {
        use dsv3_tokenizer::{Event, FinishReason as TextReason};
        let ended = match &reason {
            FinishReason::Stop | FinishReason::ToolCalls => TextReason::Stop,
            FinishReason::Length => TextReason::Length,
            FinishReason::Cancelled => TextReason::Cancelled,
            FinishReason::Error(_) => TextReason::Error,
        };
        // After a stop string nothing that was held back may come out.
        let by_string = reason == FinishReason::Stop
            && !self
                .tokens
                .last()
                .is_some_and(|t| self.stop_ids.contains(t));
        let added = self.text.finish(ended, by_string);
        let called_tools = added.events.iter().any(|e| {
            matches!(
                e,
                Event::Finish {
                    reason: TextReason::ToolCalls
                }
            )
        });
        let reason = if called_tools {
            FinishReason::ToolCalls
        } else {
            reason
        };
        let mut events: Vec<EngineEvent> =
            added.events.into_iter().map(EngineEvent::Parsed).collect();
        events.push(EngineEvent::Finished {
            text: added.text,
            reason,
            usage: self.usage(),
        });
        events
    }

    fn usage(&self) -> Usage {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let first = self.first_token.unwrap_or(now);
        Usage {
            prompt_tokens: self.prompt_len,
            cached_tokens: self.cached,
            completion_tokens: self.tokens.len() - self.prompt_len,
            prefill_s: (first - started).as_secs_f64(),
            decode_s: (now - first).as_secs_f64(),
        }
    }
}
