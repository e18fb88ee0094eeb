//! Tools: the right call with the right arguments, or none; then an answer from the result.

mod action;
mod family;
mod information;

use dsv3_tokenizer::{Message, Segment, Special, dumps};
use serde_json::{Map, Value};

use crate::chat;
use crate::check::Check;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode, Split, Turn};
use crate::known;
use crate::length;
use crate::question::plain_system;
use crate::split::UNSEEN_TOOLS;

use family::{Argument, Family, Instance};

/// One example in so many has held-out tools. [`Split::of`] holds out one in 16 of the others, so
/// about half of the held-out part has tools that training never saw.
const UNSEEN_ONE_IN: usize = 17;

/// No example gets longer than this, by [`length::of_segments`]: training packs sequences of 512.
const LONGEST: usize = 484;
/// Most stay below this: a request more costs about 70 tokens.
const USUAL: usize = 370;

/// How the model ends, after what is needed, where no tool is of use.
const NO_TOOL: &str = "I have no tool.";

/// A tool's trouble, now and then in place of a result.
const ERRORS: [&str; 5] = [
    "not found",
    "no connection",
    "not allowed",
    "try again later",
    "wrong value",
];

/// A task of this kind: one to three tools and as many requests.
///
/// The id names tools, arguments and requests that need no tool. It begins with
/// [`UNSEEN_TOOLS`] where every tool is held out; no other example has any held-out tool.
pub(crate) fn example(draw: &mut Draw) -> Result<Example, TasksError> {
    let part = if draw.one_in(UNSEEN_ONE_IN) {
        Split::HeldOut
    } else {
        Split::Train
    };
    let tools = choose_tools(part, draw);
    let described: Vec<_> = tools.iter().map(|tool| tool.tool(draw)).collect();

    let requests: Vec<Request> = (0..draw.between(1, 3))
        .map(|_| Request::draw(&tools, draw))
        .collect();
    let limit = if draw.one_in(4) { LONGEST } else { USUAL };

    let mut turns: Vec<Turn> = Vec::new();
    let mut asked: Vec<String> = Vec::new();
    let mut length = 0;
    for request in requests {
        let given = if turns.is_empty() {
            let system = plain_system(draw).map(Message::System);
            let messages: Vec<_> = system
                .into_iter()
                .chain([Message::User(request.text.clone())])
                .collect();
            chat::given(&messages, &described, Mode::Nothink)?
        } else {
            vec![
                Segment::Special(Special::User),
                Segment::Text(request.text.clone()),
                Segment::Special(Special::Assistant),
                Segment::Special(Special::ThinkEnd),
            ]
        };
        let added = request.turns(given);
        let grown: usize = added.iter().map(turn_length).sum();
        // The first request is always asked: three tools and one request fit.
        if !turns.is_empty() && length + grown > limit {
            break;
        }
        length += grown;
        turns.extend(added);
        asked.push(request.id);
    }

    let prefix = match part {
        Split::HeldOut => UNSEEN_TOOLS,
        Split::Train => "tools/seen/",
    };
    let signatures: Vec<_> = tools.iter().map(Instance::signature).collect();
    let id = format!("{prefix}{}/{}", signatures.join("+"), asked.join(";"));
    Ok(Example {
        split: Split::of(&id),
        id,
        kind: Kind::Tools,
        mode: Mode::Nothink,
        turns,
    })
}

fn families() -> impl Iterator<Item = &'static Family> {
    information::FAMILIES.iter().chain(action::FAMILIES)
}

fn family(draw: &mut Draw) -> Option<&'static Family> {
    let count = information::FAMILIES.len() + action::FAMILIES.len();
    families().nth(draw.below(count))
}

/// One to three tools of different families.
fn choose_tools(part: Split, draw: &mut Draw) -> Vec<Instance> {
    let wanted = draw.pick(&[1, 1, 1, 2, 2, 2, 2, 3, 3, 3]);
    let mut tools: Vec<Instance> = Vec::with_capacity(wanted);
    while tools.len() < wanted {
        let drawn = family(draw)
            .filter(|family| tools.iter().all(|tool| tool.family.key != family.key))
            .and_then(|family| family.instance(part, draw));
        // A tool of another family may have the same name.
        tools.extend(drawn.filter(|new| tools.iter().all(|tool| tool.name != new.name)));
    }
    tools
}

/// A call with its result.
struct Call {
    name: String,
    arguments: Value,
    output: String,
    /// The sentence that tells the result.
    answer: String,
    /// The result as the sentence has it.
    result: String,
}

