//! Something said before: questions of other kinds, with their answers, in front of an example.
//!
//! A conversation goes from one thing to the next. What was said before is given, not learnt from;
//! its reasoning is gone, as the format drops it from turns that are past.

use dsv3_tokenizer::{Segment, Special};

use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split};
use crate::generate::generate;

/// Kinds whose questions are short and stand alone.
const KINDS: [Kind; 8] = [
    Kind::Arithmetic,
    Kind::Comparing,
    Kind::Sorting,
    Kind::Counting,
    Kind::Reversing,
    Kind::Dates,
    Kind::Units,
    Kind::Facts,
];

/// Put one or two questions with their answers before an example, where it can have them: not
/// before long texts, lists of tools or code, nor where a system message says how to answer.
pub(crate) fn put_before(example: &mut Example, draw: &mut Draw) -> Result<(), TasksError> {
    if matches!(
        example.kind,
        Kind::Buried | Kind::Tools | Kind::Fim | Kind::System
    ) {
        return Ok(());
    }
    let Some(first) = example.turns.first_mut() else {
        return Ok(());
    };
    let Some(user) = user_begins(&first.given) else {
        return Ok(());
    };
    let mut before = Vec::new();
    for _ in 0..draw.between(1, 2) {
        before.extend(exchange(draw)?);
    }
    first.given.splice(user..user, before);
    Ok(())
}

/// A question of the training part and its answer, from the user's mark to EOS.
fn exchange(draw: &mut Draw) -> Result<Vec<Segment>, TasksError> {
    loop {
        let mut asked = generate(KINDS[draw.below(KINDS.len())], Mode::Nothink, draw)?;
        if asked.split != Split::Train {
            continue;
        }
        let Some(turn) = asked.turns.pop() else {
            continue;
        };
        if let Some(user) = user_begins(&turn.given) {
            let mut segments = turn.given;
            segments.drain(..user);
            segments.extend(turn.answer);
            return Ok(segments);
        }
    }
}

/// Where the first user's text begins, its mark included.
fn user_begins(given: &[Segment]) -> Option<usize> {
    let user = Segment::Special(Special::User);
    given.iter().position(|segment| *segment == user)
}

#[cfg(test)]
mod tests {
    use dsv3_tokenizer::{Message, RenderOptions, render};

    use super::*;
    use crate::example::spell;
    use crate::testing::sample;

    /// The messages of a text as the format writes them.
    fn messages(text: &str) -> Vec<Message> {
        let text = text.strip_prefix("<｜begin▁of▁sentence｜>").unwrap();
        let mut parts = text.split("<｜User｜>");
        let system = parts.next().filter(|system| !system.is_empty());
        let mut messages: Vec<Message> = system.map(Message::system).into_iter().collect();
        for part in parts {
            let (user, said) = part.split_once("<｜Assistant｜>").unwrap();
            messages.push(Message::user(user));
            if let Some(said) = said.strip_suffix("<｜end▁of▁sentence｜>") {
                messages.push(Message::assistant(said.strip_prefix("</think>").unwrap()));
            }
        }
        messages
    }

    /// Breaks with: a history that the format would write in another way, one that stands before
    /// the system message, or one without its answers.
    #[test]
    fn a_history_reads_as_the_format_writes_it() {
        let mut longer = 0;
        for kind in [Kind::Arithmetic, Kind::Facts, Kind::Search, Kind::MultiTurn] {
            for (stream, mut example) in sample(kind, Mode::Think, 300).into_iter().enumerate() {
                let plain = spell(&example.turns[0].given);
                put_before(&mut example, &mut Draw::new(1, stream as u64)).unwrap();
                let given = spell(&example.turns[0].given);
                let again = render(&messages(&given), &[], &RenderOptions::to_generate(true));
                assert_eq!(again.unwrap().to_text(), given);
                let asked = plain.rsplit_once("<｜User｜>").unwrap().1;
                assert!(given.ends_with(asked), "{given}");
                longer += usize::from(given.len() > plain.len() + 40);
            }
        }
        assert!(longer > 1000, "{longer} of 1200");
    }

    /// Breaks with: a list of tools, a text to be read or a system message's rule pushed away from
    /// what is asked about it.
    #[test]
    fn some_kinds_have_no_history() {
        for (kind, mode) in [
            (Kind::Tools, Mode::Nothink),
            (Kind::Buried, Mode::Think),
            (Kind::Fim, Mode::Raw),
            (Kind::System, Mode::Think),
        ] {
            let mut example = sample(kind, mode, 1).remove(0);
            let plain = example.clone();
            put_before(&mut example, &mut Draw::new(1, 1)).unwrap();
            assert_eq!(example, plain);
        }
    }
}
