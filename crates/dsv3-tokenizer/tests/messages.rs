//! Messages and tools as OpenAI's clients send them.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may

use dsv3_tokenizer::{
    AssistantMessage, Conversation, Message, Mode, RenderOptions, Tool, ToolCall,
    messages_from_value, render,
};
use serde_json::json;

/// What a list of messages is rendered to, or why it is not.
fn rendered(messages: serde_json::Value) -> Result<String, String> {
    let read = |messages| {
        let messages = messages_from_value(messages)?;
        render(&messages, &[], &RenderOptions::default())
    };
    match read(&messages) {
        Ok(prompt) => Ok(prompt.to_text()),
        Err(error) => Err(error.to_string()),
    }
}

/// Breaks with: a common client's spelling refused or read as something else.
#[test]
fn what_clients_send_is_read() {
    for (messages, expected) in [
        (json!([]), "<｜begin▁of▁sentence｜>"),
        (
            json!([{"role": "developer", "content": "D"}, {"role": "user", "content": "u", "name": "x"}]),
            "<｜begin▁of▁sentence｜>D<｜User｜>u<｜Assistant｜></think>",
        ),
        (
            json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
            "<｜begin▁of▁sentence｜><｜User｜>a\nb<｜Assistant｜></think>",
        ),
        // Arguments as an object, content left out, an id and a result that names it.
        (
            json!([
                {"role": "user", "content": "u"},
                {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function":
                    {"name": "f", "arguments": {"b": [1, 2.5], "a": "é"}}}]},
                {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "r"}]},
            ]),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜></think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"b\": [1, 2.5], \"a\": \"é\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁output▁begin｜>r<｜tool▁output▁end｜>",
        ),
        // An empty list of calls is none: the content must not vanish.
        (
            json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "c", "tool_calls": []}]),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜></think>c<｜end▁of▁sentence｜>",
        ),
        // Past reasoning is dropped, in whichever field it stands.
        (
            json!([
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": "c", "reasoning_content": "r", "tool_calls": null},
                {"role": "user", "content": ""},
            ]),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜></think>c<｜end▁of▁sentence｜><｜User｜><｜Assistant｜></think>",
        ),
        (
            json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "a</think>b</think>c"}]),
            "<｜begin▁of▁sentence｜><｜User｜>u<｜Assistant｜></think>b</think>c<｜end▁of▁sentence｜>",
        ),
    ] {
        assert_eq!(
            rendered(messages.clone()).as_deref(),
            Ok(expected),
            "{messages}"
        );
    }
}

/// Breaks with: a message that cannot be rendered taken in silence, or blamed on another.
#[test]
fn what_is_wrong_is_named_with_its_place() {
    let call = json!({"function": {"name": "f", "arguments": "{}"}});
    for (second, part) in [
        (json!({"role": "robot", "content": ""}), "robot"),
        (json!({"role": 1}), "`role`"),
        (json!({"content": ""}), "`role`"),
        (json!("hi"), "a string"),
        (json!({"role": "user"}), "`content`"),
        (json!({"role": "system", "content": null}), "`content`"),
        (json!({"role": "user", "content": 5}), "a number"),
        (
            json!({"role": "user", "content": [{"type": "image_url"}]}),
            "image_url",
        ),
        (
            json!({"role": "user", "content": [{"type": "text"}]}),
            "content[0]",
        ),
        (json!({"role": "user", "content": ["x"]}), "content[0]"),
        (json!({"role": "assistant"}), "`tool_calls`"),
        (
            json!({"role": "assistant", "content": null, "tool_calls": []}),
            "`tool_calls`",
        ),
        (
            json!({"role": "assistant", "content": "", "prefix": "yes"}),
            "`prefix`",
        ),
        (
            json!({"role": "assistant", "content": "", "prefix": true, "tool_calls": [call]}),
            "prefix",
        ),
        (
            json!({"role": "assistant", "tool_calls": "x"}),
            "`tool_calls`",
        ),
        (
            json!({"role": "assistant", "tool_calls": [call, {}]}),
            "tool_calls[1]",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}),
            "`name`",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}),
            "`arguments`",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}),
            "`arguments`",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"type": "code", "function": {"name": "f", "arguments": ""}}]}),
            "code",
        ),
        (json!({"role": "tool", "content": "r"}), "follow"),
        (json!({"role": "tool"}), "`content`"),
    ] {
        let error = rendered(json!([{"role": "user", "content": "u"}, second])).unwrap_err();
        assert!(error.starts_with("messages[1]: "), "{second}: {error}");
        assert!(error.contains(part), "{second}: {error}");
    }
    assert!(
        rendered(json!({"role": "user"}))
            .unwrap_err()
            .contains("not a list")
    );
}

/// Breaks with: a tool result accepted after another turn, or refused after another result.
#[test]
fn tool_results_follow_their_calls() {
    let calls = Message::Assistant(AssistantMessage {
        tool_calls: vec![ToolCall::new("f", "{}"), ToolCall::new("g", "{}")],
        ..AssistantMessage::default()
    });
    let options = RenderOptions::default();
    let good = [
        Message::user("u"),
        calls.clone(),
        Message::tool("1"),
        Message::system("s"),
        Message::tool("2"),
    ];
    assert!(render(&good, &[], &options).is_ok());
    for between in [Message::user("x"), Message::assistant("x")] {
        let bad = [
            calls.clone(),
            Message::tool("1"),
            between,
            Message::tool("2"),
        ];
        let error = render(&bad, &[], &options).unwrap_err().to_string();
        assert!(error.starts_with("messages[3]"), "{error}");
    }
}