impl Call {
    fn draw(
        tool: &Instance,
        arguments: &[Option<Argument>],
        may_fail: bool,
        draw: &mut Draw,
    ) -> Self {
        let failed = may_fail && draw.one_in(12);
        let (key, result, answer) = if failed {
            let error = draw.pick(&ERRORS);
            let result = Argument {
                shown: error.to_owned(),
                json: error.into(),
            };
            ("error", result, format!("That did not work: {error}."))
        } else {
            let result = tool.family.outcome.draw(arguments, draw);
            let answer = tool.family.answer(arguments, &result.shown);
            (draw.pick(tool.family.results), result, answer)
        };
        Call {
            name: tool.name.clone(),
            arguments: tool.json(arguments),
            output: dumps(&Value::Object(Map::from_iter([(
                key.to_owned(),
                result.json,
            )]))),
            answer,
            result: result.shown,
        }
    }
}

/// What a user asks for.
struct Request {
    /// The calls, or what is asked that needs none.
    id: String,
    text: String,
    /// None where no tool is of use.
    calls: Vec<Call>,
    /// What is said before the calls, or in their place.
    said: String,
    /// Whether a tool is needed that is not there. Any refusal in words will do then.
    refused: bool,
}

impl Request {
    fn draw(tools: &[Instance], draw: &mut Draw) -> Self {
        match draw.below(100) {
            0..=21 => Request::without_call(tools, draw),
            22..=38 => Request::with_two_calls(tools, draw),
            _ => Request::with_call(tools, draw),
        }
    }

    fn of_calls(text: String, tools: &[Instance], used: &[&Instance], calls: Vec<Call>) -> Self {
        let ids: Vec<_> = calls
            .iter()
            .map(|call| format!("{}{}", call.name, call.arguments))
            .collect();
        Request {
            id: ids.join("&"),
            text,
            calls,
            said: format!("{} {}", listed(tools), chosen(used)),
            refused: false,
        }
    }

    fn with_call(tools: &[Instance], draw: &mut Draw) -> Self {
        let Some(tool) = tools.get(draw.below(tools.len())) else {
            return Request::without_call(tools, draw);
        };
        let arguments = tool.family.arguments(draw);
        let text = tool.family.ask(&arguments, draw);
        let call = Call::draw(tool, &arguments, true, draw);
        Request::of_calls(text, tools, &[tool], vec![call])
    }

    /// Two tools, or one tool for two things. One call where neither can be.
    fn with_two_calls(tools: &[Instance], draw: &mut Draw) -> Self {
        let at = draw.below(tools.len());
        let Some(first) = tools.get(at) else {
            return Request::without_call(tools, draw);
        };
        if first.family.both && (tools.len() == 1 || draw.one_in(2)) {
            let one = first.family.arguments(draw);
            let mut other = one.clone();
            let another = first.family.arguments(draw);
            // Shared but for the first argument.
            let (Some(Some(a)), Some(Some(b))) = (one.first(), another.first()) else {
                return Request::with_call(tools, draw);
            };
            if a.shown != b.shown {
                let mut asked = one.clone();
                asked[0] = Some(Argument {
                    shown: format!("{} and {}", a.shown, b.shown),
                    json: Value::Null,
                });
                other[0] = Some(b.clone());
                let text = first.family.ask(&asked, draw);
                let calls = [one, other]
                    .iter()
                    .map(|arguments| Call::draw(first, arguments, false, draw))
                    .collect();
                return Request::of_calls(text, tools, &[first], calls);
            }
        }
        let rest: Vec<_> = (0..tools.len()).filter(|&other| other != at).collect();
        let Some(second) = tools.get(draw.pick(&rest)).filter(|_| !rest.is_empty()) else {
            return Request::with_call(tools, draw);
        };
        let mut texts = Vec::with_capacity(2);
        let mut calls = Vec::with_capacity(2);
        for tool in [first, second] {
            let arguments = tool.family.arguments(draw);
            texts.push(tool.family.ask(&arguments, draw));
            calls.push(Call::draw(tool, &arguments, false, draw));
        }
        let text = match draw.below(3) {
            0 => texts.join(" "),
            1 => texts.join(" And: "),
            _ => texts.join(" Then: "),
        };
        Request::of_calls(text, tools, &[first, second], calls)
    }

