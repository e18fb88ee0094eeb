//! From a conversation in OpenAI's form to sequences: who said what decides what is trained.
//!
//! What each turn of the model adds is found by rendering with and without it, so the renderer of
//! dsv3-tokenizer stays the only place that knows the chat format.

use dsv3_tokenizer::{
    AssistantMessage, Conversation, Message, RenderOptions, Segment, Special, TokenId, Tokenizer,
    render,
};
use serde_json::Value;

use crate::data::hash::ContentHash;
use crate::data::sequence::{SequenceBuilder, TrainSequence, encode};
use crate::error::TrainError;

/// How often a conversation may repeat its history for the sake of turns with reasoning, in
/// contexts: a line of a thousand such turns would otherwise fill the memory with copies.
const MAX_CONTEXTS: usize = 64;

/// How conversations become sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationOptions {
    /// The longest sequence, in tokens.
    pub context: usize,
}

/// What a conversation teaches.
pub(crate) struct Lesson {
    pub(crate) sequences: Vec<TrainSequence>,
    /// Of what is said in it, whatever the spelling of the JSON.
    pub(crate) hash: u64,
}

/// One turn of the model, with what precedes it since the last one.
struct Turn {
    /// System messages that were there when the model spoke.
    systems: usize,
    trained: bool,
    /// Up to where the model writes, told not to reason: also what later turns see.
    given: Vec<TokenId>,
    /// The same, told to reason, and the reasoning with its end.
    reasoning: Option<(Vec<TokenId>, Vec<TokenId>)>,
    /// What the model writes but for reasoning.
    answer: Vec<TokenId>,
}

/// A sequence to be made: it begins with head `head` and ends with turn `end`.
struct Plan {
    head: usize,
    end: usize,
    trained: Vec<usize>,
}

/// The sequences of a conversation. A message is read and not learned where `learned` has a false
/// for it.
pub(crate) fn learn(
    conversation: &Conversation,
    learned: &[bool],
    tokenizer: &Tokenizer,
    options: &ConversationOptions,
) -> Result<Lesson, TrainError> {
    let messages = normalize(&conversation.messages)?;
    // Only for its errors: here the numbers of the messages are the file's.
    render(&messages, &[], &CLOSED)?;
    check_calls(conversation)?;

    let mut hash = ContentHash::new();
    let turns = turns(&messages, learned, tokenizer, &mut hash)?;
    let systems: Vec<Message> = messages.into_iter().filter(is_system).collect();
    for message in &systems {
        if let Message::System(content) = message {
            hash.piece(content.as_bytes());
        }
    }
    for tool in &conversation.tools {
        hash.piece(Value::from(tool.clone()).to_string().as_bytes());
    }

    let mut plans = plans(&turns);
    if plans.is_empty() {
        let weighted = !turns.is_empty();
        return Err(TrainError::NoAnswer { weighted });
    }
    // All lengths before the first sequence is made: too much is refused while it is still a sum.
    let limit = options.context.saturating_mul(MAX_CONTEXTS);
    let past = history_lengths(&turns);
    let mut heads: Vec<(usize, Vec<TokenId>)> = Vec::new();
    let (mut longest, mut total) = (0, 0);
    for plan in &mut plans {
        let Some(last) = turns.get(plan.end) else {
            continue;
        };
        let head = match heads.last() {
            Some((count, head)) if *count == last.systems => head.len(),
            _ => {
                let systems = systems.get(..last.systems).unwrap_or(&systems);
                let head = render(systems, &conversation.tools, &CLOSED)?;
                let head = encode(head.segments(), tokenizer)?;
                let length = head.len();
                heads.push((last.systems, head));
                length
            }
        };
        plan.head = heads.len() - 1;
        let length = head + past.get(plan.end).copied().unwrap_or_default() + last.length();
        longest = longest.max(length);
        total += length;
        if total > limit {
            break;
        }
    }
    if longest > options.context {
        return Err(TrainError::TooLong {
            tokens: longest,
            context: options.context,
        });
    }
    if total > limit {
        return Err(TrainError::TooManyTokens {
            tokens: total,
            limit,
        });
    }
    let sequences = plans
        .iter()
        .map(|plan| {
            let head = heads.get(plan.head).map_or(&[][..], |(_, head)| head);
            assemble(head, &turns, plan)
        })
        .collect::<Result<_, _>>()?;
    Ok(Lesson {
        sequences,
        hash: hash.finish(),
    })
}

impl Turn {
    /// Tokens of it where it is the last of a sequence.
    fn length(&self) -> usize {
        let before = match &self.reasoning {
            Some((given, reasoning)) => given.len() + reasoning.len(),
            None => self.given.len(),
        };
        before + self.answer.len()
    }
}

/// Tokens of all turns before each, as later turns see them.
fn history_lengths(turns: &[Turn]) -> Vec<usize> {
    let mut sum = 0;
    let lengths = turns.iter().map(|turn| {
        sum += turn.given.len() + turn.answer.len();
        sum - turn.given.len() - turn.answer.len()
    });
    lengths.collect()
}

