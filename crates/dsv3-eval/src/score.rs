//! From what the model wrote in a turn to right or wrong, with a reason.

use std::collections::BTreeSet;

use dsv3_tasks::Check;
use dsv3_tokenizer::{
    Error, FinishReason, Mode, Parsed, Special, TokenId, Tokenizer, Unfinished, parse_ids,
};
use serde_json::{Number, Value};

/// What a model wrote in one turn.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Its ids, the one that ended it included.
    pub ids: &'a [TokenId],
    /// In which channel it began.
    pub mode: Mode,
    /// The control token that ended it, `None` where the limit of tokens did.
    pub ended: Option<Special>,
}

/// Whether a turn is right, and what else is counted about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is wrong; `None` where it is right.
    pub wrong: Option<String>,
    /// Whether the turn was given to the model at all.
    pub given: bool,
    /// Searches asked for, unfinished ones included.
    pub searches: usize,
    /// Tool calls written, unfinished ones included.
    pub calls: usize,
    /// Those of them that are closed and whose arguments are a JSON object.
    pub valid_calls: usize,
    /// The names of the calls are the expected ones, in order.
    pub right_tools: bool,
}

impl Verdict {
    /// Whether the turn is right.
    pub fn right(&self) -> bool {
        self.wrong.is_none()
    }

    /// Of a turn that could not be given to the model.
    pub fn not_given(why: impl Into<String>) -> Self {
        Verdict {
            wrong: Some(why.into()),
            ..Verdict::default()
        }
    }
}

/// Score one turn. `stop` is the token at which it had to end.
///
/// # Errors
/// [`Error::UnknownId`] for ids that the tokenizer doesn't know.
pub fn score(
    check: &Check,
    stop: Special,
    written: Written<'_>,
    tokenizer: &Tokenizer,
) -> Result<Verdict, Error> {
    if let Check::Raw { text } = check {
        return raw(text, stop, written, tokenizer);
    }
    let reason = match written.ended {
        Some(_) => FinishReason::Stop,
        None => FinishReason::Length,
    };
    let parsed = parse_ids(tokenizer, written.ids, written.mode, reason)?;
    let mut verdict = count(check, &parsed);
    verdict.wrong = form(check, stop, written, &parsed)
        .or_else(|| content(check, &parsed))
        .map(|wrong| wrong.replace('\n', "⏎"));
    Ok(verdict)
}

/// Fill-in-the-middle: the text before the token that ends it, to the letter.
fn raw(
    text: &str,
    stop: Special,
    written: Written<'_>,
    tokenizer: &Tokenizer,
) -> Result<Verdict, Error> {
    let body = match (written.ended, written.ids.split_last()) {
        (Some(_), Some((_, body))) => body,
        _ => written.ids,
    };
    let got = tokenizer.decode(body)?;
    let wrong = unended(stop, written.ended)
        .or_else(|| (got != text).then(|| format!("the text is {got:?}, not {text:?}")));
    Ok(Verdict {
        wrong,
        given: true,
        ..Verdict::default()
    })
}

fn count(check: &Check, parsed: &Parsed) -> Verdict {
    let unfinished = |search: bool| {
        let of_kind = move |u: &&Unfinished| matches!(u, Unfinished::Search { .. }) == search;
        parsed.unfinished.iter().filter(of_kind).count()
    };
    let is_object = |text: &str| matches!(serde_json::from_str(text), Ok(Value::Object(_)));
    let calls = &parsed.tool_calls;
    Verdict {
        wrong: None,
        given: true,
        searches: parsed.search_queries.len() + unfinished(true),
        calls: calls.len() + unfinished(false),
        valid_calls: calls.iter().filter(|c| is_object(&c.arguments)).count(),
        right_tools: match check {
            Check::ToolCalls { calls: wanted } => {
                let names = calls.iter().map(|call| call.name.as_str());
                unfinished(false) == 0 && names.eq(wanted.iter().map(|(name, _)| name.as_str()))
            }
            _ => calls.is_empty(),
        },
    }
}