    /// Something that no tool is for: what the model can say by itself, or what only a tool that
    /// isn't there could do.
    fn without_call(tools: &[Instance], draw: &mut Draw) -> Self {
        const TALK: [(&str, &str); 4] = [
            ("Hello!", "Hello! What can I do for you?"),
            ("Thank you!", "You are welcome."),
            ("Thanks, that is all.", "You are welcome."),
            ("Good morning!", "Good morning! What can I do for you?"),
        ];
        let has = |key: &str| tools.iter().any(|tool| tool.family.key == key);
        let direct = |id: String, text: &str, said: String| Request {
            id,
            text: text.to_owned(),
            calls: Vec::new(),
            said,
            refused: false,
        };
        match draw.below(6) {
            0 => {
                let (text, answer) = TALK[draw.below(TALK.len())];
                direct(format!("talk {text}"), text, answer.to_owned())
            }
            // With a calculator at hand, a sum is for it.
            1 if !has("calculate") => {
                let (text, answer) = known::sum(draw);
                direct(format!("known {text}"), &text, answer)
            }
            1 | 2 => {
                let (text, answer) = known::fact(draw);
                direct(format!("known {text}"), &text, answer)
            }
            _ => loop {
                // The model can do sums by itself, so a lacking calculator is no reason to refuse.
                let lacking = family(draw).filter(|f| !has(f.key) && f.key != "calculate");
                if let Some(family) = lacking {
                    let text = family.ask(&family.arguments(draw), draw);
                    let id = format!("none {text}");
                    let said = format!("{} For {} {NO_TOOL}", listed(tools), family.need);
                    return Request {
                        refused: true,
                        ..direct(id, &text, said)
                    };
                }
            },
        }
    }

    /// The turns after `given`: the calls and, after their outputs, the answer; or the answer.
    fn turns(&self, given: Vec<Segment>) -> Vec<Turn> {
        if self.calls.is_empty() {
            let check = if self.refused {
                Check::ToolCalls { calls: Vec::new() }
            } else {
                Check::Exact {
                    answer: self.said.clone(),
                }
            };
            return vec![Turn {
                given,
                answer: chat::answer(None, &self.said),
                check,
            }];
        }

        let mut called = vec![
            Segment::Text(self.said.clone()),
            Segment::Special(Special::ToolCallsBegin),
        ];
        let mut outputs = Vec::with_capacity(3 * self.calls.len());
        for call in &self.calls {
            called.extend([
                Segment::Special(Special::ToolCallBegin),
                Segment::Text(call.name.clone()),
                Segment::Special(Special::ToolSep),
                Segment::Text(dumps(&call.arguments)),
                Segment::Special(Special::ToolCallEnd),
            ]);
            outputs.extend([
                Segment::Special(Special::ToolOutputBegin),
                Segment::Text(call.output.clone()),
                Segment::Special(Special::ToolOutputEnd),
            ]);
        }
        called.extend([
            Segment::Special(Special::ToolCallsEnd),
            Segment::Special(Special::Eos),
        ]);

        let answers: Vec<_> = self.calls.iter().map(|call| call.answer.as_str()).collect();
        let answer = answers.join(" ");
        let check = match self.calls.as_slice() {
            [call] => Check::Contains {
                answer: call.result.clone(),
                citations: Vec::new(),
            },
            // One value alone would leave the other unread, so the whole is compared: a family's
            // sentence has one form.
            _ => Check::Exact {
                answer: answer.clone(),
            },
        };
        let calls = self.calls.iter();
        vec![
            Turn {
                given,
                answer: called,
                check: Check::ToolCalls {
                    calls: calls
                        .map(|call| (call.name.clone(), call.arguments.clone()))
                        .collect(),
                },
            },
            Turn {
                given: outputs,
                answer: chat::answer(None, &answer),
                check,
            },
        ]
    }
}

/// What is said first where a tool may be of use: what each is for, in the prompt's order. What it
/// is for stands before its name, so that to choose is to find the need again and to go on as there:
/// "Tools: a taxi call_cab, the weather get_weather."
fn listed(tools: &[Instance]) -> String {
    let tools: Vec<String> = tools
        .iter()
        .map(|tool| format!("{} {}", tool.family.need, tool.name))
        .collect();
    format!("Tools: {}.", tools.join(", "))
}

/// What is said before calls: what is needed and the tool that is there for it. "For the weather I
/// have get_weather."
fn chosen(tools: &[&Instance]) -> String {
    let mut said = String::new();
    for tool in tools {
        let begin = if said.is_empty() { "For" } else { ", for" };
        said += &format!("{begin} {} I have {}", tool.family.need, tool.name);
    }
    said + "."
}

fn turn_length(turn: &Turn) -> usize {
    length::of_segments(&turn.given) + length::of_segments(&turn.answer)
}

#[cfg(test)]
mod tests;