/// A conversation as it stands, with nothing to generate.
const CLOSED: RenderOptions = RenderOptions {
    thinking: false,
    add_generation_prompt: false,
    continue_prefix: false,
};

/// Moves reasoning that stands inside of the content to its field, and finds what no turn of the
/// model may hold.
fn normalize(messages: &[Message]) -> Result<Vec<Message>, TrainError> {
    // System messages move to the front: they stand between nothing.
    let mut before: Option<&'static str> = None;
    let mut normal = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let message = match message {
            Message::Assistant(turn) => {
                let turn = split_reasoning(turn);
                check_turn(&turn, before)
                    .map_err(|problem| TrainError::Message { index, problem })?;
                Message::Assistant(turn)
            }
            other => other.clone(),
        };
        if !is_system(&message) {
            before = Some(message.role());
        }
        normal.push(message);
    }
    Ok(normal)
}

/// `<think>reasoning</think>answer` as content is how completions are often stored. Empty
/// reasoning is none.
fn split_reasoning(turn: &AssistantMessage) -> AssistantMessage {
    let mut turn = turn.clone();
    turn.reasoning_content = turn.reasoning_content.filter(|text| !text.is_empty());
    if turn.reasoning_content.is_none()
        && let Some(content) = &turn.content
        && let Some(inside) = content
            .trim_start()
            .strip_prefix(Special::ThinkBegin.name())
        && let Some((reasoning, answer)) = inside.split_once(Special::ThinkEnd.name())
    {
        let (reasoning, answer) = (reasoning.to_owned(), answer.to_owned());
        turn.reasoning_content = Some(reasoning).filter(|text| !text.is_empty());
        turn.content = Some(answer);
    }
    turn
}

fn check_turn(turn: &AssistantMessage, before: Option<&str>) -> Result<(), String> {
    let content = turn.content.as_deref().unwrap_or_default();
    let empty = content.is_empty() && turn.tool_calls.is_empty();
    let reasoning = turn.reasoning_content.as_deref();
    match before {
        Some("user" | "tool") => {}
        None => {
            return Err("an assistant message comes first, where the chat format has no mark that lets the model speak. Begin with a user message".to_owned());
        }
        Some(_) => {
            return Err("it follows another assistant message, and the chat format has no mark between the two. Join them, or put what the user said between".to_owned());
        }
    }
    if turn.prefix {
        return Err("`prefix` begins an answer that a model is to go on with; there is nothing to learn after it. Give the whole answer, without `prefix`".to_owned());
    }
    if reasoning.is_some() && before == Some("tool") {
        return Err("it reasons right after a tool's result, where the chat format has the model go on at once. Take `reasoning_content` out of this message".to_owned());
    }
    if content.trim_start().starts_with(Special::ThinkBegin.name()) && reasoning.is_none() {
        return Err("its content begins with `<think>` and never ends it; an answer must follow the reasoning".to_owned());
    }
    match reasoning {
        Some(_) if empty => {
            return Err("it has reasoning and neither an answer nor a tool call after it. Complete it, or take it out".to_owned());
        }
        None if empty => {
            return Err("its content is empty: the model would learn to say nothing. Complete it, or take it out".to_owned());
        }
        _ => {}
    }
    // As text these names would be spelled out letter by letter, which no parser of answers reads.
    let texts = [
        ("content", content),
        ("reasoning", reasoning.unwrap_or_default()),
    ];
    let calls = turn.tool_calls.iter().flat_map(|call| {
        [
            ("a tool call's name", call.name.as_str()),
            ("a tool call's arguments", call.arguments.as_str()),
        ]
    });
    for (what, text) in texts.into_iter().chain(calls) {
        if let Some(name) = control_token(text) {
            return Err(format!(
                "the control token `{name}` is spelled out in {what}. Reasoning belongs into `reasoning_content`, calls into `tool_calls`; other control tokens can't be written in a message"
            ));
        }
    }
    Ok(())
}

/// A control token's name in a text, if the model could not mean just the letters.
fn control_token(text: &str) -> Option<&'static str> {
    // All names but `<think>` and `<|EOT|>` have one of the two in them.
    if !text.contains('｜') && !text.contains(Special::ThinkEnd.name()) {
        return None;
    }
    let harmless = [Special::ThinkBegin, Special::Eot];
    Special::ALL
        .into_iter()
        .filter(|special| !harmless.contains(special))
        .map(Special::name)
        .find(|name| text.contains(name))
}

/// Finds calls that would teach the model to call what isn't there, or with what is no JSON.
fn check_calls(conversation: &Conversation) -> Result<(), TrainError> {
    let tools = &conversation.tools;
    for (index, message) in conversation.messages.iter().enumerate() {
        let Message::Assistant(turn) = message else {
            continue;
        };
        for (at, call) in turn.tool_calls.iter().enumerate() {
            let wrong = |problem: String| TrainError::Message {
                index,
                problem: format!("tool_calls[{at}]: {problem}"),
            };
            match serde_json::from_str::<Value>(&call.arguments) {
                Ok(Value::Object(_)) => {}
                Ok(_) => {
                    return Err(wrong(
                        "`arguments` is not a JSON object. Write one, {} if it is empty".to_owned(),
                    ));
                }
                Err(error) => return Err(wrong(format!("`arguments` is not JSON: {error}"))),
            }
            // Without a list of tools they are described in the system message, in words.
            if !tools.is_empty() && !tools.iter().any(|tool| tool.name == call.name) {
                return Err(wrong(format!(
                    "`{}` is none of the conversation's tools. Add it to `tools`, or mend the name",
                    call.name
                )));
            }
        }
    }
    Ok(())
}

