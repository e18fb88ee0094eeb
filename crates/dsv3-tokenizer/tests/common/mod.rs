//! What several test files share.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::sync::LazyLock;

use dsv3_tokenizer::{Special, TokenId, Tokenizer};
use serde_json::{Value, json};

/// The published vocabulary.
pub static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_file(fixture("tokenizer/tokenizer.json")).unwrap());

/// A vocabulary of a few hundred tokens with V3.1's names under other ids.
pub static SMALL: LazyLock<Tokenizer> = LazyLock::new(|| load(&small()).unwrap());

pub fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub fn load(file: &Value) -> dsv3_tokenizer::Result<Tokenizer> {
    Tokenizer::from_bytes(file.to_string().as_bytes())
}

/// The characters that stand for the 256 bytes, in the bytes' order.
pub fn alphabet() -> Vec<char> {
    let mut next = 0x100;
    (0..=255u32)
        .map(|byte| match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from_u32(byte).unwrap(),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect()
}

/// A small tokenizer file. The first control tokens are also in the BPE's vocabulary, as trainers
/// leave them; the others come after it. `<think>` is even built by merges, the worst that a
/// trained vocabulary could do.
pub fn small() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut add = |token: &str| {
        let id = vocab.len() as TokenId;
        vocab.entry(token.to_owned()).or_insert(json!(id));
    };
    let (early, late) = Special::ALL.split_at(4);
    early.iter().rev().for_each(|special| add(special.name()));
    // Backwards, so that no id equals its byte.
    alphabet().iter().rev().for_each(|c| add(&c.to_string()));
    let merges = [
        ["t", "h"],
        ["th", "e"],
        ["Ġ", "the"],
        ["i", "n"],
        ["in", "k"],
        ["th", "ink"],
        ["<", "think"],
        ["<think", ">"],
    ];
    merges.iter().for_each(|[a, b]| add(&format!("{a}{b}")));
    let mut next = vocab.len() as TokenId;
    let added: Vec<Value> = early
        .iter()
        .chain(late.iter().rev())
        .map(|special| {
            let known = vocab.get(special.name()).and_then(Value::as_u64);
            let id = known.map_or(next, |id| id as TokenId);
            next += TokenId::from(known.is_none());
            json!({
                "id": id, "content": special.name(), "special": *special as u8 <= 2,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": merges,
        },
    })
}
