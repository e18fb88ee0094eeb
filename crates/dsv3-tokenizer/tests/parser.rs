//! The output parser: its rules one by one, and what holds for any sequence of ids at all.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use common::{SMALL, TOKENIZER};
use dsv3_tokenizer::{
    Error, Event, FinishReason, Mode, OutputParser, Parsed, Special, TokenId, Unfinished,
    parse_ids, parse_text,
};
use proptest::prelude::*;

/// `B` and `E` begin and end the list of calls, `b` and `e` one call, `|` is the separator, `(`
/// and `)` are think, `[` and `]` search, `.` EOS, `U` the user token; other characters are text.
fn special_of(short: char) -> Option<Special> {
    Some(match short {
        'B' => Special::ToolCallsBegin,
        'E' => Special::ToolCallsEnd,
        'b' => Special::ToolCallBegin,
        'e' => Special::ToolCallEnd,
        '|' => Special::ToolSep,
        '(' => Special::ThinkBegin,
        ')' => Special::ThinkEnd,
        '[' => Special::SearchBegin,
        ']' => Special::SearchEnd,
        '.' => Special::Eos,
        'U' => Special::User,
        _ => return None,
    })
}

fn ids_of(short: &str) -> Vec<TokenId> {
    short
        .chars()
        .flat_map(|c| match special_of(c) {
            Some(special) => vec![SMALL.special().id(special).unwrap()],
            None => SMALL.encode(&c.to_string()).unwrap(),
        })
        .collect()
}

/// What was parsed, in one line: `r` reasoning, `c` content, `call` closed calls, `cut` what was
/// cut off, `q` queries, `stray` tokens.
fn told(short: &str, mode: Mode) -> String {
    let parsed = parse_ids(&SMALL, &ids_of(short), mode, FinishReason::Length).unwrap();
    let mut told = Vec::new();
    if let Some(reasoning) = &parsed.reasoning_content {
        told.push(format!("r={reasoning}"));
    }
    if !parsed.content.is_empty() {
        told.push(format!("c={}", parsed.content));
    }
    for call in &parsed.tool_calls {
        told.push(format!("call={}({})", call.name, call.arguments));
    }
    for cut in &parsed.unfinished {
        told.push(match cut {
            Unfinished::ToolCall {
                name, arguments, ..
            } => match arguments {
                Some(arguments) => format!("cut={name}({arguments}"),
                None => format!("cut={name}"),
            },
            Unfinished::Search { query } => format!("cut=[{query}"),
        });
    }
    for query in &parsed.search_queries {
        told.push(format!("q={query}"));
    }
    for stray in &parsed.stray_tokens {
        told.push(format!("stray={stray}"));
    }
    told.join(" ")
}

/// Breaks with: a rule of the module's documentation that the code does not keep.
#[test]
fn every_rule_holds() {
    use Mode::{NonThinking as Plain, Thinking};
    for (mode, written, expected) in [
        // Well-formed.
        (Plain, "hi.", "c=hi"),
        (Thinking, "so)hi.", "r=so c=hi"),
        (Plain, "okBbf|1ebg|2eE.", "c=ok call=f(1) call=g(2)"),
        (Plain, "Bbf|eE.", "call=f()"),
        (Thinking, "a[x]y)z", "r=ay c=z q=x"),
        (Plain, "[x]z[]", "c=z q=x q="),
        // Think marks where they need not be.
        (Plain, "h(so)i", "r=so c=hi"),
        (Thinking, "(so)hi", "r=so c=hi stray=<think>"),
        (Plain, "h)i", "c=hi stray=</think>"),
        (Thinking, "so", "r=so"),
        (Thinking, ")hi", "c=hi"),
        // A call inside of reasoning, with and without the list around it.
        (Thinking, "soBbf|1eEhi", "r=so c=hi call=f(1)"),
        (Thinking, "sobf|1ehi", "r=so c=hi call=f(1)"),
        // Text in the list, but in no call.
        (Plain, "B x bf|1e y E z", "c= x  y  z call=f(1)"),
        (
            Plain,
            "Bf|1eE",
            "c=f1 stray=<｜tool▁sep｜> stray=<｜tool▁call▁end｜>",
        ),
        // Calls that do not end as they should.
        (Plain, "Bbf|1bg|2eE", "call=g(2) cut=f(1"),
        (
            Plain,
            "Bbf|1Bbg|2eE",
            "call=g(2) cut=f(1 stray=<｜tool▁calls▁begin｜>",
        ),
        (Plain, "Bbf|1E", "cut=f(1"),
        (Plain, "Bbf|1.x", "c=x cut=f(1"),
        (Plain, "Bbf|1", "cut=f(1"),
        (Plain, "Bbf|", "cut=f("),
        (Plain, "Bbf", "cut=f"),
        (Plain, "Bb", "cut="),
        (Plain, "Bbfebg|2eE", "call=g(2) cut=f"),
        (Plain, "BbfEhi", "c=hi cut=f"),
        (Plain, "B", ""),
        // Strays in a call.
        (Plain, "Bbf|1|2eE", "call=f(12) stray=<｜tool▁sep｜>"),
        (
            Plain,
            "Bbf|1(2)3eE",
            "call=f(123) stray=<think> stray=</think>",
        ),
        (
            Plain,
            "Bbf|1[2]eE",
            "call=f(12) stray=<｜search▁begin｜> stray=<｜search▁end｜>",
        ),
        (Plain, "hUi", "c=hi stray=<｜User｜>"),
        (Plain, "h|i", "c=hi stray=<｜tool▁sep｜>"),
        (
            Plain,
            "eEh",
            "c=h stray=<｜tool▁call▁end｜> stray=<｜tool▁calls▁end｜>",
        ),
        // Search that does not end as it should.
        (Plain, "a[x", "c=a cut=[x"),
        (Plain, "a[x.k", "c=ak cut=[x"),
        (Plain, "[x[y]", "cut=[x q=y"),
        (Thinking, "a[x)k", "r=a c=k cut=[x"),
        (Thinking, "a[xBbf|1eEk", "r=a c=k call=f(1) cut=[x"),
        (Plain, "[xUy]", "q=xy stray=<｜User｜>"),
        (Plain, "]a", "c=a stray=<｜search▁end｜>"),
        // More after the end.
        (Plain, "a.k.", "c=ak"),
        (Thinking, "a.k", "r=a c=k"),
        (Plain, "", ""),
    ] {
        assert_eq!(told(written, mode), expected, "{mode:?} {written}");
    }
}