/// The turns of the model. Each message is rendered a few times and no more, however many turns
/// there are: a slice begins with the turn before, whose EOS shows where the new part starts.
fn turns(
    messages: &[Message],
    learned: &[bool],
    tokenizer: &Tokenizer,
    hash: &mut ContentHash,
) -> Result<Vec<Turn>, TrainError> {
    let mut turns = Vec::new();
    let mut systems = 0;
    let mut slice: Vec<Message> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if is_system(message) {
            systems += 1;
            continue;
        }
        let Message::Assistant(assistant) = message else {
            slice.push(message.clone());
            continue;
        };
        let first = turns.is_empty();
        let given = added(&slice, &RenderOptions::to_generate(false), first)?;
        let to_reason = added(&slice, &RenderOptions::to_generate(true), first)?;
        slice.push(message.clone());
        let whole = added(&slice, &CLOSED, first)?;
        slice.drain(..slice.len() - 1);
        let Some(answer) = whole.strip_prefix(given.as_slice()) else {
            let problem = "what it adds can't be told from what precedes it".to_owned();
            return Err(TrainError::Message { index, problem });
        };

        let trained = learned.get(index).copied().unwrap_or(true);
        let reasoning = assistant.reasoning_content.as_deref();
        hash.piece(&[u8::from(trained), u8::from(reasoning.is_some())]);
        hash.piece(reasoning.unwrap_or_default().as_bytes());
        hash.piece(&(systems as u64).to_le_bytes());
        for segment in &whole {
            match segment {
                Segment::Special(special) => hash.piece(special.name().as_bytes()),
                Segment::Text(text) => hash.piece(text.as_bytes()),
            }
        }
        turns.push(Turn {
            systems,
            trained,
            given: encode(&given, tokenizer)?,
            reasoning: match reasoning {
                Some(text) => {
                    let mut written = tokenizer.encode(text)?;
                    written.push(tokenizer.special().think_end);
                    Some((encode(&to_reason, tokenizer)?, written))
                }
                None => None,
            },
            answer: encode(answer, tokenizer)?,
        });
    }
    Ok(turns)
}

/// What a slice renders to, from the end of the turn that it begins with, or after BOS.
fn added(
    slice: &[Message],
    options: &RenderOptions,
    first: bool,
) -> Result<Vec<Segment>, TrainError> {
    let before = Segment::Special(if first { Special::Bos } else { Special::Eos });
    let prompt = render(slice, &[], options)?;
    let mut segments = prompt.segments().iter();
    segments.by_ref().find(|segment| **segment == before);
    Ok(segments.cloned().collect())
}

/// Which sequences are made of these turns. Turns that see the same system messages share a
/// sequence, which ends with the last of them; those of them that reason and aren't last have
/// their own.
fn plans(turns: &[Turn]) -> Vec<Plan> {
    let mut plans = Vec::new();
    let trained: Vec<usize> = (0..turns.len())
        .filter(|at| turns.get(*at).is_some_and(|turn| turn.trained))
        .collect();
    let systems = |at: &usize| turns.get(*at).map(|turn| turn.systems);
    for group in trained.chunk_by(|a, b| systems(a) == systems(b)) {
        let Some((&end, earlier)) = group.split_last() else {
            continue;
        };
        let (reasoning, plain): (Vec<usize>, Vec<usize>) = earlier
            .iter()
            .partition(|at| turns.get(**at).is_some_and(|turn| turn.reasoning.is_some()));
        let plan = |end, trained| Plan {
            head: 0,
            end,
            trained,
        };
        plans.extend(reasoning.into_iter().map(|at| plan(at, vec![at])));
        let mut trained = plain;
        trained.push(end);
        plans.push(plan(end, trained));
    }
    plans
}

fn assemble(head: &[TokenId], turns: &[Turn], plan: &Plan) -> Result<TrainSequence, TrainError> {
    let mut builder = SequenceBuilder::default();
    builder.push(head, false);
    let mut trained = plan.trained.iter().peekable();
    for (at, turn) in turns.iter().enumerate().take(plan.end + 1) {
        let learn = trained.next_if(|next| **next == at).is_some();
        match &turn.reasoning {
            Some((given, reasoning)) if at == plan.end => {
                builder.push(given, false);
                builder.push(reasoning, learn);
            }
            _ => builder.push(&turn.given, false),
        }
        builder.push(&turn.answer, learn);
    }
    builder.finish()
}

fn is_system(message: &Message) -> bool {
    matches!(message, Message::System(_))
}

#[cfg(test)]
mod tests;
