//! A hash of contents that stays the same over releases and machines: which conversations are held
//! out hangs on it.

/// FNV-1a over pieces of bytes, finished as splitmix64 does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentHash(u64);

impl ContentHash {
    pub(crate) fn new() -> Self {
        ContentHash(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a piece. Its length goes in too, so that "ab", "c" and "a", "bc" differ.
    pub(crate) fn piece(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// The hash of one text.
pub(crate) fn hash_text(text: &str) -> u64 {
    let mut hash = ContentHash::new();
    hash.piece(text.as_bytes());
    hash.finish()
}

/// splitmix64's last step: every bit of the result hangs on every bit of the number. FNV's upper
/// bits alone would not do for comparing with a threshold.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks with: another hash, which would move lines between training and held-out data.
    #[test]
    fn known_values() {
        // FNV-1a of nothing and of "a", splitmix64's first number of seed 0.
        let mut hash = ContentHash::new();
        hash.bytes(b"a");
        assert_eq!(hash.0, 0xaf63_dc4c_8601_ec8c);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    // Breaks with: pieces run together.
    #[test]
    fn where_a_piece_ends_matters() {
        let hash = |pieces: &[&[u8]]| {
            let mut hash = ContentHash::new();
            pieces.iter().for_each(|piece| hash.piece(piece));
            hash.finish()
        };
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"", b"a"]), hash(&[b"a", b""]));
        assert_eq!(hash(&[b"ab"]), hash(&[b"ab"]));
    }
}
