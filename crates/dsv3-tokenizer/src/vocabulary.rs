//! The table from ids to bytes that decoding needs.

use std::collections::HashMap;

use tokenizers::AddedToken;

use crate::special::SpecialTokens;
use crate::{Error, Result, TokenId};

/// Ids above this are refused before a table is sized by them. V3.1 has 128,815.
const MAX_ID: TokenId = (1 << 24) - 1;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No token has this id.
    Absent,
    /// A token of the byte-level BPE.
    Text,
    /// An added token; `hidden` is the file's `special` flag, which decides whether
    /// `skip_special_tokens` drops it.
    Added { hidden: bool },
}

/// Every token's bytes, its kind, and the named control tokens.
pub(crate) struct Vocabulary {
    /// All tokens' bytes, one after the other.
    bytes: Vec<u8>,
    /// Where the bytes of id `i` start; one more entry marks the end.
    starts: Vec<usize>,
    kinds: Vec<Kind>,
    /// The ids of the 256 one-byte tokens.
    byte_ids: Vec<Option<TokenId>>,
    pub(crate) special: SpecialTokens,
}

impl Vocabulary {
    /// Builds the table from the tokens of the BPE and the added ones, which go first where both
    /// name an id.
    pub(crate) fn new<'a>(
        origin: &str,
        base: &HashMap<String, TokenId>,
        added: impl Iterator<Item = (TokenId, &'a AddedToken)>,
    ) -> Result<Self> {
        let bad = |problem: String| Error::TokenizerFile {
            origin: origin.to_owned(),
            problem,
        };
        let added: HashMap<TokenId, &AddedToken> = added.collect();
        let highest = base.values().chain(added.keys()).copied().max();
        let highest = highest.ok_or_else(|| bad("its vocabulary is empty".to_owned()))?;
        if highest > MAX_ID {
            return Err(bad(format!(
                "the id {highest} is above {MAX_ID}, the highest accepted"
            )));
        }

        let size = highest as usize + 1;
        let mut texts: Vec<Option<&str>> = vec![None; size];
        for (text, &id) in base {
            // `id` is at most `highest`, which sized the table.
            if let Some(other) = texts[id as usize].replace(text) {
                return Err(bad(format!(
                    "`{text}` and `{other}` share the id {id}; ids must be distinct"
                )));
            }
        }

        let alphabet = byte_of_char();
        let mut vocabulary = Vocabulary {
            bytes: Vec::new(),
            starts: Vec::with_capacity(size + 1),
            kinds: Vec::with_capacity(size),
            byte_ids: vec![None; 256],
            special: SpecialTokens::find(origin, |name| {
                added
                    .iter()
                    .find_map(|(&id, token)| (token.content == name).then_some(id))
            })?,
        };
        for (id, text) in (0..=highest).zip(texts) {
            let start = vocabulary.bytes.len();
            vocabulary.starts.push(start);
            let kind = match (added.get(&id), text) {
                (Some(token), _) => {
                    vocabulary.bytes.extend_from_slice(token.content.as_bytes());
                    Kind::Added {
                        hidden: token.special,
                    }
                }
                (None, Some(text)) => {
                    let bytes: Option<Vec<u8>> =
                        text.chars().map(|c| alphabet.get(&c).copied()).collect();
                    match bytes {
                        Some(bytes) => vocabulary.bytes.extend(bytes),
                        // As Hugging Face's ByteLevel decoder does with what is not in its
                        // alphabet.
                        None => vocabulary.bytes.extend_from_slice(text.as_bytes()),
                    }
                    if let [byte] = vocabulary.bytes[start..] {
                        vocabulary.byte_ids[byte as usize] = Some(id);
                    }
                    Kind::Text
                }
                (None, None) => Kind::Absent,
            };
            vocabulary.kinds.push(kind);
        }
        vocabulary.starts.push(vocabulary.bytes.len());

        // Without its one-byte token a byte would vanish in encoding without a word.
        for byte in (0..=0xFFu8).filter(|byte| may_occur_in_utf8(*byte)) {
            if vocabulary.byte_ids[byte as usize].is_none() {
                return Err(bad(format!(
                    "no token stands for the single byte 0x{byte:02X}, so some texts could not be encoded; train it with the whole byte-level alphabet"
                )));
            }
        }
        Ok(vocabulary)
    }

    /// The highest id plus one.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The bytes that a token stands for, and its kind.
    pub(crate) fn token(&self, id: TokenId) -> Result<(&[u8], Kind)> {
        let at = id as usize;
        match (self.kinds.get(at), self.starts.get(at..at + 2)) {
            (Some(&kind), Some(&[start, end])) if kind != Kind::Absent => {
                Ok((&self.bytes[start..end], kind))
            }
            _ => Err(Error::UnknownId {
                id,
                vocab_size: self.len(),
            }),
        }
    }

    /// Whether `id` is an added token, so one that no text of a user may turn into.
    pub(crate) fn is_added(&self, id: TokenId) -> bool {
        matches!(self.kinds.get(id as usize), Some(Kind::Added { .. }))
    }

    /// The ids that spell a token's bytes one by one.
    pub(crate) fn spelled_out(&self, id: TokenId) -> Result<impl Iterator<Item = TokenId> + '_> {
        let (bytes, _) = self.token(id)?;
        // The constructor has checked that each byte of a text has its id.
        Ok(bytes
            .iter()
            .filter_map(|&byte| self.byte_ids[byte as usize]))
    }
}

/// Whether a byte can be part of UTF-8 text at all.
fn may_occur_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xC0 | 0xC1 | 0xF5..=0xFF)
}

/// GPT-2's byte-level alphabet, turned around: printable Latin-1 stands for itself, the other
/// bytes for U+0100 and up in their order.
fn byte_of_char() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=0xFFu8)
        .filter_map(|byte| {
            let code = match byte {
                b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
                _ => {
                    next += 1;
                    next - 1
                }
            };
            char::from_u32(code).map(|c| (c, byte))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks if the alphabet differs from GPT-2's: every non-ASCII character would decode wrong.
    #[test]
    fn the_alphabet_is_a_bijection_with_gpt2s_known_points() {
        let alphabet = byte_of_char();
        assert_eq!(alphabet.len(), 256);
        let bytes: std::collections::HashSet<u8> = alphabet.values().copied().collect();
        assert_eq!(bytes.len(), 256);
        for (c, byte) in [
            ('Ġ', b' '),
            ('Ċ', b'\n'),
            ('ĉ', b'\t'),
            ('A', b'A'),
            ('ł', 0xA0),
        ] {
            assert_eq!(alphabet.get(&c), Some(&byte), "{c}");
        }
    }
}
