//! The tokens among which one draw is made, put in order only as far as anyone looks.

use std::cmp::Ordering;

/// A token that may be drawn. Its place in the order is by logit, descending, then by id.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// After penalties and biases, before temperature.
    logit: f32,
    id: u32,
    /// exp((logit − max) / temperature): 1 for the most probable token, never 0.
    weight: f64,
}

fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Which candidates to keep, apart from the row they come from. A value that keeps all is `1.0` for
/// the sums, `0.0` for `min_p`, `None` for `top_k`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters {
    /// Above 0.
    pub(crate) temperature: f64,
    pub(crate) top_k: Option<usize>,
    pub(crate) typical_p: f64,
    pub(crate) top_p: f64,
    pub(crate) min_p: f64,
}

impl Filters {
    /// A weight below which no token of a row of `len` can survive, so that it need not be stored.
    ///
    /// Weights below `min_p` go anyway, the largest weight being 1. For top-p: `len` tokens below
    /// `(1 − p) / len` weigh less than `1 − p` together, which is at most `1 − p` of the whole (the
    /// whole weighs at least 1), so the others already reach `p`. At p = 0.95 and 129,280 rows
    /// this leaves the tokens within 14.8 of the largest logit, some hundreds in practice.
    ///
    /// Top-k and typical-p change what the others are relative to, so with them all are stored.
    fn floor(&self, len: usize) -> f64 {
        if self.top_k.is_some() || self.typical_p < 1.0 {
            return 0.0;
        }
        // A hair lower, so that rounding in the sums cannot matter.
        self.min_p.max((1.0 - self.top_p) / len as f64 * 0.999)
    }
}

/// The candidates of one step, a scratch buffer that lives as long as its sampler.
///
/// Whatever the filters, the draw goes over the kept tokens in order of rank. Since that order is
/// total, the result does not depend on how much of it was established, and a partial selection
/// gives the same token as a full sort.
#[derive(Debug, Default, Clone)]
pub(crate) struct Candidates {
    items: Vec<Candidate>,
    /// Items before this index stand in their final places; none after ranks before any of them.
    ranked: usize,
    /// Items before this index are kept.
    kept: usize,
    /// Sum of the kept items' weights.
    mass: f64,
}

impl Candidates {
    /// Fills the buffer from a row of logits whose largest is `max`, and applies the filters:
    /// temperature, top-k, typical-p, top-p, min-p, each on what the one before left.
    pub(crate) fn select(&mut self, logits: &[f32], max: f32, filters: &Filters) {
        let mut mass = self.fill(logits, max, filters);
        if let Some(k) = filters.top_k.filter(|&k| k < self.items.len()) {
            self.items.select_nth_unstable_by(k - 1, by_rank);
            self.items.truncate(k);
            mass = self.items.iter().map(|c| c.weight).sum();
        }
        if filters.typical_p < 1.0 {
            mass = self.keep_typical(filters, max, mass);
        }
        (self.kept, self.mass) = (self.items.len(), mass);
        if filters.top_p < 1.0 || filters.min_p > 0.0 {
            self.keep_head(filters, mass);
        }
    }

    /// The kept token whose share of the line from 0 to 1, cut in order of rank, holds `u`.
    pub(crate) fn pick(&mut self, u: f64) -> Option<u32> {
        let target = u * self.mass;
        let mut sum = 0.0;
        let mut last = None;
        for rank in 0..self.kept {
            let Some(candidate) = self.at(rank) else {
                break;
            };
            sum += candidate.weight;
            last = Some(candidate.id);
            if sum > target {
                break;
            }
        }
        // Rounding may leave the sum a hair below the mass: then the last one it is.
        last
    }

    /// The kept tokens by rank with their probabilities.
    pub(crate) fn distribution(&mut self) -> Vec<(u32, f64)> {
        let (kept, mass) = (self.kept, self.mass);
        (0..kept)
            .map_while(|rank| self.at(rank))
            .map(|c| (c.id, c.weight / mass))
            .collect()
    }

