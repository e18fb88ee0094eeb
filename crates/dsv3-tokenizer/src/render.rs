//! V3.1's chat format: messages to prompt.
//!
//! The format is that of the DeepSeek-V3.1 model card and of its `chat_template.jinja`; no
//! whitespace is added anywhere. [`crate::template`] renders such a template itself, and the tests
//! hold the two side by side.

use crate::json::dumps;
use crate::message::{AssistantMessage, Message};
use crate::prompt::Prompt;
use crate::special::Special;
use crate::tool::Tool;
use crate::{Error, Result};

/// How to render a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderOptions {
    /// Ask for reasoning before the answer. V3.1's default is not to.
    pub thinking: bool,
    /// End with the marks after which the model answers, if the last turn is a user's.
    pub add_generation_prompt: bool,
    /// If the last message is an assistant's with `prefix`, leave out the EOS that the template
    /// writes after it, so that the model goes on with it. What an engine wants; a comparison
    /// with the template doesn't. In thinking mode such a message's `reasoning_content` is then
    /// rendered too (`<think>reasoning</think>content`), where the template drops it.
    pub continue_prefix: bool,
}

impl Default for RenderOptions {
    /// The template's own: non-thinking. With a generation prompt, and EOS after a prefix.
    fn default() -> Self {
        RenderOptions {
            thinking: false,
            add_generation_prompt: true,
            continue_prefix: false,
        }
    }
}

impl RenderOptions {
    /// What to generate from: a generation prompt, and no EOS after a prefix.
    pub fn to_generate(thinking: bool) -> Self {
        RenderOptions {
            thinking,
            add_generation_prompt: true,
            continue_prefix: true,
        }
    }
}

/// Renders a conversation.
///
/// Equal to the template on all that the template gives a sensible form to. Four things differ,
/// each because the template's form would lose something without a word:
/// - a tool result that follows no tool call is an error;
/// - a `prefix` with tool calls is an error (the template would close the turn);
/// - an empty list of tool calls is none (the template would drop the message's content);
/// - tools are described in the system text, as the model card says (the template ignores them).
///
/// # Errors
/// [`Error::Message`] with the place of a message that the format has no form for.
pub fn render(messages: &[Message], tools: &[Tool], options: &RenderOptions) -> Result<Prompt> {
    check(messages)?;
    let mut prompt = Prompt::default();
    prompt.special(Special::Bos);
    let mut separator = "";
    for message in messages {
        if let Message::System(content) = message {
            prompt.text(separator);
            prompt.text(content);
            separator = "\n\n";
        }
    }
    if !tools.is_empty() {
        prompt.text("\n\n");
        describe_tools(tools, &mut prompt);
    }

    let mut after_user = false;
    let mut after_tool = false;
    for (index, message) in messages.iter().enumerate() {
        match message {
            Message::System(_) => {}
            Message::User(content) => {
                prompt.special(Special::User);
                prompt.text(content);
                (after_user, after_tool) = (true, false);
            }
            Message::Assistant(turn) => {
                let continued =
                    options.continue_prefix && turn.prefix && index + 1 == messages.len();
                assistant(
                    turn,
                    options,
                    continued,
                    after_user,
                    after_tool,
                    &mut prompt,
                );
                (after_user, after_tool) = (false, false);
                if continued {
                    prompt.drop_final_eos();
                }
            }
            Message::Tool(tool) => {
                prompt.special(Special::ToolOutputBegin);
                prompt.text(&tool.content);
                prompt.special(Special::ToolOutputEnd);
                (after_user, after_tool) = (false, true);
            }
        }
    }
    // After a tool's result there is no mark: the model goes on at once.
    if options.add_generation_prompt && after_user {
        prompt.special(Special::Assistant);
        prompt.special(if options.thinking {
            Special::ThinkBegin
        } else {
            Special::ThinkEnd
        });
    }
    Ok(prompt)
}

