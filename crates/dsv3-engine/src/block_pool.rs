//! Who holds which cache block, and which blocks hold what others may share.

use std::collections::{BTreeSet, HashMap};

/// A block of the latent cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub(crate) u32);

/// Names the tokens of a full block together with all tokens before it. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content(u64);

/// What the chain of every sequence starts from.
pub(crate) const START: Content = Content(0);

/// A block's tokens behind a given content: compared as they are, so that two prefixes can never
/// be taken for one another.
type Key = (Content, Box<[u32]>);

#[derive(Debug, Default)]
struct Block {
    references: u32,
    key: Option<Key>,
    freed_at: u64,
}

/// Blocks with reference counts. A block that nobody holds keeps its content until it is needed,
/// the longest unused first.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    free: BTreeSet<(u64, BlockId)>,
    known: HashMap<Key, (BlockId, Content)>,
    clock: u64,
    next_content: u64,
}

impl BlockPool {
    /// `count` blocks, all free.
    pub fn new(count: usize) -> Self {
        BlockPool {
            blocks: (0..count).map(|_| Block::default()).collect(),
            free: (0..count as u32).map(|i| (0, BlockId(i))).collect(),
            known: HashMap::new(),
            clock: 0,
            next_content: 1,
        }
    }

    /// Blocks that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks in all.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are no blocks at all.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Take a free block for oneself, forgetting what it held.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let (_, id) = self.free.pop_first()?;
        let block = self.blocks.get_mut(id.0 as usize)?;
        block.references = 1;
        if let Some(key) = block.key.take() {
            self.known.remove(&key);
        }
        Some(id)
    }

    /// Give a block back.
    pub fn release(&mut self, id: BlockId) {
        let Some(block) = self.blocks.get_mut(id.0 as usize) else {
            return;
        };
        debug_assert!(block.references > 0, "block {id:?} released once too often");
        block.references = block.references.saturating_sub(1);
        if block.references == 0 {
            self.clock += 1;
            block.freed_at = self.clock;
            self.free.insert((self.clock, id));
        }
    }

    /// Share the cached block that holds `tokens` behind `before`, if there is one.
    pub(crate) fn share(&mut self, before: Content, tokens: &[u32]) -> Option<(BlockId, Content)> {
        let (id, content) = *self.known.get(&(before, tokens.into()))?;
        let block = self.blocks.get_mut(id.0 as usize)?;
        if block.references == 0 {
            self.free.remove(&(block.freed_at, id));
        }
        block.references += 1;
        Some((id, content))
    }

    /// Say that block `id` is now full with `tokens` behind `before`. If another block holds the
    /// same already, that one stays the one to share.
    pub(crate) fn seal(&mut self, id: BlockId, before: Content, tokens: &[u32]) -> Content {
        let key: Key = (before, tokens.into());
        if let Some((_, content)) = self.known.get(&key) {
            return *content;
        }
        let content = Content(self.next_content);
        self.next_content += 1;
        if let Some(block) = self.blocks.get_mut(id.0 as usize) {
            if let Some(old) = block.key.replace(key.clone()) {
                self.known.remove(&old);
            }
            self.known.insert(key, (id, content));
        }
        content
    }

    /// Forget what block `id` holds: nobody may share it any more.
    pub(crate) fn unseal(&mut self, id: BlockId) {
        if let Some(key) = self
            .blocks
            .get_mut(id.0 as usize)
            .and_then(|b| b.key.take())
        {
            self.known.remove(&key);
        }
    }

    /// Forget all contents: the cache behind them is gone.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
        for block in &mut self.blocks {
            block.key = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Breaks with: a block that leaks, is held twice by allocation, or is shared after it
        /// was given to somebody else.
        #[test]
        fn blocks_never_leak(
            count in 1usize..6,
            steps in proptest::collection::vec((0u8..4, 0usize..8, 0u32..3), 0..80),
        ) {
            let mut pool = BlockPool::new(count);
            let mut held: Vec<BlockId> = Vec::new();
            for (step, pick, token) in steps {
                match step {
                    0 => {
                        let full = pool.free() == 0;
                        match pool.allocate() {
                            Some(id) => {
                                prop_assert!(!held.contains(&id), "{:?} is held", id);
                                held.push(id);
                            }
                            None => prop_assert!(full),
                        }
                    }
                    1 if !held.is_empty() => {
                        pool.release(held.swap_remove(pick % held.len()));
                    }
                    2 if !held.is_empty() => {
                        pool.seal(held[pick % held.len()], START, &[token]);
                    }
                    _ => {
                        if let Some((id, _)) = pool.share(START, &[token]) {
                            let key = &pool.blocks[id.0 as usize].key;
                            prop_assert_eq!(key, &Some((START, vec![token].into())));
                            held.push(id);
                        }
                    }
                }
                let distinct: BTreeSet<_> = held.iter().collect();
                prop_assert_eq!(distinct.len() + pool.free(), count);
            }
            for id in held.drain(..) {
                pool.release(id);
            }
            prop_assert_eq!(pool.free(), count);
            prop_assert!(pool.blocks.iter().all(|b| b.references == 0));
        }
    }
}
