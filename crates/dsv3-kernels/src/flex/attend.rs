//! Softmax attention of a few queries over many keys, streamed tile by tile.
//!
//! A tile of keys is met by all queries while it is in the cache; of the scores no more than one
//! tile is held. Each query's sums run over its keys in their order, whatever queries stand beside
//! it.

use std::ops::Range;

use super::decode::{UNIT, padded};
use super::group::reduced;
use super::lanes::{Kernel, LANES, Lanes};
use super::wide::exp;

/// Keys of a tile.
const TILE: usize = 64;

/// Where the keys and values of a sequence come from.
pub(super) trait Source {
    /// Those of the tokens `tile`, whose first one is token 0 of the tables.
    fn tile<L: Lanes>(
        &mut self,
        lanes: L,
        tile: Range<usize>,
    ) -> (Table<'_, [f32; UNIT]>, Table<'_, f32>);
}

/// Keys or values where they lie: rows of `stride`, of which the first `width` count. Token `i` is
/// row `slots[i]`.
#[derive(Clone, Copy)]
pub(super) struct Table<'a, T> {
    pub(super) data: &'a [T],
    pub(super) slots: &'a [usize],
    pub(super) stride: usize,
    pub(super) width: usize,
}

impl<'a, T> Table<'a, T> {
    #[inline(always)]
    fn row(&self, i: usize) -> &'a [T] {
        &self.data[self.slots[i] * self.stride..][..self.width]
    }

    #[inline(always)]
    fn part(&self, tokens: Range<usize>) -> Table<'a, T> {
        Table {
            slots: &self.slots[tokens],
            ..*self
        }
    }
}

/// Keys and values that are f32 already.
pub(super) struct InPlace<'a> {
    pub(super) keys: Table<'a, [f32; UNIT]>,
    pub(super) values: Table<'a, f32>,
}

impl Source for InPlace<'_> {
    #[inline(always)]
    fn tile<L: Lanes>(
        &mut self,
        _: L,
        tile: Range<usize>,
    ) -> (Table<'_, [f32; UNIT]>, Table<'_, f32>) {
        (self.keys.part(tile.clone()), self.values.part(tile))
    }
}

/// What is known of some queries' softmax after some keys.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Largest score so far, for each query.
    max: Vec<f32>,
    /// `Σ e^(score − max)`
    total: Vec<f32>,
    /// `Σ e^(score − max) · value`, `[queries, value]`
    sums: Vec<f32>,
}

impl State {
    /// After no key.
    pub(super) fn new(queries: usize, value: usize) -> Self {
        State {
            max: vec![f32::NEG_INFINITY; queries],
            total: vec![0.0; queries],
            sums: vec![0.0; queries * value],
        }
    }

    /// After the keys of both; `later`'s come behind.
    pub(super) fn merge(&mut self, later: &State) {
        let width = self.sums.len() / self.max.len().max(1);
        for q in 0..self.max.len() {
            let max = self.max[q].max(later.max[q]);
            if max == f32::NEG_INFINITY {
                continue;
            }
            let (a, b) = (exp(self.max[q] - max), exp(later.max[q] - max));
            self.total[q] = self.total[q] * a + later.total[q] * b;
            let theirs = &later.sums[q * width..][..width];
            for (sum, theirs) in self.sums[q * width..][..width].iter_mut().zip(theirs) {
                *sum = *sum * a + theirs * b;
            }
            self.max[q] = max;
        }
    }

    /// The weighted means of the values, `[queries, value]`.
    pub(super) fn means(&self) -> Vec<f32> {
        let width = (self.sums.len() / self.max.len().max(1)).max(1);
        let mut means = self.sums.clone();
        for (means, total) in means.chunks_exact_mut(width).zip(&self.total) {
            means.iter_mut().for_each(|mean| *mean /= total);
        }
        means
    }
}

/// `queries` over the keys of `range`, added to what `state` knows.
pub(super) struct Attend<'a, S> {
    /// `[queries, units]`
    pub(super) queries: &'a [[f32; UNIT]],
    /// For each query, how many keys it sees, counted from key 0.
    pub(super) visible: &'a [usize],
    pub(super) source: S,
    pub(super) range: Range<usize>,
    pub(super) softmax_scale: f32,
    pub(super) state: &'a mut State,
}

