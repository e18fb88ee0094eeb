//! Any vocabulary with V3.1's token names works; files that lie are refused.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use common::{SMALL, TOKENIZER, alphabet, load, small};
use dsv3_tokenizer::{
    Error, FinishReason, Message, Prompt, RenderOptions, Special, StreamDecoder, Tokenizer,
    parse_ids, render,
};
use proptest::prelude::*;
use serde_json::json;

/// Breaks with: an id taken from V3.1's file instead of the one at hand.
#[test]
fn ids_come_from_the_file() {
    let special = SMALL.special();
    for token in Special::ALL {
        let id = special.id(token).unwrap();
        assert_eq!(SMALL.token_to_id(token.name()), Some(id));
        assert_eq!(SMALL.decode(&[id]).unwrap(), token.name());
        assert_eq!(special.special(id), Some(token));
        assert!(SMALL.is_control(id));
        assert_ne!(TOKENIZER.special().id(token), Some(id), "{token:?}");
    }
    assert_eq!(special.id(Special::Eot), special.eot);
    assert!(SMALL.vocab_size() < 400);
}

/// Breaks with: a renderer or a parser that works on V3.1's ids only.
#[test]
fn a_conversation_goes_round() {
    let messages = [Message::system("the <think>"), Message::user("in?")];
    let options = RenderOptions::to_generate(true);
    let prompt = render(&messages, &[], &options).unwrap();
    let ids = prompt.to_ids(&SMALL).unwrap();
    assert_eq!(SMALL.decode(&ids).unwrap(), prompt.to_text());
    assert_eq!(ids.first(), Some(&SMALL.special().bos));
    let answer = "so</think>the<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>";
    let ids = SMALL.encode_with_special(answer).unwrap();
    let parsed = parse_ids(&SMALL, &ids, prompt.mode(), FinishReason::Stop).unwrap();
    assert_eq!(parsed.reasoning_content.as_deref(), Some("so"));
    assert_eq!(parsed.content, "the");
    assert_eq!(parsed.tool_calls.len(), 1);
}

/// Breaks with: HF's skip_special_tokens misread as "drop every added token".
#[test]
fn only_flagged_tokens_are_skipped() {
    for tokenizer in [&*SMALL, &*TOKENIZER] {
        let text = "<｜begin▁of▁sentence｜><｜User｜>hi<think><｜end▁of▁sentence｜>";
        let ids = tokenizer.encode_with_special(text).unwrap();
        assert_eq!(ids.len(), tokenizer.encode("hi").unwrap().len() + 4);
        let shown = "<｜User｜>hi<think>";
        assert_eq!(tokenizer.decode_skip_special(&ids).unwrap(), shown);
        let mut stream = StreamDecoder::new(tokenizer).skip_special();
        let pieces: Vec<_> = ids
            .iter()
            .filter_map(|&id| stream.push(id).unwrap())
            .collect();
        assert_eq!(pieces.concat(), shown);
    }
}

/// Breaks with: a raw prompt with two BOS, or none.
#[test]
fn a_raw_prompt_has_one_bos() {
    let bos = SMALL.special().bos;
    for text in ["the", "<｜begin▁of▁sentence｜>the"] {
        let ids = SMALL.encode_raw_prompt(text).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == bos).count(), 1);
        assert_eq!(ids.first(), Some(&bos));
    }
}

proptest! {
    /// Breaks with: merges that build a control token out of a user's letters, or bytes that
    /// encoding loses.
    #[test]
    fn text_stays_text_even_where_merges_build_a_control_token(
        text in prop::collection::vec(
            prop_oneof!["\\PC{0,4}", Just("<think>".to_owned()), Just("<｜User｜>".to_owned()), "[a-z<> ]{0,6}"],
            0..8,
        ).prop_map(|pieces| pieces.concat()),
    ) {
        let ids = SMALL.encode(&text).unwrap();
        prop_assert!(ids.iter().all(|&id| !SMALL.is_control(id)));
        prop_assert_eq!(SMALL.decode(&ids).unwrap(), text);
    }
}

/// Breaks with: a missing control token found out in the middle of a chat.
#[test]
fn a_missing_control_token_is_named() {
    for special in Special::ALL {
        let mut file = small();
        // The merge that builds `<think>` would miss its result.
        file["model"]["merges"].as_array_mut().unwrap().pop();
        let name = serde_json::to_string(special.name()).unwrap();
        let file = file.to_string().replace(&name, "\"<gone>\"");
        let file = serde_json::from_str(&file).unwrap();
        match load(&file) {
            Ok(tokenizer) => {
                assert!(!special.is_required(), "{special:?}");
                assert_eq!(tokenizer.special().id(special), None);
            }
            Err(error @ Error::MissingSpecial { .. }) => {
                assert!(special.is_required(), "{special:?}");
                assert!(error.to_string().contains(special.name()), "{error}");
            }
            Err(error) => panic!("{special:?}: {error}"),
        }
        if special == Special::FimHole {
            let prompt = Prompt::fim("a", "b");
            let error = prompt.to_ids(&load(&file).unwrap()).unwrap_err();
            assert!(error.to_string().contains("<｜fim▁hole｜>"), "{error}");
        }
    }
}