/// How the answer ended, where that is wrong. `<|EOT|>` is an end as good as EOS.
fn unended(stop: Special, ended: Option<Special>) -> Option<String> {
    match ended {
        None => Some("it did not end".to_owned()),
        Some(Special::Eot) if stop == Special::Eos => None,
        Some(ended) if ended == stop => None,
        Some(Special::SearchEnd) => Some("it asked for a search".to_owned()),
        Some(_) if stop == Special::SearchEnd => Some("it did not ask for a search".to_owned()),
        Some(other) => Some(format!("it ended with {}", other.name())),
    }
}

/// What is wrong whatever the answer says: a wrong end, things left open, a control token where
/// none belongs, a search or a call where none is asked for.
fn form(check: &Check, stop: Special, written: Written<'_>, parsed: &Parsed) -> Option<String> {
    if let Some(wrong) = unended(stop, written.ended) {
        return Some(match parsed.search_queries.last() {
            Some(query) if written.ended == Some(Special::SearchEnd) => {
                format!("{wrong}: {query:?}")
            }
            _ => wrong,
        });
    }
    if let Some(open) = parsed.unfinished.first() {
        return Some(format!("it left something open: {open:?}"));
    }
    if let Some(stray) = parsed.stray_tokens.first() {
        return Some(format!("{stray} stands where it has no place"));
    }
    let searches = !matches!(check, Check::Search { .. }) && !parsed.search_queries.is_empty();
    if searches {
        return Some(format!("it searched for {:?}", parsed.search_queries));
    }
    let calls = !matches!(check, Check::ToolCalls { .. }) && !parsed.tool_calls.is_empty();
    calls.then(|| format!("it called {}", names(parsed)))
}

fn names(parsed: &Parsed) -> String {
    let names = parsed.tool_calls.iter().map(|call| call.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// What the answer itself says.
fn content(check: &Check, parsed: &Parsed) -> Option<String> {
    let got = parsed.content.trim();
    match check {
        Check::Exact { answer } => {
            (got != answer.trim()).then(|| format!("the answer is {got:?}, not {answer:?}"))
        }
        Check::Contains { answer, citations } => {
            let text = without_citations(got);
            let cited: BTreeSet<usize> = dsv3_tokenizer::citations(got).into_iter().collect();
            let wanted: BTreeSet<usize> = citations.iter().copied().collect();
            if !contains_word(&text, answer) {
                Some(format!("the answer {got:?} does not hold {answer:?}"))
            } else if cited != wanted {
                Some(format!("it cites {cited:?}, not {wanted:?}"))
            } else {
                None
            }
        }
        Check::ToolCalls { calls } => tool_calls(calls, parsed),
        Check::Search { query } => match parsed.search_queries.as_slice() {
            [one] if one.trim().to_lowercase() == query.trim().to_lowercase() => None,
            others => Some(format!("the queries are {others:?}, not {query:?}")),
        },
        Check::Raw { .. } => None, // scored without parsing
    }
}

fn tool_calls(wanted: &[(String, Value)], parsed: &Parsed) -> Option<String> {
    let got = &parsed.tool_calls;
    if got.len() != wanted.len() {
        let or_nothing = |names: String| match names.is_empty() {
            true => "nothing".to_owned(),
            false => names,
        };
        let expected = wanted.iter().map(|(name, _)| name.as_str());
        let expected = or_nothing(expected.collect::<Vec<_>>().join(", "));
        let called = or_nothing(names(parsed));
        return Some(format!("it called {called}, not {expected}"));
    }
    got.iter().zip(wanted).find_map(|(got, (name, arguments))| {
        if got.name != *name {
            return Some(format!("it called {}, not {name}", got.name));
        }
        match serde_json::from_str::<Value>(&got.arguments) {
            Ok(value) if same_json(&value, arguments) => None,
            Ok(value) => Some(format!("{name} got {value}, not {arguments}")),
            Err(_) => Some(format!("{name} got no JSON: {:?}", got.arguments)),
        }
    })
}

/// Whether two JSON values are the same: `1` is `1.0`, and members of an object have no order.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| same_json(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => a == b,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    // Whole numbers past 2^53 may differ and still have the same f64.
    let whole = |n: &Number| n.is_i64() || n.is_u64();
    match whole(a) && whole(b) {
        true => a == b,
        false => a.as_f64() == b.as_f64(),
    }
}

/// The text without its `[citation:N]` marks: their numbers are not what the answer says.
fn without_citations(text: &str) -> String {
    let mut parts = text.split("[citation:");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let numbers = |c: char| c.is_ascii_digit() || c == ',' || c == ' ';
        match part.split_once(']') {
            // What the mark kept apart stays apart.
            Some((inside, behind)) if inside.chars().all(numbers) => plain += &format!(" {behind}"),
            _ => plain += part,
        }
    }
    plain
}

