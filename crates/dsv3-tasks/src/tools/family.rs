//! What tools are made of: names, descriptions, parameters, the ways to ask and what comes back.

use serde_json::{Map, Value, json};

use dsv3_tokenizer::Tool;

use crate::draw::Draw;
use crate::example::Split;
use crate::names::{self, fill};
use crate::split::hash;

/// Tools that do the same under other names.
pub(crate) struct Family {
    /// Tells families apart.
    pub(crate) key: &'static str,
    /// What it is for, as the model says it before it calls or refuses: one phrase a family, so
    /// that finding the need and finding its tool are two steps.
    pub(crate) need: &'static str,
    /// Names are `verb_noun`.
    pub(crate) verbs: &'static [&'static str],
    /// Names are `verb_noun`.
    pub(crate) nouns: &'static [&'static str],
    /// One sentence each.
    pub(crate) descriptions: &'static [&'static str],
    /// The parameters in the schema's order.
    pub(crate) slots: &'static [Slot],
    /// Requests, with `{0}` for the first argument and so on; optional ones are not in them.
    pub(crate) asks: &'static [&'static str],
    /// Keys under which the result may come.
    pub(crate) results: &'static [&'static str],
    /// What comes back.
    pub(crate) outcome: Outcome,
    /// The answer, with `{r}` for the result.
    pub(crate) answer: &'static str,
    /// Whether "A and B" for the first argument asks for two calls.
    pub(crate) both: bool,
}

/// A parameter.
pub(crate) struct Slot {
    /// Names that it may have.
    pub(crate) names: &'static [&'static str],
    /// Where its values come from.
    pub(crate) values: Values,
    /// Optional if there is one: what the request says where the argument is given, with `{}`.
    pub(crate) phrase: Option<&'static str>,
}

/// A required parameter.
pub(crate) const fn needed(names: &'static [&'static str], values: Values) -> Slot {
    Slot {
        names,
        values,
        phrase: None,
    }
}

/// An optional parameter.
pub(crate) const fn optional(
    names: &'static [&'static str],
    values: Values,
    phrase: &'static str,
) -> Slot {
    Slot {
        names,
        values,
        phrase: Some(phrase),
    }
}

/// Where a parameter's values come from; this decides its type, too.
#[derive(Clone, Copy)]
pub(crate) enum Values {
    Place,
    Person,
    Integer(i64, i64),
    Amount,
    Time,
    Day,
    Room,
    Title,
    Saying,
    Symbol,
    Currency,
    Expression,
    Word(&'static [&'static str]),
    Enum(&'static [&'static str]),
    Switch,
}

/// An argument: as the request says it and as the call has it.
#[derive(Clone)]
pub(crate) struct Argument {
    pub(crate) shown: String,
    pub(crate) json: Value,
}

impl Values {
    fn schema(self) -> Value {
        match self {
            Values::Integer(..) => json!({"type": "integer"}),
            Values::Amount => json!({"type": "number"}),
            Values::Switch => json!({"type": "boolean"}),
            Values::Enum(choices) => json!({"type": "string", "enum": choices}),
            _ => json!({"type": "string"}),
        }
    }

    fn draw(self, draw: &mut Draw) -> Argument {
        let shown = match self {
            Values::Place => names::place(draw),
            Values::Person => names::person(draw),
            Values::Integer(low, high) => {
                let number = draw.between(low, high);
                return Argument {
                    shown: number.to_string(),
                    json: number.into(),
                };
            }
            Values::Amount => {
                let shown = names::amount(draw);
                // The text is a number as JSON writes it, so this can't fail.
                let json = serde_json::from_str(&shown).unwrap_or_default();
                return Argument { shown, json };
            }
            Values::Switch => {
                let on = draw.one_in(2);
                return Argument {
                    shown: if on { "on" } else { "off" }.to_owned(),
                    json: on.into(),
                };
            }
            Values::Time => names::time(draw),
            Values::Day => draw.pick(&names::DAYS).to_owned(),
            Values::Room => draw.pick(&names::ROOMS).to_owned(),
            Values::Title => names::title(draw),
            Values::Saying => saying(draw),
            Values::Symbol => names::letters(draw, 3),
            Values::Currency => draw.pick(&CURRENCIES).to_owned(),
            Values::Expression => expression(draw),
            Values::Word(words) | Values::Enum(words) => draw.pick(words).to_owned(),
        };
        Argument {
            json: shown.clone().into(),
            shown,
        }
    }
}

const CURRENCIES: [&str; 8] = ["EUR", "USD", "GBP", "CHF", "JPY", "SEK", "CAD", "NOK"];

