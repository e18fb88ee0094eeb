//! `tokenizer.json`: text to ids and back.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tokenizers::{DecoderWrapper, ModelWrapper};

use crate::special::SpecialTokens;
use crate::vocabulary::{Kind, Vocabulary};
use crate::{Error, Result, TokenId};

/// V3.1's file has under 8 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// DeepSeek-V3.1's byte-level BPE, or any other with the same token names.
///
/// A clone is cheap: it shares the tables.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    /// As the file says: added tokens are found in the text.
    marked: tokenizers::Tokenizer,
    /// The same model without added tokens: text is nothing but text.
    plain: tokenizers::Tokenizer,
    vocabulary: Arc<Vocabulary>,
}

/// The part of the file that is compared with what the library made of it.
#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: TokenId,
    content: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read, is over 256 MiB, is no byte-level BPE, or lacks one of the
    /// token names that the chat format needs ([`Special::is_required`](crate::Special::is_required)).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_limited(path, MAX_FILE_BYTES)?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    /// Reads the contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse("tokenizer.json", bytes)
    }

    fn parse(origin: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |problem: String| Error::TokenizerFile {
            origin: origin.to_owned(),
            problem,
        };
        let declared: Declared =
            serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        let mut marked =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| bad(error.to_string()))?;

        // The library numbers added tokens itself; the model was trained with the file's numbers.
        for token in &declared.added_tokens {
            if marked.token_to_id(&token.content) != Some(token.id) {
                return Err(bad(format!(
                    "the added token `{}` is declared with id {} but would get {:?}; ids of added tokens must follow the vocabulary without gaps, each token once",
                    token.content,
                    token.id,
                    marked.token_to_id(&token.content),
                )));
            }
        }
        match marked.get_model() {
            ModelWrapper::BPE(bpe) if bpe.dropout.is_some_and(|p| p > 0.0) => {
                return Err(bad("its BPE drops merges at random (`dropout`)".to_owned()));
            }
            ModelWrapper::BPE(_) => {}
            _ => return Err(bad("its model is not BPE".to_owned())),
        }
        if !matches!(marked.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(bad("its decoder is not ByteLevel".to_owned()));
        }

        // Neither may cut or lengthen a prompt behind the caller's back.
        marked
            .with_truncation(None)
            .map_err(|error| bad(error.to_string()))?;
        marked.with_padding(None);

        let mut plain = tokenizers::Tokenizer::new(marked.get_model().clone());
        plain.with_pre_tokenizer(marked.get_pre_tokenizer().cloned());
        plain
            .with_normalizer(marked.get_normalizer().cloned())
            .map_err(|error| bad(error.to_string()))?;

        let added = marked.get_added_vocabulary().get_added_tokens_decoder();
        let vocabulary = Vocabulary::new(
            origin,
            &marked.get_vocab(false),
            added.iter().map(|(&id, token)| (id, token)),
        )?;
        Ok(Tokenizer {
            inner: Arc::new(Inner {
                marked,
                plain,
                vocabulary: Arc::new(vocabulary),
            }),
        })
    }

    /// The ids of a text that is nothing but text: `<｜Assistant｜>` becomes the tokens of those
    /// characters, never the control token. No BOS is added.
    ///
    /// # Errors
    /// [`Error::Encode`] if the pre-tokenizer's expressions fail.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        let ids = run(&self.inner.plain, text)?;
        let vocabulary = &self.inner.vocabulary;
        if !ids.iter().any(|&id| vocabulary.is_added(id)) {
            return Ok(ids);
        }
        // Only where a vocabulary's own merges build an added token: V3.1's don't.
        let mut spelled = Vec::with_capacity(ids.len());
        for id in ids {
            if vocabulary.is_added(id) {
                spelled.extend(vocabulary.spelled_out(id)?);
            } else {
                spelled.push(id);
            }
        }
        Ok(spelled)
    }

    /// The ids of a text in which the names of added tokens stand for those tokens, as Hugging
    /// Face encodes. Only for text that no stranger wrote. No BOS is added.
    ///
    /// # Errors
    /// [`Error::Encode`] if the pre-tokenizer's expressions fail.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<TokenId>> {
        run(&self.inner.marked, text)
    }

    /// [`Tokenizer::encode_with_special`] with one BOS in front, unless the text brings its own.
    ///
    /// # Errors
    /// [`Error::Encode`] if the pre-tokenizer's expressions fail.
    pub fn encode_raw_prompt(&self, text: &str) -> Result<Vec<TokenId>> {
        let bos = self.special().bos;
        let mut ids = self.encode_with_special(text)?;
        if ids.first() != Some(&bos) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text of some ids, control tokens written out. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::UnknownId`].
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        Ok(into_text(self.bytes(ids, false)?))
    }

    /// Like [`Tokenizer::decode`], without the tokens that the file flags `special`, as Hugging
    /// Face's `skip_special_tokens`. In V3.1's file those are BOS, EOS, padding, placeholders and
    /// `<|EOT|>`; `<think>`, `<｜User｜>` and the tool tokens are not flagged and stay.
    ///
    /// # Errors
    /// [`Error::UnknownId`].
    pub fn decode_skip_special(&self, ids: &[TokenId]) -> Result<String> {
        Ok(into_text(self.bytes(ids, true)?))
    }

    /// The bytes of some ids, control tokens written out.
    ///
    /// # Errors
    /// [`Error::UnknownId`].
    pub fn decode_bytes(&self, ids: &[TokenId]) -> Result<Vec<u8>> {
        self.bytes(ids, false)
    }

    fn bytes(&self, ids: &[TokenId], skip_special: bool) -> Result<Vec<u8>> {
        let mut all = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let (bytes, kind) = self.inner.vocabulary.token(id)?;
            if !(skip_special && kind == (Kind::Added { hidden: true })) {
                all.extend_from_slice(bytes);
            }
        }
        Ok(all)
    }

    /// The id of a token as the file spells it (a space is `Ġ`), added tokens included.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.inner.marked.token_to_id(token)
    }

    /// A token as the file spells it (a space is `Ġ`).
    pub fn id_to_token(&self, id: TokenId) -> Option<String> {
        self.inner.marked.id_to_token(id)
    }

    /// The highest id plus one. The model's logits may have more rows: those are padding.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocabulary.len()
    }

    /// Whether an id is an added token, so a control token as far as this crate is concerned.
    pub fn is_control(&self, id: TokenId) -> bool {
        self.inner.vocabulary.is_added(id)
    }

    /// The ids of the named control tokens.
    pub fn special(&self) -> &SpecialTokens {
        &self.inner.vocabulary.special
    }

    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.inner.vocabulary
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

fn run(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<TokenId>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| Error::Encode {
            problem: error.to_string(),
        })?;
    Ok(encoding.get_ids().to_vec())
}

fn into_text(bytes: Vec<u8>) -> String {
    match String::from_utf8_lossy(&bytes) {
        Cow::Owned(text) => text,
        // The bytes were UTF-8: nothing is lost here.
        Cow::Borrowed(text) => text.to_owned(),
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let too_large = |bytes| Error::TooLarge {
        what: path.display().to_string(),
        bytes,
        limit,
    };
    let size = file.metadata().map_err(failed)?.len();
    if size > limit {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    // A pipe or a growing file reports less than it gives.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}