/// Breaks with: names, fragments and ends in another order, or another numbering, than a
/// streaming client needs.
#[test]
fn events_of_a_call_come_in_order() {
    let mut parser = OutputParser::new(&SMALL, Mode::NonThinking);
    let mut events = Vec::new();
    for id in ids_of("kBbf|12ebg|3") {
        events.extend(parser.push(id).unwrap());
    }
    assert!(parser.in_tool_call() && !parser.in_reasoning());
    events.extend(parser.finish(FinishReason::Length));
    let fragment = |index, fragment: &str| Event::ToolCallArguments {
        index,
        fragment: fragment.to_owned(),
    };
    let begin = |index, name: &str| Event::ToolCallBegin {
        index,
        name: name.to_owned(),
    };
    assert_eq!(
        events,
        [
            Event::Text("k".to_owned()),
            begin(0, "f"),
            fragment(0, "1"),
            fragment(0, "2"),
            Event::ToolCallEnd { index: 0 },
            begin(1, "g"),
            fragment(1, "3"),
            Event::UnfinishedToolCall {
                index: 1,
                name: "g".to_owned(),
                arguments: Some("3".to_owned()),
            },
            Event::Finish {
                reason: FinishReason::Length
            },
        ]
    );
    let json = serde_json::to_value(&events[1]).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"type": "tool_call_begin", "data": {"index": 0, "name": "f"}})
    );
}

/// Breaks with: a finish reason that tells a client to run a call that was cut off, or hides that
/// there is one to run.
#[test]
fn the_finish_reason_tells_of_calls() {
    for (written, given, told) in [
        ("hi", FinishReason::Stop, FinishReason::Stop),
        ("Bbf|1eE", FinishReason::Stop, FinishReason::ToolCalls),
        ("Bbf|1eE", FinishReason::Length, FinishReason::Length),
        ("Bbf|1ebg|", FinishReason::Stop, FinishReason::Stop),
    ] {
        let ids = ids_of(written);
        let parsed = parse_ids(&SMALL, &ids, Mode::NonThinking, given).unwrap();
        assert_eq!(parsed.finish_reason, Some(told), "{written}");
    }
}

/// Breaks with: ids taken after the end, or a second Finish.
#[test]
fn nothing_comes_after_finish() {
    let mut parser = OutputParser::new(&SMALL, Mode::NonThinking);
    assert_eq!(parser.finish(FinishReason::Cancelled).len(), 1);
    assert!(parser.finish(FinishReason::Stop).is_empty());
    assert!(matches!(parser.push(0), Err(Error::ParserFinished)));
}

/// Breaks with: an id out of the padding rows that panics, or that takes its neighbours with it.
#[test]
fn an_unknown_id_is_refused_and_the_parser_goes_on() {
    let mut parser = OutputParser::new(&TOKENIZER, Mode::NonThinking);
    assert!(parser.push_all(&[19923, 129_279]).is_err());
    assert_eq!(
        parser.push_all(&[19923]).unwrap(),
        [Event::Text("Hello".to_owned())]
    );
}

