//! Jinja templates: the published one against the native renderer, and hostile ones.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use std::sync::LazyLock;

use common::fixture;
use dsv3_tokenizer::{AssistantMessage, Message, RenderOptions, Template, Tool, ToolCall, render};
use proptest::prelude::*;

static TEMPLATE: LazyLock<Template> =
    LazyLock::new(|| Template::from_file(fixture("chat/chat_template.jinja")).unwrap());

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z <>/]{0,10}",
        Just("x</think>y</think>z".to_owned()),
        Just("<think>x</think>".to_owned()),
        Just("{{ 7 * 7 }}{% if %}".to_owned()),
        "\\PC{0,5}",
    ]
}

/// One turn: a message, or an assistant's calls with some of their results.
fn turn() -> impl Strategy<Value = Vec<Message>> {
    let calls = prop::collection::vec((words(), words()), 1..3);
    let content = prop::option::of(words());
    let results = prop::collection::vec(words(), 0..4);
    prop_oneof![
        words().prop_map(|text| vec![Message::user(text)]),
        words().prop_map(|text| vec![Message::system(text)]),
        words().prop_map(|text| vec![Message::assistant(text)]),
        words().prop_map(|text| vec![Message::prefix(text)]),
        (words(), words()).prop_map(|(content, reasoning)| {
            vec![Message::Assistant(AssistantMessage {
                content: Some(content),
                reasoning_content: Some(reasoning),
                ..AssistantMessage::default()
            })]
        }),
        (content, calls, results).prop_map(|(content, calls, results)| {
            let calls = calls.iter().map(|(name, args)| ToolCall::new(name, args));
            let turn = AssistantMessage {
                content,
                tool_calls: calls.collect(),
                ..AssistantMessage::default()
            };
            let results = results.into_iter().map(Message::tool);
            std::iter::once(Message::Assistant(turn))
                .chain(results)
                .collect()
        }),
    ]
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let tool = (words(), prop::option::of(words()), any::<Option<f64>>());
    let tool = tool.prop_map(|(name, description, number)| Tool {
        name,
        description,
        parameters: number.map(|number| serde_json::json!({"n": number, "a": ["é", null]})),
    });
    prop::collection::vec(tool, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Breaks with: a native renderer and a template that part ways on any conversation.
    #[test]
    fn native_rendering_is_the_templates(
        turns in prop::collection::vec(turn(), 0..7),
        tools in tools(),
        thinking: bool,
        add_generation_prompt: bool,
    ) {
        let messages = turns.concat();
        let options = RenderOptions { thinking, add_generation_prompt, continue_prefix: false };
        let native = render(&messages, &tools, &options).unwrap();
        let templated = TEMPLATE.render(&messages, &tools, &options).unwrap();
        prop_assert_eq!(native.to_text(), templated);

        // To go on with a prefix, both leave out one EOS at the end and nothing else. With
        // reasoning the native prompt says more than the template can.
        let options = RenderOptions { continue_prefix: true, ..options };
        let native = render(&messages, &tools, &options).unwrap();
        let templated = TEMPLATE.render(&messages, &tools, &options).unwrap();
        prop_assert_eq!(native.to_text(), templated);
    }
}

/// Breaks with: a long conversation refused by the limits that are meant for bombs.
#[test]
fn long_conversations_stay_within_the_limits() {
    let mut messages: Vec<Message> = (0..5_000)
        .flat_map(|n| [Message::user(n.to_string()), Message::assistant("yes")])
        .collect();
    messages.push(Message::user("x y\n".repeat(1_000_000)));
    let options = RenderOptions::default();
    assert_eq!(
        TEMPLATE.render(&messages, &[], &options).unwrap(),
        render(&messages, &[], &options).unwrap().to_text()
    );
}

/// Breaks with: a template with a place for tools that gets them twice.
#[test]
fn a_template_with_a_place_for_tools_gets_them_there() {
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools[0].function.name }}";
    let template = Template::from_source(source).unwrap();
    let tools = [Tool {
        name: "f".to_owned(),
        ..Tool::default()
    }];
    let text = template.render(&[Message::user("u")], &tools, &RenderOptions::default());
    assert_eq!(text.unwrap(), "uf");
}

/// Breaks with: Python's methods and Hugging Face's settings that a template counts on.
#[test]
fn templates_find_the_python_they_know() {
    let tools = Tool::list_from_json(
        r#"[{"type":"function","function":{"name":"f","parameters":{"q":"<&'>é"}}}]"#,
    )
    .unwrap();
    let messages = [Message::user(" a b  c ")];
    for (source, expected) in [
        ("{{ messages[0].content.split() | join('|') }}", "a|b|c"),
        (
            "{{ messages[0].content.split(none, 1) | join('|') }}",
            "a|b  c ",
        ),
        (
            "{{ messages[0]['content'].split(' ', 1) | join('|') }}",
            "|a b  c ",
        ),
        ("{{ messages[0]['content'].strip() }}.", "a b  c."),
        ("{{ 'xxaxx'.lstrip('x') + 'xxaxx'.rstrip('x') }}", "axxxxa"),
        ("{{ 'ab'.startswith('a') and 'ab'.endswith('b') }}", "True"),
        ("{{ 'aXa'.replace('a', 'bb').upper().lower() }}", "bbxbb"),
        ("{{ 'né'.find('é') }} {{ 'n'.find('x') }}", "1 -1"),
        (
            "{{ messages[0].get('none', 'd') }}{{ messages[0].get('role') }}",
            "duser",
        ),
        (
            "{% for k, v in messages[0].items() %}{{ k }},{% endfor %}",
            "role,content,",
        ),
        ("{{ messages[0].keys() | list | length }}", "2"),
        (
            "{{ tools[0].function.parameters | tojson }}",
            "{\"q\": \"<&'>é\"}",
        ),
        // trim_blocks and lstrip_blocks.
        ("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"),
        (
            "{{ thinking }} {{ enable_thinking }} {{ eos_token }}",
            "True True <｜end▁of▁sentence｜>",
        ),
        ("{{ '<b>' }}", "<b>"),
    ] {
        let template: Template = source.parse().unwrap();
        // Otherwise they would be described in a system message.
        let tools = if source.contains("tools") {
            &tools[..]
        } else {
            &[]
        };
        let text = template.render(&messages, tools, &RenderOptions::to_generate(true));
        assert_eq!(text.unwrap(), expected, "{source}");
    }
    let template: Template = "{{ raise_exception('no tools here') }}".parse().unwrap();
    let error = template.render(&messages, &[], &RenderOptions::default());
    assert!(error.unwrap_err().to_string().contains("no tools here"));
}

