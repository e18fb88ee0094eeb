//! Whose tokens the next forward pass computes.

use std::collections::{BTreeMap, VecDeque};

use crate::block_pool::BlockPool;
use crate::config::EngineConfig;
use crate::event::SequenceId;
use crate::sequence::Sequence;

/// One sequence's part in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) id: SequenceId,
    /// Tokens of it that the step computes.
    pub(crate) tokens: usize,
}

/// First come, first served: sequences that write go on in every step, prompts fill what is left
/// of the batch in chunks, and when blocks run out the newest sequence waits and is computed
/// again later.
pub struct Scheduler {
    config: EngineConfig,
    pub(crate) pool: BlockPool,
    pub(crate) sequences: BTreeMap<SequenceId, Sequence>,
    waiting: VecDeque<SequenceId>,
    /// Oldest first.
    running: Vec<SequenceId>,
}

impl Scheduler {
    pub(crate) fn new(config: EngineConfig) -> Self {
        Scheduler {
            pool: BlockPool::new(config.blocks()),
            config,
            sequences: BTreeMap::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence.id);
        self.sequences.insert(sequence.id, sequence);
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.sequences.is_empty()
    }

    /// Take a sequence out and its blocks back.
    pub(crate) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        self.waiting.retain(|w| *w != id);
        self.running.retain(|r| *r != id);
        let mut sequence = self.sequences.remove(&id)?;
        sequence.release(&mut self.pool);
        Some(sequence)
    }

    /// The next step. Empty only when there is no work.
    pub(crate) fn schedule(&mut self) -> Vec<Share> {
        let mut plan = Vec::new();
        let mut budget = self.config.max_batch_tokens;
        // Those that write first: a prompt beside them must not make them wait.
        for decoding in [true, false] {
            for id in self.running.clone() {
                if self.is_decoding(id) == Some(decoding) && budget > 0 {
                    budget -= self.share(id, budget, &mut plan);
                }
            }
        }
        while budget > 0 && self.running.len() < self.config.max_sequences {
            let Some(id) = self.waiting.pop_front() else {
                break;
            };
            let Some(sequence) = self.sequences.get_mut(&id) else {
                continue;
            };
            sequence.start(&mut self.pool, self.config.block_size);
            self.running.push(id);
            let taken = self.share(id, budget, &mut plan);
            if taken == 0 {
                break; // it went back to wait
            }
            budget -= taken;
        }
        plan
    }

    /// `None` when it is not running any more: it was preempted in this very step.
    fn is_decoding(&self, id: SequenceId) -> Option<bool> {
        let running = self.running.contains(&id);
        let sequence = running.then(|| self.sequences.get(&id)).flatten()?;
        Some(sequence.is_decoding())
    }

    /// Give sequence `id` up to `budget` tokens of the step and the blocks for them.
    fn share(&mut self, id: SequenceId, budget: usize, plan: &mut Vec<Share>) -> usize {
        loop {
            let Some(sequence) = self.sequences.get_mut(&id) else {
                return 0;
            };
            let tokens = sequence.pending().min(budget);
            let needed = (sequence.computed + tokens).div_ceil(self.config.block_size);
            while sequence.blocks.len() < needed {
                match self.pool.allocate() {
                    Some(block) => sequence.blocks.push(block),
                    None => break,
                }
            }
            if sequence.blocks.len() >= needed {
                plan.push(Share { id, tokens });
                return tokens;
            }
            // Blocks ran out: the newest makes room, be it this one.
            let Some(newest) = self.running.last().copied() else {
                return 0;
            };
            self.preempt(newest);
            plan.retain(|share| share.id != newest);
            if newest == id {
                return 0;
            }
        }
    }

    fn preempt(&mut self, id: SequenceId) {
        tracing::debug!(?id, "out of cache blocks: the newest sequence waits");
        self.running.retain(|r| *r != id);
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.release(&mut self.pool);
            self.waiting.push_front(id);
        }
    }

    /// The step was computed.
    pub(crate) fn advance(&mut self, plan: &[Share]) {
        for share in plan {
            if let Some(sequence) = self.sequences.get_mut(&share.id) {
                sequence.advance(share.tokens, &mut self.pool, self.config.block_size);
            }
        }
    }

    /// The cache is lost: whoever still wants something begins again.
    pub(crate) fn restart_all(&mut self) {
        while let Some(newest) = self.running.last().copied() {
            self.preempt(newest);
        }
        self.pool.forget();
    }
}
