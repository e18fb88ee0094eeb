//! Softmax attention of a few queries over many keys, streamed tile by tile.
//!
//! A tile of keys is met by all queries while it is in the cache; of the scores no more than one
//! tile is held. Each query's sums run over its keys in their order, whatever queries stand beside
//! it.

use std::ops::Range;

use super::decode::{UNIT, padded};
use super::group::{ROWS, reduced};
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

    /// The weighted mean of the values for query `q`, `[value]`.
    pub(super) fn mean(&self, q: usize) -> impl Iterator<Item = f32> + '_ {
        let (width, total) = (self.sums.len() / self.max.len().max(1), self.total[q]);
        self.sums[q * width..][..width]
            .iter()
            .map(move |sum| sum / total)
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
    /// Scores of all queries against a tile: four keys and up to four queries at a time, or two and
    /// three where lanes take more than one register.
    #[inline(always)]
    fn scores<L: Lanes>(&self, l: L, scores: &mut [[f32; TILE]]) {
        let mut q = self.seer(0);
        while q < scores.len() {
            q += match (scores.len() - q, L::IS_WIDE) {
                (1, _) => self.scores_of::<L, 1, ROWS>(l, q, scores),
                (2, false) => self.scores_of::<L, 2, 2>(l, q, scores),
                (_, false) => self.scores_of::<L, 3, 2>(l, q, scores),
                (2 | 3, _) => self.scores_of::<L, 2, ROWS>(l, q, scores),
                _ => self.scores_of::<L, 4, ROWS>(l, q, scores),
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

    /// `Q` queries, `K` keys at a time; says how many queries that were.
    #[inline(always)]
    fn scores_of<L: Lanes, const Q: usize, const K: usize>(
        &self,
        l: L,
        first: usize,
        scores: &mut [[f32; TILE]],
    ) -> usize {
        let units = self.keys.width;
        // Written out, as below: closures of `from_fn` are calls.
        let mut queries = [&self.queries[first * units..][..units]; Q];
        for (q, query) in queries.iter_mut().enumerate() {
            *query = &self.queries[(first + q) * units..][..units];
        }
        let mut at = 0;
        while at < self.len {
            let count = (self.len - at).min(ROWS);
            let mut all = [[l.splat(0.0); Q]; ROWS];
            for (part, all) in all.as_chunks_mut::<K>().0.iter_mut().enumerate() {
                // Where there are fewer than four keys left the last one is taken again.
                let mut keys = [&self.keys.row(at)[..units]; K];
                for (k, key) in keys.iter_mut().enumerate() {
                    *key = &self.keys.row(at + (part * K + k).min(count - 1))[..units];
                }
                let mut sums = [[l.splat(0.0); Q]; K];
                for unit in 0..units {
                    for half in 0..2 {
                        let mut values = [l.splat(0.0); Q];
                        for (value, query) in values.iter_mut().zip(&queries) {
                            *value = l.load(&query[unit].as_chunks::<LANES>().0[half]);
                        }
                        for (key, sums) in keys.iter().zip(&mut sums) {
                            let key = l.load(&key[unit].as_chunks::<LANES>().0[half]);
                            for (sum, value) in sums.iter_mut().zip(&values) {
                                *sum = l.mul_add(key, *value, *sum);
                            }
                        }
                    }
                }
                *all = sums;
            }
            let totals = reduced(l, &all);
            for (scores, totals) in scores[first..first + Q].iter_mut().zip(&totals) {
                for (score, total) in scores[at..at + count].iter_mut().zip(totals) {
                    *score = total * self.softmax_scale;
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

    /// The tile's values, weighed, onto the sums: four queries and four times sixteen lanes at a
    /// time, or six and sixteen where lanes take more than one register.
    #[inline(always)]
    fn weigh<L: Lanes>(&mut self, l: L, scores: &[[f32; TILE]]) {
        let mut q = self.seer(0);
        while q < scores.len() {
            q += match (scores.len() - q, L::IS_WIDE) {
                (1, _) => self.weigh_of::<L, 1>(l, q, scores),
                (2 | 3, _) => self.weigh_of::<L, 2>(l, q, scores),
                (4 | 5, _) | (_, true) => self.weigh_of::<L, 4>(l, q, scores),
                _ => self.weigh_of::<L, 6>(l, q, scores),
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
            chunk += match (full - chunk, L::IS_WIDE) {
                (4.., true) => self.weigh_chunks::<L, Q, 4>(l, first, chunk, scores),
                (2.., false) if Q <= 2 => self.weigh_chunks::<L, Q, 2>(l, first, chunk, scores),
                _ => self.weigh_chunks::<L, Q, 1>(l, first, chunk, scores),
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

    /// `Q` queries and `C` times sixteen lanes of their sums.
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
        let mut weights = [&scores[first]; Q];
        for (q, weights) in weights.iter_mut().enumerate() {
            *weights = &scores[first + q];
        }
        // No more than there are weights, which the loop need not look at then.
        let slots = &self.values.slots[..self.len.min(TILE)];
        for (i, slot) in slots.iter().enumerate() {
            let start = slot * self.values.stride + chunk * LANES;
            let (values, _) = self.values.data[start..][..C * LANES].as_chunks::<LANES>();
            let mut lanes = [l.splat(0.0); C];
            for (to, from) in lanes.iter_mut().zip(values) {
                *to = l.load(from);
            }
            for (weights, sums) in weights.iter().zip(&mut sums) {
                let score = l.splat(weights[i]);
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