/// What a template that must fail is told.
fn refusal(source: &str) -> String {
    let template = match Template::from_source(source) {
        Ok(template) => template,
        Err(error) => return error.to_string(),
    };
    let result = template.render(&[Message::user("hi")], &[], &RenderOptions::default());
    result.unwrap_err().to_string()
}

/// Breaks with: a template that runs for ever.
#[test]
fn attack_loops_in_loops() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}";
    assert!(refusal(source).contains("fuel"), "{}", refusal(source));
}

/// Breaks with: a stack used up by a template, which ends the process.
#[test]
fn attack_recursion() {
    for source in [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% include 'chat_template.jinja' %}".to_owned(),
        format!("{{{{ {}1 }}}}", "(".repeat(60_000)),
        format!("{{{{ {}1 }}}}", "[".repeat(60_000)),
        "{% if true %}".repeat(5_000),
    ] {
        assert!(refusal(&source).contains("template"));
    }
}

/// Breaks with: a chain that the parser follows recursively, on a stack that has no room for it.
/// Some chains are valid, so what counts is that each comes to an end.
#[test]
fn attack_long_chains() {
    for (head, link, tail) in [
        ("", "-", "1"),
        ("", "not ", "1"),
        ("1", "+1", ""),
        ("1", "**1", ""),
        ("1", " and 1", ""),
        ("1", " ~ 1", ""),
        ("1", "|string", ""),
        ("1", " is defined", ""),
        ("x", ".a", ""),
        ("x", "[1]", ""),
        ("x", "()", ""),
        ("", "1 if 1 else ", "1"),
    ] {
        let links = link.repeat((64 << 10) / link.len() - 10);
        let source = format!("{{{{ {head}{links}{tail} }}}}");
        let template = Template::from_source(source);
        let result = template.and_then(|t| t.render(&[], &[], &RenderOptions::default()));
        assert!(result.map_or(0, |text| text.len()) < 100_000, "{link}");
    }
}

/// Breaks with: values nested as deeply as the fuel lasts, shown or dropped on too small a stack,
/// or written as JSON without end.
#[test]
fn attack_values_in_values() {
    let nested = |last: &str| {
        format!(
            "{{% set ns = namespace(a=[]) %}}{{% for i in range(11000) %}}{{% set ns.a = [ns.a] %}}{{% endfor %}}{last}"
        )
    };
    let template = Template::from_source(nested("{{ ns.a }}")).unwrap();
    let text = template.render(&[], &[], &RenderOptions::default());
    assert_eq!(text.unwrap().len(), 2 * 11_001);
    assert!(refusal(&nested("{{ ns.a | tojson }}")).contains("nested too deeply"));
    let shared = |last: &str| {
        format!(
            "{{% set ns = namespace(a=[1]) %}}{{% for i in range(60) %}}{{% set ns.a = [ns.a, ns.a] %}}{{% endfor %}}{last}"
        )
    };
    assert!(refusal(&shared("{{ ns.a | tojson }}")).contains("fuel"));
    assert!(refusal(&shared("{{ ns.a }}")).contains("output"));
}

/// Breaks with: memory used up by a template in a few steps.
#[test]
fn attack_doubling() {
    for source in [
        "{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='aa') %}{% for a in range(60) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
        "{{ 'x' * 9999999999 }}",
        "{% set s = 'x' * 90000000 %}{% for a in range(9999) %}{{ s }}{% endfor %}",
    ] {
        assert!(refusal(source).contains("template"), "{source}");
    }
}

/// Breaks with: files or other templates within a template's reach.
#[test]
fn attack_reading_files() {
    for source in [
        "{% include '/etc/passwd' %}",
        "{% import '../Cargo.toml' as c %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ open('/etc/passwd') }}",
    ] {
        assert!(refusal(source).contains("template"), "{source}");
    }
}

/// Breaks with: a syntax error that shows up when the first request comes, or without its line.
#[test]
fn a_broken_template_is_refused_at_once() {
    let error = Template::from_source("a\n{% if %}")
        .unwrap_err()
        .to_string();
    assert!(error.contains("chat_template.jinja:2"), "{error}");
    let error = Template::from_source("x".repeat(2 << 20))
        .unwrap_err()
        .to_string();
    assert!(error.contains("the chat template"), "{error}");
}
