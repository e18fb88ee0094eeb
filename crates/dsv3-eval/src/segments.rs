//! A task's segments as ids, and where they leave the model.

use dsv3_tokenizer::{Error, Mode, Segment, Special, SpecialTokens, TokenId, Tokenizer};

/// The ids of `segments`. Texts that stand next to each other are one text, as in a prompt:
/// encoded apart they would have other ids.
pub(crate) fn to_ids(segments: &[Segment], tokenizer: &Tokenizer) -> Result<Vec<TokenId>, Error> {
    let mut ids = Vec::new();
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Text(more) => text.push_str(more),
            Segment::Special(special) => {
                ids.extend(tokenizer.encode(&std::mem::take(&mut text))?);
                ids.push(tokenizer.special().require(*special)?);
            }
        }
    }
    ids.extend(tokenizer.encode(&text)?);
    Ok(ids)
}

/// The segments as one string, control tokens written out.
pub(crate) fn to_text(segments: &[Segment]) -> String {
    let part = |segment: &'_ Segment| match segment {
        Segment::Special(special) => special.name().to_owned(),
        Segment::Text(text) => text.clone(),
    };
    segments.iter().map(part).collect()
}

/// In which channel a sequence goes on after `ids`: reasoning that a search interrupted goes on
/// as reasoning.
pub(crate) fn mode_after(ids: &[TokenId], special: &SpecialTokens) -> Mode {
    let last = ids.iter().rev().find_map(|id| match special.special(*id) {
        Some(Special::ThinkBegin) => Some(Mode::Thinking),
        Some(Special::ThinkEnd | Special::Eos | Special::User) => Some(Mode::NonThinking),
        _ => None,
    });
    last.unwrap_or_default()
}
