//! Choices that depend on a seed and on nothing else.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of choices. The same seed and stream give the same choices on every machine.
#[derive(Debug, Clone)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// Stream `stream` of seed `seed`; streams of one seed have nothing to do with each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Draw(rng)
    }

    /// A number below `n`, 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        // The bias of a product's upper half is n / 2^64: nothing here notices it.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(usize::try_from(high - low + 1).unwrap_or_default()) as i64
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `items`; the default where there is none.
    pub fn pick<T: Clone + Default>(&mut self, items: &[T]) -> T {
        items
            .get(self.below(items.len()))
            .cloned()
            .unwrap_or_default()
    }

    /// A number from 0 to just below 1.
    pub fn fraction(&mut self) -> f64 {
        // 53 bits: all that a double holds.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `items` in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: another generator or another way of making a number from its bits. All that
    /// is drawn would change with it, the committed corpus too.
    #[test]
    fn the_stream_is_pinned() {
        let mut draw = Draw::new(7, 3);
        let drawn: Vec<usize> = (0..8).map(|_| draw.below(1000)).collect();
        assert_eq!(drawn, [181, 92, 979, 334, 351, 384, 919, 328]);
        assert_eq!(draw.below(1 << 32), 392_882_896);
    }

    /// Breaks with: a bound that is left out or gone past, a shuffle that loses something.
    #[test]
    fn choices_keep_to_their_bounds() {
        let mut draw = Draw::new(1, 0);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            let n = draw.between(-2, 2);
            seen[(n + 2) as usize] = true;
            assert!((0.0..1.0).contains(&draw.fraction()));
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(
            (draw.below(0), draw.below(1), draw.between(4, 4)),
            (0, 0, 4)
        );
        assert_eq!(draw.pick::<u8>(&[]), 0);
        let mut items: Vec<u8> = (0..20).collect();
        draw.shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..20));
    }

    /// Breaks with: streams of one seed that follow each other.
    #[test]
    fn streams_differ() {
        let first = |seed, stream| Draw::new(seed, stream).below(usize::MAX);
        assert_eq!(first(1, 1), first(1, 1));
        assert_ne!(first(1, 1), first(1, 2));
        assert_ne!(first(1, 1), first(2, 1));
    }
}
