//! Decoding as the ids come, whole characters only.

use std::sync::Arc;

use crate::vocabulary::{Kind, Vocabulary};
use crate::{Result, TokenId, Tokenizer};

/// Turns bytes that come in pieces into text that comes in pieces, holding back the start of a
/// character until its end is there. What the pieces add up to is
/// [`String::from_utf8_lossy`] of all bytes together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Utf8Stream {
    /// The beginning of one character: never more than three bytes between calls.
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Takes bytes and appends to `text` the characters that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.held.extend_from_slice(bytes);
        let mut rest = self.held.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    match error.error_len() {
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = rest.get(bad..).unwrap_or_default();
                        }
                        // The start of a character whose end may still come.
                        None => break,
                    }
                }
            }
        }
        self.held = rest.to_vec();
    }

    /// Gives up waiting: an unfinished character becomes one U+FFFD.
    pub(crate) fn finish(&mut self, text: &mut String) {
        if !self.held.is_empty() {
            self.held.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Decodes ids one at a time. What it gives, put together, is what
/// [`Tokenizer::decode`] gives for all ids at once; no piece ever holds half a character.
#[derive(Clone)]
pub struct StreamDecoder {
    vocabulary: Arc<Vocabulary>,
    skip_special: bool,
    utf8: Utf8Stream,
}

impl StreamDecoder {
    /// A decoder that writes control tokens out.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        StreamDecoder {
            vocabulary: Arc::clone(tokenizer.vocabulary()),
            skip_special: false,
            utf8: Utf8Stream::default(),
        }
    }

    /// Leaves out what [`Tokenizer::decode_skip_special`] leaves out.
    #[must_use]
    pub fn skip_special(mut self) -> Self {
        self.skip_special = true;
        self
    }

    /// Takes an id; gives the text that it completes, if any.
    ///
    /// # Errors
    /// [`Error::UnknownId`](crate::Error::UnknownId); the decoder can be used on.
    pub fn push(&mut self, id: TokenId) -> Result<Option<String>> {
        let (bytes, kind) = self.vocabulary.token(id)?;
        if self.skip_special && kind == (Kind::Added { hidden: true }) {
            return Ok(None);
        }
        let mut text = String::new();
        self.utf8.push(bytes, &mut text);
        Ok((!text.is_empty()).then_some(text))
    }

    /// Ends the stream: an unfinished character comes out as U+FFFD. The decoder is then as new.
    pub fn finish(&mut self) -> Option<String> {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // Breaks if a cut inside a character, or bytes that are no UTF-8, change the text.
        #[test]
        fn pieces_add_up_to_the_whole(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..5),
                "\\PC{0,2}".prop_map(String::into_bytes),
                Just("💡".as_bytes()[..2].to_vec()),
                Just("💡".as_bytes()[2..].to_vec()),
            ], 0..24),
        ) {
            let mut stream = Utf8Stream::default();
            let mut text = String::new();
            for piece in &pieces {
                stream.push(piece, &mut text);
                prop_assert!(stream.held.len() <= 3);
            }
            stream.finish(&mut text);
            prop_assert_eq!(text, String::from_utf8_lossy(&pieces.concat()).into_owned());
        }
    }
}