/// What a refused file is told.
fn refusal(file: &serde_json::Value) -> String {
    load(file).unwrap_err().to_string()
}

/// Breaks with: a size taken from the file before it is looked at.
#[test]
fn attack_an_id_of_four_billion() {
    let mut file = small();
    file["model"]["vocab"]["Ġthe"] = json!(u32::MAX);
    assert!(refusal(&file).contains("4294967295"), "{}", refusal(&file));
}

/// Breaks with: two tokens under one id, of which decoding would show one.
#[test]
fn attack_two_tokens_share_an_id() {
    let mut file = small();
    file["model"]["vocab"]["Ġthe"] = file["model"]["vocab"]["th"].clone();
    assert!(
        refusal(&file).contains("share the id"),
        "{}",
        refusal(&file)
    );
}

/// Breaks with: an added token that the library renumbers without a word.
#[test]
fn attack_an_added_token_with_a_gap_before_its_id() {
    let mut file = small();
    let last = file["added_tokens"].as_array_mut().unwrap().last_mut();
    last.unwrap()["id"] = json!(5000);
    assert!(refusal(&file).contains("5000"), "{}", refusal(&file));
}

/// Breaks with: a byte that encoding drops without a word.
#[test]
fn attack_a_byte_without_a_token() {
    let mut file = small();
    let newline = alphabet()[b'\n' as usize].to_string();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove(&newline).unwrap();
    vocab.insert("Ġunused".to_owned(), id);
    assert!(refusal(&file).contains("0x0A"), "{}", refusal(&file));
}

/// Breaks with: a vocabulary of another kind decoded as byte-level all the same.
#[test]
fn attack_another_decoder_or_model_or_dropout() {
    let mut file = small();
    file["decoder"] = json!({"type": "Fuse"});
    assert!(refusal(&file).contains("ByteLevel"));
    let mut file = small();
    file["model"]["dropout"] = json!(0.1);
    assert!(refusal(&file).contains("dropout"));
    let mut file = small();
    file["model"] =
        json!({"type": "WordLevel", "vocab": file["model"]["vocab"], "unk_token": "th"});
    assert!(refusal(&file).contains("BPE"));
}

/// Breaks with: truncation or padding in the file that shortens or lengthens a prompt.
#[test]
fn attack_truncation_and_padding_in_the_file() {
    let mut file = small();
    file["truncation"] = json!({
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0,
    });
    file["padding"] = json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "x",
    });
    let tokenizer = load(&file).unwrap();
    assert_eq!(
        tokenizer.encode_with_special("hello").unwrap(),
        SMALL.encode_with_special("hello").unwrap()
    );
}

/// Breaks with: a panic on what is no tokenizer file, or is cut off.
#[test]
fn attack_files_that_are_cut_off_or_something_else() {
    let whole = small().to_string();
    for end in (0..whole.len()).step_by(97) {
        let bytes = whole.as_bytes().get(..end).unwrap();
        assert!(Tokenizer::from_bytes(bytes).is_err());
    }
    for other in ["", "{}", "[]", "null", "\u{0}", r#"{"version":"1.0"}"#] {
        assert!(Tokenizer::from_bytes(other.as_bytes()).is_err(), "{other}");
    }
    let nested = "[".repeat(10 << 20);
    assert!(Tokenizer::from_bytes(nested.as_bytes()).is_err());
}

/// Breaks with: a file of any size read into memory; a path left out of the message.
#[test]
fn attack_a_file_too_large_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let error = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    // Sparse: it takes no room on the disk.
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = Tokenizer::from_file(&path).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

/// Breaks with: texts that make the pre-tokenizer's expressions backtrack without end or give up.
#[test]
fn attack_long_runs_of_one_character() {
    for piece in [" ", "\n", "a", "1", "!", "｜", "你", "\u{301}", "<", " \t"] {
        let text = piece.repeat(200_000) + "x";
        let ids = TOKENIZER.encode(&text).unwrap();
        assert_eq!(TOKENIZER.decode(&ids).unwrap(), text, "{piece:?}");
    }
}