/// Whether `word` stands in `text` as a whole: not within a longer word, nor within a longer
/// number (`5` is not in `15`, `5.2`, `1,500` or `-5`).
fn contains_word(text: &str, word: &str) -> bool {
    let word = word.trim();
    let (Some(first), Some(last)) = (word.chars().next(), word.chars().next_back()) else {
        return text.is_empty();
    };
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().chars().rev();
        let after = text.get(at + word.len()..).unwrap_or_default().chars();
        !goes_on(first, before, true) && !goes_on(last, after, false)
    })
}

/// Whether the word or number whose outermost character is `edge` goes on in `outside`, the
/// characters beside it, nearest first.
fn goes_on(edge: char, mut outside: impl Iterator<Item = char>, leftward: bool) -> bool {
    if !edge.is_alphanumeric() {
        return false;
    }
    let (near, far) = (outside.next(), outside.next());
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    match near {
        Some(c) if c.is_alphanumeric() => true,
        Some('.' | ',') if edge.is_ascii_digit() => is_digit(far),
        Some('-' | '−') if edge.is_ascii_digit() && leftward => {
            // A sign, not the hyphen of a date or a range.
            !far.is_some_and(char::is_alphanumeric)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Breaks with: an answer found within a longer word or number, or one missed beside a mark.
    #[test]
    fn words_and_numbers_are_whole() {
        for (text, word) in [
            ("It is 5.", "5"),
            ("5", "5"),
            ("It is 5, he said.", "5"),
            ("(5)", "5"),
            ("5km", "5km"),
            ("It costs $5", "5"),
            ("in 2020-05-12", "2020-05-12"),
            ("pages 3-5", "5"),
            ("It is 1,500 m.", "1,500"),
            ("-5 degrees", "-5"),
            ("El Niño, then", "Niño"),
            ("New York.", "New York"),
            ("not 15 but 5", "5"),
        ] {
            assert!(contains_word(text, word), "{word:?} in {text:?}");
        }
        for (text, word) in [
            ("It is 15.", "5"),
            ("It is 5.2", "5"),
            ("It is 1,500", "500"),
            ("It is 1,500", "1"),
            ("It is -5", "5"),
            ("It is −5", "5"),
            ("redder", "red"),
            ("5km", "5"),
            ("", "5"),
            ("Niños", "Niño"),
        ] {
            assert!(!contains_word(text, word), "{word:?} in {text:?}");
        }
    }

    /// Breaks with: a citation's number taken for the answer, or text that goes with it.
    #[test]
    fn citations_are_apart_from_the_text() {
        let text = without_citations("It is 7[citation:2][citation:10, 3]. [citation:x] 4");
        assert_eq!(text, "It is 7  . x] 4");
        assert_eq!(without_citations("a [citation:3"), "a 3");
        assert_eq!(without_citations("none"), "none");
    }

    /// Breaks with: arguments compared as text.
    #[test]
    fn json_is_compared_as_values() {
        let same = |a: Value, b: Value| same_json(&a, &b);
        assert!(same(
            json!({"a": 1, "b": [2.0]}),
            json!({"b": [2], "a": 1.0})
        ));
        assert!(!same(json!({"a": 1}), json!({"a": 1, "b": null})));
        assert!(!same(json!({"a": "1"}), json!({"a": 1})));
        assert!(!same(json!([1, 2]), json!([2, 1])));
        assert!(!same(
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_992_i64)
        ));
    }
}
