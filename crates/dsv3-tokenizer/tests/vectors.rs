//! The published vocabulary, against vectors made with Hugging Face's tokenizers.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use common::{TOKENIZER, fixture};
use dsv3_tokenizer::StreamDecoder;
use proptest::prelude::*;

/// Breaks with: another pre-tokenizer, another merge order, added tokens matched differently.
#[test]
fn twenty_six_vectors() {
    let text = std::fs::read_to_string(fixture("tokenizer/tokenizer_golden.json")).unwrap();
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(vectors.len(), 26);
    for vector in vectors {
        let text = vector["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(vector["ids"].clone()).unwrap();
        assert_eq!(
            TOKENIZER.encode_with_special(text).unwrap(),
            ids,
            "{text:?}"
        );
        if vector["roundtrip"] == true {
            assert_eq!(TOKENIZER.decode(&ids).unwrap(), text);
        }
    }
}

/// Breaks with: a vocabulary size that counts rows of the head instead of tokens.
#[test]
fn special_tokens_have_the_published_ids() {
    let special = TOKENIZER.special();
    assert_eq!((special.bos, special.eos), (0, 1));
    assert_eq!(TOKENIZER.token_to_id("<think>"), Some(128_798));
    assert_eq!(TOKENIZER.token_to_id("<｜search▁begin｜>"), Some(128_796));
    assert_eq!(TOKENIZER.vocab_size(), 128_815);
}

/// Text made of letters, other scripts, and pieces of control tokens.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z0-9 .,\n]{0,8}",
        "\\PC{0,6}",
        Just("<｜Assistant｜>".to_owned()),
        Just("<｜tool▁call▁begin｜>".to_owned()),
        Just("</think>".to_owned()),
        Just("<think".to_owned()),
        Just("<｜".to_owned()),
        Just("▁of▁sentence｜>".to_owned()),
        Just("<|EOT|>".to_owned()),
        Just("你好👩‍👩‍👧".to_owned()),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Breaks with: a user who can type a control token.
    #[test]
    fn text_never_becomes_a_control_token(text in text()) {
        let ids = TOKENIZER.encode(&text).unwrap();
        prop_assert!(ids.iter().all(|id| !TOKENIZER.is_control(*id)), "{:?}", ids);
        prop_assert_eq!(TOKENIZER.decode(&ids).unwrap(), text);
    }

    /// Breaks with: half a character given out, or lost at the end.
    #[test]
    fn a_stream_gives_the_whole_text_in_whole_characters(text in text()) {
        for ids in [TOKENIZER.encode(&text).unwrap(), TOKENIZER.encode_with_special(&text).unwrap()] {
            let mut decoder = StreamDecoder::new(&TOKENIZER);
            let mut streamed = String::new();
            for id in &ids {
                let piece = decoder.push(*id).unwrap().unwrap_or_default();
                let half = '\u{fffd}';
                prop_assert!(!piece.contains(half) || text.contains(half), "half a character");
                streamed.push_str(&piece);
            }
            streamed.push_str(&decoder.finish().unwrap_or_default());
            prop_assert_eq!(&streamed, &text);
        }
    }
}

/// Breaks with: bytes that are no character held back for ever.
#[test]
fn a_cut_off_character_is_replaced_at_the_end() {
    let ids = TOKENIZER.encode("👩").unwrap();
    assert!(ids.len() > 1, "the emoji spans tokens");
    let mut decoder = StreamDecoder::new(&TOKENIZER);
    assert_eq!(decoder.push(ids[0]).unwrap(), None);
    assert_eq!(decoder.finish().as_deref(), Some("\u{fffd}"));
}

/// Breaks with: an id beyond the vocabulary that panics or decodes to something.
#[test]
fn unknown_ids_are_refused() {
    for id in [128_815, u32::MAX - 1, u32::MAX] {
        let error = TOKENIZER.decode(&[0, id]).unwrap_err();
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        assert_eq!(TOKENIZER.id_to_token(id), None);
        let mut stream = StreamDecoder::new(&TOKENIZER);
        assert!(stream.push(id).is_err());
        assert_eq!(stream.push(19923).unwrap().as_deref(), Some("Hello"));
    }
}
