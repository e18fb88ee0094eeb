//! Uniform numbers by position rather than by turn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Seed;

/// Fills the key behind the 8 bytes of the seed. Changing it changes every seeded text.
const DOMAIN: &[u8; 24] = b"dsv3-sampling draws, v1\0";

/// A sequence's uniform numbers: a function of the seed and the position, without state.
///
/// ChaCha8 is a block cipher run over a counter, so any number of the stream can be had directly:
/// position `p` reads the 32-bit words `2p` and `2p + 1`. A sequence that was set aside and comes
/// back, or that is begun again from its middle, therefore draws what it would have drawn. Its
/// output is fixed by its definition and the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: Seed) -> Self {
        let mut key = [0u8; 32];
        let (head, tail) = key.split_at_mut(8);
        head.copy_from_slice(&seed.0.to_le_bytes());
        tail.copy_from_slice(DOMAIN);
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Goes over to another of the seed's 2^64 independent sequences of numbers.
    pub(crate) fn set_stream(&mut self, stream: u64) {
        self.0.set_stream(stream);
    }

    /// The number of a position, from 0 up to but not including 1, in steps of 2^-53.
    pub(crate) fn at(&mut self, position: usize) -> f64 {
        self.0.set_word_pos(2 * position as u128);
        // 53 bits are what an f64 between 0 and 1 holds evenly.
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks when seeded texts would change between releases. The numbers are from a second
    // ChaCha8, written from its definition.
    #[test]
    fn numbers_are_those_of_chacha8() {
        let mut draws = Draws::new(Seed(42));
        let got = [0, 1, 2, 1000].map(|position| draws.at(position));
        let want = [
            0.9939902936130242,
            0.6516626333023282,
            0.7884120224415954,
            0.6466095953704285,
        ];
        assert_eq!(got, want);
        draws.set_stream(7);
        assert_eq!(draws.at(5), 0.444418186552054);
    }

    // Breaks when a draw depends on the draws before it.
    #[test]
    fn order_of_asking_does_not_matter() {
        let mut forward = Draws::new(Seed(1));
        let ahead: Vec<f64> = (0..50).map(|p| forward.at(p)).collect();
        let mut backward = Draws::new(Seed(1));
        let mut behind: Vec<f64> = (0..50).rev().map(|p| backward.at(p)).collect();
        behind.reverse();
        assert_eq!(ahead, behind);
    }

    // Breaks when seeds or the answers of one request share their numbers.
    #[test]
    fn seeds_and_streams_differ() {
        let first = |seed, stream| {
            let mut draws = Draws::new(Seed(seed));
            draws.set_stream(stream);
            draws.at(0).to_bits()
        };
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1));
    }

    // Breaks when a draw can reach 1, past the end of the last token's share, or is lopsided.
    #[test]
    fn numbers_are_uniform_below_one() {
        let mut draws = Draws::new(Seed(3));
        let mut counts = [0u32; 16];
        for position in 0..16_000 {
            let u = draws.at(position);
            assert!((0.0..1.0).contains(&u));
            counts[(u * 16.0) as usize] += 1;
        }
        // Chi-square with 15 degrees of freedom exceeds 44.3 once in 10,000 seeds.
        let chi2: f64 = counts
            .iter()
            .map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0)
            .sum();
        assert!(chi2 < 44.3, "{chi2}");
    }
}