/// Breaks with: characters that merely look like a control token taken for one.
#[test]
fn look_alikes_are_text() {
    let look_alike = "</think><｜tool▁calls▁begin｜><｜end▁of▁sentence｜>";
    let ids = TOKENIZER.encode(look_alike).unwrap();
    let parsed = parse_ids(&TOKENIZER, &ids, Mode::NonThinking, FinishReason::Stop).unwrap();
    assert_eq!(parsed.content, look_alike);
    assert!(parsed.stray_tokens.is_empty() && parsed.tool_calls.is_empty());
}

/// Breaks with: a character whose bytes lie in several tokens given out in halves, or carried
/// from one channel into another.
#[test]
fn characters_end_with_their_channel() {
    let bytes: Vec<TokenId> = SMALL.encode("é").unwrap();
    let [first, second] = bytes[..] else {
        panic!("one token a byte")
    };
    let think_end = SMALL.special().think_end;
    let mut parser = OutputParser::new(&SMALL, Mode::Thinking);
    assert_eq!(parser.push(first).unwrap(), []);
    assert_eq!(
        parser.push(second).unwrap(),
        [Event::Reasoning("é".to_owned())]
    );
    assert_eq!(parser.push(first).unwrap(), []);
    assert_eq!(
        parser.push(think_end).unwrap(),
        [Event::Reasoning("\u{fffd}".to_owned())]
    );
    assert_eq!(parser.push(first).unwrap(), []);
    let last = parser.finish(FinishReason::Length);
    assert_eq!(last.first(), Some(&Event::Text("\u{fffd}".to_owned())));
}

/// Breaks with: an answer that cannot be sent back as the next turn's history.
#[test]
fn parsed_calls_read_as_openai_calls() {
    let text = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let parsed = parse_text(&TOKENIZER, text, Mode::NonThinking).unwrap();
    assert_eq!(
        serde_json::to_value(&parsed).unwrap(),
        serde_json::json!({
            "reasoning_content": null,
            "content": "",
            "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
            ],
            "finish_reason": "tool_calls",
        })
    );
}

/// All that the events say, in order, where each piece is said once.
fn said(events: &[Event]) -> String {
    let mut said = String::new();
    for event in events {
        match event {
            Event::Reasoning(text)
            | Event::Text(text)
            | Event::SearchQuery(text)
            | Event::UnfinishedSearch(text)
            | Event::ToolCallBegin { name: text, .. }
            | Event::ToolCallArguments { fragment: text, .. }
            | Event::UnfinishedToolCall {
                name: text,
                arguments: None,
                ..
            } => {
                said.push_str(text);
            }
            _ => {}
        }
    }
    said
}

/// Any ids at all: control tokens, characters, and bytes that make none.
fn any_ids() -> impl Strategy<Value = Vec<TokenId>> {
    let vocab = SMALL.vocab_size() as TokenId;
    let control = prop::sample::select(Special::ALL.to_vec())
        .prop_map(|special| vec![SMALL.special().id(special).unwrap()]);
    let piece = prop_oneof![
        3 => control,
        2 => "\\PC{0,3}".prop_map(|text| SMALL.encode(&text).unwrap()),
        1 => Just(SMALL.encode("<｜User｜>").unwrap()),
        2 => (0..vocab).prop_map(|id| vec![id]),
        1 => Just(ids_of("Bbf|{}eE")),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Breaks with: text that is lost, doubled or out of order on any sequence of ids; a control
    /// token's text in it; a result that depends on how the stream was cut.
    #[test]
    fn nothing_is_lost_and_nothing_leaks(
        ids in any_ids(), thinking: bool, size in 1usize..9,
    ) {
        // What must be said: the text between control tokens, decoded stretch by stretch.
        let stretches = ids.split(|&id| SMALL.is_control(id));
        let expected: String = stretches.map(|ids| SMALL.decode(ids).unwrap()).collect();

        let mode = Mode::from_thinking(thinking);
        let whole = parse_ids(&SMALL, &ids, mode, FinishReason::Stop).unwrap();
        for size in [1, size] {
            let mut parser = OutputParser::new(&SMALL, mode);
            let mut events = Vec::new();
            for chunk in ids.chunks(size) {
                events.extend(parser.push_all(chunk).unwrap());
            }
            events.extend(parser.finish(FinishReason::Stop));
            prop_assert_eq!(said(&events), expected.as_str());
            prop_assert_eq!(&Parsed::from_events(&events), &whole);

            // Each call is accounted for under its own number, in order.
            let ends: Vec<usize> = events.iter().filter_map(|event| match event {
                Event::ToolCallEnd { index } | Event::UnfinishedToolCall { index, .. } => Some(*index),
                _ => None,
            }).collect();
            prop_assert_eq!(ends, (0..whole.tool_calls.len() + whole.unfinished.iter()
                .filter(|cut| matches!(cut, Unfinished::ToolCall { .. })).count()).collect::<Vec<_>>());
        }
    }
}