fn assistant(
    turn: &AssistantMessage,
    options: &RenderOptions,
    continued: bool,
    after_user: bool,
    after_tool: bool,
    prompt: &mut Prompt,
) {
    let content = turn.content.as_deref().unwrap_or_default();
    let thinks = options.thinking && turn.prefix && turn.tool_calls.is_empty();
    if after_user {
        prompt.special(Special::Assistant);
        // The mark of an answer without reasoning stays in front of past answers that had some.
        prompt.special(if thinks {
            Special::ThinkBegin
        } else {
            Special::ThinkEnd
        });
    }
    if !turn.tool_calls.is_empty() {
        prompt.text(content);
        prompt.special(Special::ToolCallsBegin);
        for call in &turn.tool_calls {
            prompt.special(Special::ToolCallBegin);
            prompt.text(&call.name);
            prompt.special(Special::ToolSep);
            prompt.text(&call.arguments);
            prompt.special(Special::ToolCallEnd);
        }
        prompt.special(Special::ToolCallsEnd);
        prompt.special(Special::Eos);
        return;
    }
    if let (true, true, true, Some(reasoning)) =
        (continued, thinks, after_user, &turn.reasoning_content)
    {
        prompt.text(reasoning);
        prompt.special(Special::ThinkEnd);
    }
    // Right after a tool's result the template keeps the content whole.
    prompt.text(if after_tool {
        content
    } else {
        without_reasoning(content)
    });
    prompt.special(Special::Eos);
}

/// What follows the first `</think>`, if there is one.
fn without_reasoning(content: &str) -> &str {
    match content.split_once(Special::ThinkEnd.name()) {
        Some((_, answer)) => answer,
        None => content,
    }
}

/// The block that tells the model its tools, word for word as the model card has it.
fn describe_tools(tools: &[Tool], prompt: &mut Prompt) {
    prompt.text("## Tools\nYou have access to the following tools:\n");
    for tool in tools {
        prompt.text("\n### ");
        prompt.text(&tool.name);
        prompt.text("\nDescription: ");
        prompt.text(tool.description.as_deref().unwrap_or_default());
        prompt.text("\n\nParameters: ");
        match &tool.parameters {
            Some(schema) => prompt.text(&dumps(schema)),
            None => prompt.text("{}"),
        }
        prompt.text("\n");
    }
    prompt.text("\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n");
    prompt.special(Special::ToolCallsBegin);
    prompt.special(Special::ToolCallBegin);
    prompt.text("tool_call_name");
    prompt.special(Special::ToolSep);
    prompt.text("tool_call_arguments");
    prompt.special(Special::ToolCallEnd);
    prompt.text("{additional_tool_calls}");
    prompt.special(Special::ToolCallsEnd);
    prompt.text(concat!(
        "\n\nWhere:\n",
        "- `tool_call_name` must be an exact match to one of the available tools\n",
        "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n",
        "- For multiple tool calls, chain them directly without separators or spaces\n",
    ));
}

/// The block as text, for a template that has no place for tools.
pub(crate) fn tool_block(tools: &[Tool]) -> String {
    let mut block = Prompt::default();
    describe_tools(tools, &mut block);
    block.to_text()
}

/// Finds what the format has no form for.
pub(crate) fn check(messages: &[Message]) -> Result<()> {
    let mut may_answer_call = false;
    for (index, message) in messages.iter().enumerate() {
        let wrong = |problem: &str| {
            Err(Error::Message {
                index,
                problem: problem.to_owned(),
            })
        };
        match message {
            // Moved to the front, so it stands between nothing.
            Message::System(_) => {}
            Message::User(_) => may_answer_call = false,
            Message::Assistant(turn) => {
                may_answer_call = !turn.tool_calls.is_empty();
                if turn.content.is_none() && turn.tool_calls.is_empty() {
                    return wrong("an assistant message needs `content` or `tool_calls`");
                }
                if turn.prefix && may_answer_call {
                    return wrong(
                        "a prefix with tool calls cannot be gone on with; leave out one of the two",
                    );
                }
            }
            Message::Tool(_) if !may_answer_call => {
                return wrong(
                    "a tool's result must follow the assistant message with its call (other results may stand between)",
                );
            }
            Message::Tool(_) => {}
        }
    }
    Ok(())
}