    /// Takes in what could be drawn; returns the weight of the whole row.
    fn fill(&mut self, logits: &[f32], max: f32, filters: &Filters) -> f64 {
        let floor = filters.floor(logits.len());
        self.items.clear();
        self.ranked = 0;
        let mut mass = 0.0;
        for (id, &logit) in logits.iter().enumerate() {
            let weight = scaled(logit, max, filters.temperature).exp();
            mass += weight;
            // Also drops what is masked or too improbable for any f64.
            if weight > 0.0 && weight >= floor {
                self.items.push(Candidate {
                    logit,
                    id: id as u32,
                    weight,
                });
            }
        }
        mass
    }

    /// Locally typical sampling; returns the weight of what stays.
    ///
    /// A token's surprise is −ln q with q = weight / mass, and the entropy is the mean surprise.
    /// The normaliser cancels out of their difference: with s = (logit − max) / temperature it is
    /// the distance of s from its own mean, so that neither a logarithm nor an exponential is
    /// needed to sort by it.
    fn keep_typical(&mut self, filters: &Filters, max: f32, mass: f64) -> f64 {
        let score = |c: &Candidate| scaled(c.logit, max, filters.temperature);
        let mean = self.items.iter().map(|c| c.weight * score(c)).sum::<f64>() / mass;
        let distance = |c: &Candidate| (score(c) - mean).abs();
        let by_distance = |a: &Candidate, b: &Candidate| {
            distance(a)
                .total_cmp(&distance(b))
                .then_with(|| by_rank(a, b))
        };
        let (mut sum, mut count, mut ordered) = (0.0, 0, 0);
        while count < self.items.len() && sum < filters.typical_p * mass {
            if count == ordered {
                order_further(&mut self.items, &mut ordered, by_distance);
            }
            sum += self.items[count].weight;
            count += 1;
        }
        self.items.truncate(count);
        sum
    }

    /// Top-p and min-p: both keep a head of the order, so one walk finds where it ends.
    fn keep_head(&mut self, filters: &Filters, mass: f64) {
        let target = if filters.top_p < 1.0 {
            filters.top_p * mass
        } else {
            f64::INFINITY
        };
        let (mut sum, mut count) = (0.0, 0);
        let mut least = 0.0;
        while let Some(candidate) = self.at(count) {
            if count == 0 {
                // Not always 1: typical-p may have taken the most probable token away.
                least = filters.min_p * candidate.weight;
            }
            if candidate.weight < least {
                break;
            }
            sum += candidate.weight;
            count += 1;
            if sum >= target {
                break;
            }
        }
        (self.kept, self.mass) = (count, sum);
    }

    /// The candidate of a rank, putting more of them in order if need be.
    fn at(&mut self, rank: usize) -> Option<Candidate> {
        if rank >= self.ranked && rank < self.items.len() {
            order_further(&mut self.items, &mut self.ranked, by_rank);
        }
        self.items.get(rank).copied()
    }
}

/// The exponent of a token's weight: 0 for the largest logit, below 0 for the others.
fn scaled(logit: f32, max: f32, temperature: f64) -> f64 {
    (f64::from(logit) - f64::from(max)) / temperature
}

/// Puts the next part of `items` into its final order: 64 at first, then three times what is
/// there, so that a walk that ends early costs little and one that goes on costs one sort.
fn order_further<F>(items: &mut [Candidate], ordered: &mut usize, compare: F)
where
    F: Fn(&Candidate, &Candidate) -> Ordering + Copy,
{
    let rest = &mut items[*ordered..];
    let count = (*ordered * 3).max(64).min(rest.len());
    if count < rest.len() {
        rest.select_nth_unstable_by(count - 1, compare);
    }
    rest[..count].sort_unstable_by(compare);
    *ordered += count;
}