/// Something that someone may be told.
fn saying(draw: &mut Draw) -> String {
    match draw.below(6) {
        0 => format!("see you at {}", names::time(draw)),
        1 => format!("I am in {}", names::place(draw)),
        2 => format!("bring the {}", thing(draw)),
        3 => format!(
            "call {} on {}",
            names::person(draw),
            draw.pick(&names::DAYS)
        ),
        4 => format!("the {} is in the {}", thing(draw), draw.pick(&names::ROOMS)),
        _ => format!("thank you for the {}", thing(draw)),
    }
}

fn thing(draw: &mut Draw) -> String {
    format!(
        "{} {}",
        draw.pick(&names::ADJECTIVES),
        draw.pick(&names::THINGS)
    )
}

/// A sum that [`evaluate`] knows.
fn expression(draw: &mut Draw) -> String {
    let (a, b) = (draw.between(2, 99), draw.between(2, 99));
    match draw.below(3) {
        0 => format!("{a} + {b}"),
        1 => format!("{} - {b}", a + b),
        _ => format!("{a} * {b}"),
    }
}

/// What a calculator gives for `a + b`, `a - b` and `a * b`.
pub(crate) fn evaluate(expression: &str) -> Option<i64> {
    let mut parts = expression.split(' ');
    let (a, sign, b) = (parts.next()?, parts.next()?, parts.next()?);
    let (a, b): (i64, i64) = (a.parse().ok()?, b.parse().ok()?);
    match sign {
        "+" => Some(a + b),
        "-" => Some(a - b),
        "*" => Some(a * b),
        _ => None,
    }
}

/// What a tool gives back.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Integer(i64, i64),
    Amount,
    Time,
    OneOf(&'static [&'static str]),
    /// Two letters and three digits.
    Code,
    /// A phone number.
    Phone,
    Title,
    Town,
    /// Two words of no language.
    Foreign,
    /// The value of the first argument.
    Value,
    /// A number between the first two arguments.
    Within,
}

impl Outcome {
    /// The result as JSON and as the answer says it.
    pub(crate) fn draw(self, arguments: &[Option<Argument>], draw: &mut Draw) -> Argument {
        let number = |number: i64| Argument {
            shown: number.to_string(),
            json: number.into(),
        };
        let of = |at: usize| arguments.get(at).and_then(Option::as_ref);
        let bound = |at: usize| of(at).and_then(|a| a.json.as_i64()).unwrap_or_default();
        let text = match self {
            Outcome::Integer(low, high) => return number(draw.between(low, high)),
            Outcome::Within => return number(draw.between(bound(0), bound(1))),
            Outcome::Value => {
                return number(of(0).and_then(|a| evaluate(&a.shown)).unwrap_or_default());
            }
            Outcome::Amount => return Values::Amount.draw(draw),
            Outcome::Time => names::time(draw),
            Outcome::OneOf(words) => draw.pick(words).to_owned(),
            Outcome::Code => format!("{}{}", names::letters(draw, 2), draw.between(100, 999)),
            Outcome::Phone => format!("555 {}", draw.between(1000, 9999)),
            Outcome::Title => names::title(draw),
            Outcome::Town => names::town(draw),
            Outcome::Foreign => format!("{} {}", foreign(draw), foreign(draw)),
        };
        Argument {
            json: text.clone().into(),
            shown: text,
        }
    }
}

fn foreign(draw: &mut Draw) -> String {
    const BEGINNINGS: [&str; 8] = ["lo", "mi", "sa", "tu", "ke", "ra", "no", "be"];
    const ENDINGS: [&str; 8] = ["ra", "ta", "no", "li", "du", "mes", "ka", "vo"];
    format!("{}{}", draw.pick(&BEGINNINGS), draw.pick(&ENDINGS))
}

/// A family under one name, as a prompt lists it.
pub(crate) struct Instance {
    pub(crate) family: &'static Family,
    pub(crate) name: String,
    /// The parameters' names.
    pub(crate) parameters: Vec<&'static str>,
}

/// One name in so many is held out.
const HELD_OUT_ONE_IN: u64 = 4;

/// Which part a tool of this name is for.
pub(crate) fn split_of_name(name: &str) -> Split {
    if hash(name).is_multiple_of(HELD_OUT_ONE_IN) {
        Split::HeldOut
    } else {
        Split::Train
    }
}