impl<S: Source> Kernel for Attend<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let mut source = self.source;
        let mut scores = vec![[0f32; TILE]; self.visible.len()];
        let mut start = self.range.start;
        while start < self.range.end {
            let end = (start + TILE).min(self.range.end);
            let (keys, values) = source.tile(lanes, start..end);
            let mut tile = Tile {
                queries: self.queries,
                visible: self.visible,
                keys,
                values,
                start,
                len: end - start,
                softmax_scale: self.softmax_scale,
                state: &mut *self.state,
            };
            tile.scores(lanes, &mut scores);
            for (q, scores) in scores.iter_mut().enumerate() {
                let seen = self.visible[q].saturating_sub(start).min(end - start);
                tile.soften(lanes, q, &mut scores[..seen]);
                scores[seen..].fill(0.0);
            }
            tile.weigh(lanes, &scores);
            start = end;
        }
    }
}

/// A few keys, and all queries.
struct Tile<'a> {
    queries: &'a [[f32; UNIT]],
    visible: &'a [usize],
    keys: Table<'a, [f32; UNIT]>,
    values: Table<'a, f32>,
    /// Its first key, and how many there are.
    start: usize,
    len: usize,
    softmax_scale: f32,
    state: &'a mut State,
}

impl Tile<'_> {
    /// Scores of all queries against a tile: four keys and up to four queries at a time.
    #[inline(always)]
    fn scores<L: Lanes>(&self, l: L, scores: &mut [[f32; TILE]]) {
        let mut q = self.seer(0);
        while q < scores.len() {
            q += match scores.len() - q {
                1 => self.scores_of::<L, 1>(l, q, scores),
                2 | 3 => self.scores_of::<L, 2>(l, q, scores),
                _ => self.scores_of::<L, 4>(l, q, scores),
            };
            q = self.seer(q);
        }
    }

    /// The first query from `q` on that sees a key of this tile: of a prompt's, half see none.
    #[inline(always)]
    fn seer(&self, q: usize) -> usize {
        let blind = self.visible[q..].iter().take_while(|n| **n <= self.start);
        q + blind.count()
    }

    #[inline(always)]
    fn scores_of<L: Lanes, const Q: usize>(
        &self,
        l: L,
        first: usize,
        scores: &mut [[f32; TILE]],
    ) -> usize {
        const KEYS: usize = 4;
        let units = self.keys.width;
        let queries: [&[[f32; UNIT]]; Q] =
            std::array::from_fn(|q| &self.queries[(first + q) * units..][..units]);
        let mut at = 0;
        while at < self.len {
            let count = (self.len - at).min(KEYS);
            // Where there are fewer than four keys left the last one is taken again.
            let keys: [&[[f32; UNIT]]; KEYS] =
                std::array::from_fn(|k| self.keys.row(at + k.min(count - 1)));
            let mut sums = [[l.splat(0.0); Q]; KEYS];
            for unit in 0..units {
                for (sums, key) in sums.iter_mut().zip(&keys) {
                    let (key, _) = key[unit].as_chunks::<LANES>();
                    let key = [l.load(&key[0]), l.load(&key[1])];
                    for (sum, query) in sums.iter_mut().zip(&queries) {
                        let (query, _) = query[unit].as_chunks::<LANES>();
                        *sum = l.mul_add(key[0], l.load(&query[0]), *sum);
                        *sum = l.mul_add(key[1], l.load(&query[1]), *sum);
                    }
                }
            }
            let totals = reduced(l, &sums);
            for (k, totals) in totals.iter().take(count).enumerate() {
                for (q, total) in totals.iter().enumerate() {
                    scores[first + q][at + k] = total * self.softmax_scale;
                }
            }
            at += count;
        }
        Q
    }

    /// Scores to `e^(score − max)`, and what was summed before to the new maximum.
    #[inline(always)]
    fn soften<L: Lanes>(&mut self, l: L, q: usize, scores: &mut [f32]) {
        let state = &mut self.state;
        let max = largest(scores).max(state.max[q]);
        if scores.is_empty() || max == f32::NEG_INFINITY {
            return;
        }
        let before = state.max[q];
        if max > before {
            let factor = if before == f32::NEG_INFINITY {
                0.0
            } else {
                exp(before - max)
            };
            state.max[q] = max;
            state.total[q] *= factor;
            let width = self.values.width;
            let (lanes, rest) = state.sums[q * width..][..width].as_chunks_mut::<LANES>();
            for sum in lanes {
                *sum = l.store(l.mul(l.load(sum), l.splat(factor)));
            }
            rest.iter_mut().for_each(|sum| *sum *= factor);
        }
        for score in scores.iter_mut() {
            *score = exp(*score - max);
        }
        state.total[q] += sum(scores);
    }

    /// The tile's values, weighed, onto the sums: four queries and four registers at a time.
    #[inline(always)]
    fn weigh<L: Lanes>(&mut self, l: L, scores: &[[f32; TILE]]) {
        let mut q = self.seer(0);
        while q < scores.len() {
            q += match scores.len() - q {
                1 => self.weigh_of::<L, 1>(l, q, scores),
                2 | 3 => self.weigh_of::<L, 2>(l, q, scores),
                _ => self.weigh_of::<L, 4>(l, q, scores),
            };
            q = self.seer(q);
        }
    }

    #[inline(always)]
    fn weigh_of<L: Lanes, const Q: usize>(
        &mut self,
        l: L,
        first: usize,
        scores: &[[f32; TILE]],
    ) -> usize {
        let width = self.values.width;
        let full = width / LANES;
        let mut chunk = 0;
        while chunk < full {
            chunk += match full - chunk {
                1..4 => self.weigh_chunks::<L, Q, 1>(l, first, chunk, scores),
                _ => self.weigh_chunks::<L, Q, 4>(l, first, chunk, scores),
            };
        }
        let rest = full * LANES;
        if rest == width {
            return Q;
        }
        for (q, scores) in scores.iter().enumerate().skip(first).take(Q) {
            let sums = &mut self.state.sums[q * width + rest..(q + 1) * width];
            let mut sum = l.load(&padded(sums));
            for (i, score) in scores.iter().enumerate().take(self.len) {
                let value = l.load(&padded(&self.values.row(i)[rest..]));
                sum = l.mul_add(l.splat(*score), value, sum);
            }
            sums.copy_from_slice(&l.store(sum)[..width - rest]);
        }
        Q
    }

    /// `Q` queries and `C` registers of their sums.
    #[inline(always)]
    fn weigh_chunks<L: Lanes, const Q: usize, const C: usize>(
        &mut self,
        l: L,
        first: usize,
        chunk: usize,
        scores: &[[f32; TILE]],
    ) -> usize {
        let width = self.values.width;
        let at = |q: usize| (first + q) * width + chunk * LANES;
        let mut sums = [[l.splat(0.0); C]; Q];
        for (q, sums) in sums.iter_mut().enumerate() {
            let (from, _) = self.state.sums[at(q)..][..C * LANES].as_chunks::<LANES>();
            for (sum, from) in sums.iter_mut().zip(from) {
                *sum = l.load(from);
            }
        }
        for (i, slot) in self.values.slots.iter().take(self.len).enumerate() {
            let start = slot * self.values.stride + chunk * LANES;
            let (values, _) = self.values.data[start..][..C * LANES].as_chunks::<LANES>();
            let mut lanes = [l.splat(0.0); C];
            for (to, from) in lanes.iter_mut().zip(values) {
                *to = l.load(from);
            }
            for (q, sums) in sums.iter_mut().enumerate() {
                let score = l.splat(scores[first + q][i]);
                for (sum, value) in sums.iter_mut().zip(&lanes) {
                    *sum = l.mul_add(score, *value, *sum);
                }
            }
        }
        for (q, sums) in sums.iter().enumerate() {
            let (to, _) = self.state.sums[at(q)..][..C * LANES].as_chunks_mut::<LANES>();
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = l.store(*sum);
            }
        }
        C
    }
}

/// The largest score, found in sixteen lanes. NaN is passed over.
#[inline(always)]
fn largest(scores: &[f32]) -> f32 {
    let (lanes, rest) = scores.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for lane in lanes.iter().chain([&filled(rest, f32::NEG_INFINITY)]) {
        for (most, score) in most.iter_mut().zip(lane) {
            *most = if *score > *most { *score } else { *most };
        }
    }
    most.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The scores added up in sixteen lanes.
#[inline(always)]
fn sum(scores: &[f32]) -> f32 {
    let (lanes, rest) = scores.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for lane in lanes.iter().chain([&filled(rest, 0.0)]) {
        for (sum, score) in sums.iter_mut().zip(lane) {
            *sum += score;
        }
    }
    sums.into_iter().sum()
}

/// The values with `filler` behind them.
#[inline(always)]
fn filled(rest: &[f32], filler: f32) -> [f32; LANES] {
    let mut to = [filler; LANES];
    to[..rest.len()].copy_from_slice(rest);
    to
}

#[cfg(test)]
mod tests;
