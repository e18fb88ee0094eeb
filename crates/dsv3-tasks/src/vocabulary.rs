//! A byte-level BPE trained on the corpus, in the form of V3.1's `tokenizer.json`.
//!
//! Everything but the merges is V3.1's: pre-tokenizer, post-processor, decoder, the names of the
//! control tokens, their order and flags. Two things differ, each for a reason:
//! - V3.1's 796 placeholders are left out: they name nothing.
//! - No merge of digits is learnt, so a number is read and written digit by digit. V3.1 has tokens
//!   for up to three digits, which split 12345 into 123 and 45: a model of a few million parameters
//!   would have to learn sums of a thousand such tokens, aligned from the wrong end.

use dsv3_tokenizer::Special;
use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::utils::ProgressFormat;
use tokenizers::{
    AddedToken, Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, PreTokenizerWrapper, Trainer,
};

use crate::error::TasksError;

/// The first ids, in order.
const FRONT: [Special; 3] = [Special::Bos, Special::Eos, Special::Pad];

/// What follows the vocabulary, in V3.1's order (its ids 128796 to 128814).
const BACK: [Special; 19] = [
    Special::SearchBegin,
    Special::SearchEnd,
    Special::ThinkBegin,
    Special::ThinkEnd,
    Special::FimHole,
    Special::FimBegin,
    Special::FimEnd,
    Special::User,
    Special::Assistant,
    Special::Eot,
    Special::ToolCallsBegin,
    Special::ToolCallsEnd,
    Special::ToolCallBegin,
    Special::ToolCallEnd,
    Special::ToolOutputsBegin,
    Special::ToolOutputsEnd,
    Special::ToolOutputBegin,
    Special::ToolOutputEnd,
    Special::ToolSep,
];

/// The file's `special` flag: what `skip_special_tokens` drops from a text.
fn is_flagged(special: Special) -> bool {
    FRONT.contains(&special) || special == Special::Eot
}

/// V3.1's pre-tokenizer: groups of digits, runs of Chinese and Japanese, words with one mark or
/// space before them, runs of marks, runs of spaces; then bytes.
fn pre_tokenizer() -> Value {
    let split = |pattern: &str| {
        json!({
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": false,
        })
    };
    json!({
        "type": "Sequence",
        "pretokenizers": [
            split(r"\p{N}{1,3}"),
            split("[一-龥\u{3040}-ゟ゠-ヿ]+"),
            split(concat!(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"##,
                "\r\n",
                r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[",
                "\r\n",
                r"]*|\s*[",
                "\r\n",
                r"]+|\s+(?!\S)|\s+",
            )),
            {
                "type": "ByteLevel",
                "add_prefix_space": false,
                "trim_offsets": true,
                "use_regex": false,
            },
        ],
    })
}

/// The text of a `tokenizer.json` with `entries` entries in all, trained on `texts`: the control
/// tokens, the 256 bytes, and merges by their frequency. The same texts give the same file; their
/// order is of no matter.
///
/// # Errors
/// [`TasksError::Tokenizer`] where `entries` is too small for control tokens and bytes, or the
/// texts are too few for so many merges.
pub fn train_tokenizer(
    texts: impl Iterator<Item = String> + Send,
    entries: usize,
) -> Result<String, TasksError> {
    let failed = |problem: String| TasksError::Tokenizer(problem);
    let least = FRONT.len() + ByteLevel::alphabet().len() + BACK.len();
    if entries < least {
        return Err(failed(format!(
            "{entries} entries are too few: control tokens and bytes alone are {least}"
        )));
    }

    let pre_tokenizer_file = pre_tokenizer();
    let splitter: PreTokenizerWrapper = serde_json::from_value(pre_tokenizer_file.clone())
        .map_err(|error| failed(error.to_string()))?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(entries - BACK.len())
        .special_tokens(
            FRONT
                .map(|special| AddedToken::from(special.name(), true))
                .to_vec(),
        )
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .progress_format(ProgressFormat::Silent)
        .build();
    trainer
        .feed(texts, |text| {
            let mut pieces = PreTokenizedString::from(text);
            splitter.pre_tokenize(&mut pieces)?;
            let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
            // The pre-tokenizer cuts numbers out, so nothing else is lost with them.
            Ok(pieces
                .into_iter()
                .filter(|(piece, ..)| !piece.contains(|c: char| c.is_ascii_digit()))
                .map(|(piece, ..)| piece.to_owned())
                .collect())
        })
        .map_err(|error| failed(error.to_string()))?;
    let mut model = BPE::default();
    trainer
        .train(&mut model)
        .map_err(|error| failed(error.to_string()))?;

    let got = model.get_vocab_size() + BACK.len();
    if got < entries {
        return Err(failed(format!(
            "the texts give {got} entries of the {entries} wanted; train on more text or ask for fewer"
        )));
    }
    let file = tokenizer_file(pre_tokenizer_file, model)?;
    serde_json::to_string_pretty(&file).map_err(|error| failed(error.to_string()))
}

/// The file's fields in V3.1's order.
fn tokenizer_file(pre_tokenizer: Value, model: BPE) -> Result<Value, TasksError> {
    let model = serde_json::to_value(ModelWrapper::BPE(model))
        .map_err(|error| TasksError::Tokenizer(error.to_string()))?;
    let base = model["vocab"].as_object().map_or(0, Map::len);
    // V3.1's file has a merge as one string; byte-level tokens have no space in them.
    let merges: Vec<Value> = model["merges"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| match (pair[0].as_str(), pair[1].as_str()) {
            (Some(left), Some(right)) => Value::String(format!("{left} {right}")),
            _ => pair.clone(),
        })
        .collect();

    let added = FRONT
        .into_iter()
        .chain(BACK)
        .enumerate()
        .map(|(at, special)| {
            let id = if at < FRONT.len() {
                at
            } else {
                base + at - FRONT.len()
            };
            json!({
                "id": id,
                "content": special.name(),
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": !FRONT.contains(&special),
                "special": is_flagged(special),
            })
        });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "ByteLevel",
            "add_prefix_space": true,
            "trim_offsets": false,
            "use_regex": true,
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": true,
            "trim_offsets": true,
            "use_regex": true,
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": model["vocab"],
            "merges": merges,
        },
    }))
}

/// The text of a `tokenizer_config.json` with V3.1's fields. The padding token is EOS, as there.
pub fn tokenizer_config(chat_template: &str, model_max_length: usize) -> String {
    let token = |special: Special| {
        json!({
            "__type": "AddedToken",
            "content": special.name(),
            "lstrip": false,
            "normalized": true,
            "rstrip": false,
            "single_word": false,
        })
    };
    let config = json!({
        "add_bos_token": true,
        "add_eos_token": false,
        "bos_token": token(Special::Bos),
        "clean_up_tokenization_spaces": false,
        "eos_token": token(Special::Eos),
        "legacy": true,
        "model_max_length": model_max_length,
        "pad_token": token(Special::Eos),
        "sp_model_kwargs": {},
        "unk_token": null,
        "tokenizer_class": "LlamaTokenizerFast",
        "chat_template": chat_template,
    });
    format!("{config:#}")
}

#[cfg(test)]
mod tests;