/// Breaks with: a field lost between reading and writing.
#[test]
fn messages_go_round_through_json() {
    let messages = json!([
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "t", "tool_call_id": "c1"},
        {"role": "assistant", "content": "p", "prefix": true},
    ]);
    let read: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), messages);
    let roles: Vec<_> = read.iter().map(Message::role).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
    let tools = json!([{"type": "function", "function":
        {"name": "f", "description": "d", "parameters": {"z": 1, "a": 2}}}]);
    let read: Vec<Tool> = serde_json::from_value(tools.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), tools);
}

/// Breaks with: a file of messages that only works without its tools, or with them.
#[test]
fn a_conversation_is_a_list_or_an_object() {
    let list = r#"[{"role":"user","content":"u"}]"#;
    let tool = r#"{"type":"function","function":{"name":"f"}}"#;
    let alone = Conversation::from_json(list).unwrap();
    assert_eq!((alone.messages.len(), alone.tools.len()), (1, 0));
    let both = Conversation::from_json(&format!(r#"{{"messages":{list},"tools":[{tool}]}}"#));
    assert_eq!(both.unwrap().tools[0].name, "f");
    for (bad, part) in [
        ("[", "line 1"),
        ("5", "expected a list"),
        ("{}", "`messages`"),
        (
            r#"{"messages":[],"tools":[{"type":"retrieval"}]}"#,
            "tools[0]",
        ),
    ] {
        let error = Conversation::from_json(bad).unwrap_err().to_string();
        assert!(error.contains(part), "{bad}: {error}");
    }
}

/// Breaks with: a tool without a schema or a description described in another way than
/// `json.dumps({})` and nothing; an order of properties that is not the file's.
#[test]
fn tools_are_described_as_the_card_says() {
    let tools = Tool::list_from_json(
        r#"[{"type":"function","function":{"name":"f"}},
            {"type":"function","function":{"name":"g","description":null,"parameters":{"z":1,"a":[true,1e16]}}}]"#,
    )
    .unwrap();
    let prompt = render(&[Message::user("u")], &tools, &RenderOptions::default()).unwrap();
    let text = prompt.to_text();
    let head = "<｜begin▁of▁sentence｜>\n\n## Tools\nYou have access to the following tools:\n\n### f\nDescription: \n\nParameters: {}\n\n### g\nDescription: \n\nParameters: {\"z\": 1, \"a\": [true, 1e+16]}\n\nIMPORTANT:";
    assert!(text.starts_with(head), "{text}");
    for (bad, part) in [
        (r#"{"type":"function"}"#, "not a list"),
        (r#"[{"type":"function"}]"#, "tools[0]"),
        (
            r#"[{"function":{"name":"f"}},{"function":{"name":""}}]"#,
            "tools[1]",
        ),
        (
            r#"[{"function":{"name":"f","parameters":"x"}}]"#,
            "`parameters`",
        ),
        (
            r#"[{"function":{"name":"f","description":7}}]"#,
            "`description`",
        ),
    ] {
        let error = Tool::list_from_json(bad).unwrap_err().to_string();
        assert!(error.contains(part), "{bad}: {error}");
    }
}

/// Breaks with: a prompt that leaves the model in one channel and a parser begun in the other.
#[test]
fn a_prompt_knows_its_mode() {
    let calls = Message::Assistant(AssistantMessage {
        tool_calls: vec![ToolCall::new("f", "{}")],
        ..AssistantMessage::default()
    });
    let reasoned = Message::Assistant(AssistantMessage {
        content: Some("so".to_owned()),
        reasoning_content: Some("why".to_owned()),
        prefix: true,
        ..AssistantMessage::default()
    });
    let user = || Message::user("u");
    for (messages, thinking, mode, end) in [
        (vec![user()], false, Mode::NonThinking, "</think>"),
        (vec![user()], true, Mode::Thinking, "<think>"),
        (
            vec![user(), Message::prefix("x")],
            true,
            Mode::Thinking,
            "<think>x",
        ),
        (
            vec![user(), Message::prefix("x")],
            false,
            Mode::NonThinking,
            "</think>x",
        ),
        (
            vec![user(), reasoned.clone()],
            true,
            Mode::NonThinking,
            "<think>why</think>so",
        ),
        (
            vec![user(), reasoned],
            false,
            Mode::NonThinking,
            "<｜Assistant｜></think>so",
        ),
        (
            vec![user(), calls, Message::tool("r")],
            true,
            Mode::NonThinking,
            "r<｜tool▁output▁end｜>",
        ),
        // Not the last: it ends like any other.
        (
            vec![user(), Message::prefix("x"), user()],
            true,
            Mode::Thinking,
            "x<｜end▁of▁sentence｜><｜User｜>u<｜Assistant｜><think>",
        ),
    ] {
        let prompt = render(&messages, &[], &RenderOptions::to_generate(thinking)).unwrap();
        assert!(prompt.to_text().ends_with(end), "{}", prompt.to_text());
        assert_eq!(prompt.mode(), mode, "{}", prompt.to_text());
    }
}