impl Family {
    /// The names that a part may use.
    pub(crate) fn names(&self, split: Split) -> Vec<String> {
        self.verbs
            .iter()
            .flat_map(|verb| self.nouns.iter().map(move |noun| format!("{verb}_{noun}")))
            .filter(|name| split_of_name(name) == split)
            .collect()
    }

    /// One of its names with parameters to it; `None` where the part has no name.
    ///
    /// More than half of the names have an invented word in them, as firms put theirs in: there
    /// are too many of those to be known by heart, so the prompt has to be read.
    pub(crate) fn instance(&'static self, split: Split, draw: &mut Draw) -> Option<Instance> {
        let name = if draw.below(5) < 3 {
            self.invented_name(split, draw)
        } else {
            let names = self.names(split);
            names.get(draw.below(names.len()))?.clone()
        };
        Some(Instance {
            family: self,
            name,
            parameters: self
                .slots
                .iter()
                .map(|slot| draw.pick(slot.names))
                .collect(),
        })
    }

    /// A name with an invented word before, behind or instead of a word.
    fn invented_name(&self, split: Split, draw: &mut Draw) -> String {
        loop {
            let (verb, noun) = (draw.pick(self.verbs), draw.pick(self.nouns));
            let word = names::invented(draw);
            let name = match draw.below(4) {
                0 => format!("{word}_{verb}_{noun}"),
                1 => format!("{verb}_{noun}_{word}"),
                2 => format!("{verb}_{word}"),
                _ => format!("{word}_{noun}"),
            };
            if split_of_name(&name) == split {
                return name;
            }
        }
    }

    /// Arguments for its parameters; an optional one is given in half of the cases.
    pub(crate) fn arguments(&self, draw: &mut Draw) -> Vec<Option<Argument>> {
        let mut arguments: Vec<Option<Argument>> = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            let given = slot.phrase.is_none() || draw.one_in(2);
            let mut argument = slot.values.draw(draw);
            // From one town to the same, or euros to euros, would be nothing to ask for.
            while arguments
                .iter()
                .flatten()
                .any(|other| other.shown == argument.shown)
            {
                argument = slot.values.draw(draw);
            }
            arguments.push(given.then_some(argument));
        }
        if matches!(self.outcome, Outcome::Within) {
            let bound = |a: &Option<Argument>| a.as_ref().and_then(|a| a.json.as_i64());
            arguments.sort_by_key(bound);
        }
        arguments
    }

    /// A request for these arguments.
    pub(crate) fn ask(&self, arguments: &[Option<Argument>], draw: &mut Draw) -> String {
        let mut request = self.fill(draw.pick(self.asks), arguments, "");
        let end = request.pop().map(String::from).unwrap_or_default();
        for (slot, argument) in self.slots.iter().zip(arguments) {
            if let (Some(phrase), Some(argument)) = (slot.phrase, argument) {
                request.push_str(&fill(phrase, &[("", &argument.shown)]));
            }
        }
        request + &end
    }

    /// The answer to a result.
    pub(crate) fn answer(&self, arguments: &[Option<Argument>], result: &str) -> String {
        self.fill(self.answer, arguments, result)
    }

    fn fill(&self, template: &str, arguments: &[Option<Argument>], result: &str) -> String {
        let shown = |at: usize| match arguments.get(at) {
            Some(Some(argument)) => argument.shown.as_str(),
            _ => "",
        };
        let values = [
            ("0", shown(0)),
            ("1", shown(1)),
            ("2", shown(2)),
            ("r", result),
        ];
        fill(template, &values)
    }
}

impl Instance {
    /// As the prompt's block has it.
    pub(crate) fn tool(&self, draw: &mut Draw) -> Tool {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (slot, name) in self.family.slots.iter().zip(&self.parameters) {
            properties.insert((*name).to_owned(), slot.values.schema());
            if slot.phrase.is_none() {
                required.push(*name);
            }
        }
        Tool {
            name: self.name.clone(),
            description: Some(draw.pick(self.family.descriptions).to_owned()),
            parameters: Some(json!({
                "type": "object",
                "properties": properties,
                "required": required,
            })),
        }
    }

    /// A call's arguments, in the schema's order.
    pub(crate) fn json(&self, arguments: &[Option<Argument>]) -> Value {
        let given = self.parameters.iter().zip(arguments);
        let given = given.filter_map(|(name, argument)| {
            Some(((*name).to_owned(), argument.as_ref()?.json.clone()))
        });
        Value::Object(given.collect())
    }

    /// Name and parameters, for an example's id.
    pub(crate) fn signature(&self) -> String {
        format!("{}({})", self.name, self.parameters.join(","))
    }
}
