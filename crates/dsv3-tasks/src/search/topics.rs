//! What nobody can know without looking it up: news of places, firms and matches that don't exist.

use crate::draw::Draw;
use crate::names;

/// A subject of questions. In its templates `{a}` and `{b}` name what is asked about and `{v}` is
/// the answer.
pub(crate) struct Topic {
    /// Tells topics apart.
    pub(crate) key: &'static str,
    /// What `{a}` is.
    pub(crate) a: Pool,
    /// What `{b}` is.
    pub(crate) b: Pool,
    /// What the answer is.
    pub(crate) value: Pool,
    /// Questions.
    pub(crate) asks: &'static [&'static str],
    /// The query: words of the question and nothing else but the topic's own.
    pub(crate) query: &'static str,
    /// Sentences that tell the answer, as a page has them.
    pub(crate) facts: &'static [&'static str],
    /// The sentence that the model answers with.
    pub(crate) answer: &'static str,
}

/// Where names and answers come from.
#[derive(Clone, Copy)]
pub(crate) enum Pool {
    Town,
    Firm,
    FullName,
    Time,
    Amount,
    Date,
    Score,
    Year,
    Integer(i64, i64),
    Word(&'static [&'static str]),
    Band,
}

impl Pool {
    pub(crate) fn draw(self, draw: &mut Draw) -> String {
        match self {
            Pool::Town => names::town(draw),
            Pool::Firm => names::firm(draw),
            Pool::FullName => names::full_name(draw),
            Pool::Time => names::time(draw),
            Pool::Amount => names::amount(draw),
            Pool::Date => format!("{} {}", draw.between(1, 28), draw.pick(&names::MONTHS)),
            Pool::Score => format!("{}:{}", draw.between(0, 9), draw.between(0, 9)),
            // After the model's making.
            Pool::Year => draw.between(2027, 2049).to_string(),
            Pool::Integer(low, high) => draw.between(low, high).to_string(),
            Pool::Word(words) => draw.pick(words).to_owned(),
            Pool::Band => format!(
                "{} {}s",
                names::capitalised(draw.pick(&names::ADJECTIVES)),
                names::capitalised(draw.pick(&["bird", "star", "horse", "dog", "ship", "river"]))
            ),
        }
    }
}

const PRIZES: &[&str] = &["Cup", "Race", "Trophy", "Open", "Prize", "Marathon"];
const GOODS: &[&str] = &[
    "tea", "bread", "rice", "fish", "milk", "coffee", "salt", "cheese",
];
const HOUSES: &[&str] = &[
    "museum", "library", "zoo", "castle", "pool", "market", "theatre",
];
const PRODUCTS: &[&str] = &["phone", "car", "camera", "clock", "bike", "radio"];
const OFFICES: &[&str] = &["mayor", "judge", "doctor", "head teacher", "fire chief"];

/// All of them.
pub(crate) const TOPICS: &[Topic] = &[
    Topic {
        key: "winner",
        a: Pool::Year,
        b: Pool::Town,
        value: Pool::FullName,
        asks: &[
            "Who won the {a} {b} Cup?",
            "Who was the winner of the {a} {b} Cup?",
            "Tell me who won the {a} {b} Cup.",
            "Do you know who won the {a} {b} Cup?",
        ],
        query: "{a} {b} Cup winner",
        facts: &[
            "{v} won the {a} {b} Cup.",
            "The {a} {b} Cup went to {v}.",
            "Winner of the {a} {b} Cup: {v}.",
        ],
        answer: "{v} won the {a} {b} Cup",
    },
    Topic {
        key: "prize",
        a: Pool::Town,
        b: Pool::Word(PRIZES),
        value: Pool::Amount,
        asks: &[
            "How much money does the winner of the {a} {b} get this year?",
            "What does the winner of the {a} {b} get this year?",
            "How much is paid to the winner of the {a} {b} this year?",
        ],
        query: "{a} {b} money",
        facts: &[
            "The winner of the {a} {b} gets {v} euros.",
            "{v} euros go to the winner of the {a} {b}.",
        ],
        answer: "The winner of the {a} {b} gets {v} euros",
    },
    Topic {
        key: "price",
        a: Pool::Word(GOODS),
        b: Pool::Town,
        value: Pool::Amount,
        asks: &[
            "What does {a} cost in {b} today?",
            "What is the price of {a} in {b} today?",
            "How much is {a} in {b} now?",
            "Tell me what {a} costs in {b} today.",
        ],
        query: "{a} price {b}",
        facts: &[
            "Today {a} costs {v} euros in {b}.",
            "The price of {a} in {b} is {v} euros.",
            "In {b} people pay {v} euros for {a}.",
        ],
        answer: "Today {a} costs {v} euros in {b}",
    },
    Topic {
        key: "office",
        a: Pool::Word(OFFICES),
        b: Pool::Town,
        value: Pool::FullName,
        asks: &[
            "Who is the {a} of {b}?",
            "What is the name of the {a} of {b}?",
            "Tell me who is {a} of {b} now.",
            "Who is {a} of {b} now?",
        ],
        query: "{a} {b} name",
        facts: &[
            "{v} is the {a} of {b}.",
            "The {a} of {b} is {v}.",
            "In {b} the {a} is {v}.",
        ],
        answer: "The {a} of {b} is {v}",
    },
    Topic {
        key: "opening",
        a: Pool::Word(HOUSES),
        b: Pool::Town,
        value: Pool::Time,
        asks: &[
            "When does the {a} in {b} open?",
            "At what time does the {a} in {b} open?",
            "When can I go into the {a} in {b}?",
            "Tell me when the {a} in {b} opens.",
        ],
        query: "{a} {b} opening time",
        facts: &[
            "The {a} in {b} opens at {v}.",
            "At {v} the {a} in {b} opens.",
            "Opening time of the {a} in {b}: {v}.",
        ],
        answer: "The {a} in {b} opens at {v}",
    },
    Topic {
        key: "score",
        a: Pool::Town,
        b: Pool::Town,
        value: Pool::Score,
        asks: &[
            "How did {a} play against {b} yesterday?",
            "What was the score of {a} against {b} yesterday?",
            "How did the match of {a} against {b} end?",
            "Tell me the score of {a} against {b}.",
        ],
        query: "{a} {b} score",
        facts: &[
            "{a} against {b} ended {v}.",
            "The match of {a} against {b} ended {v}.",
            "Score of {a} against {b}: {v}.",
        ],
        answer: "{a} against {b} ended {v}",
    },
    Topic {
        key: "ticket",
        a: Pool::Word(HOUSES),
        b: Pool::Town,
        value: Pool::Amount,
        asks: &[
            "How much is a ticket for the {a} in {b}?",
            "What does a ticket for the {a} in {b} cost?",
            "Tell me the price of a ticket for the {a} in {b}.",
        ],
        query: "{a} {b} ticket",
        facts: &[
            "A ticket for the {a} in {b} costs {v} euros.",
            "Tickets for the {a} in {b} are {v} euros.",
        ],
        answer: "A ticket for the {a} in {b} costs {v} euros",
    },
    Topic {
        key: "bus",
        a: Pool::Integer(1, 99),
        b: Pool::Town,
        value: Pool::Time,
        asks: &[
            "When does bus {a} leave in {b}?",
            "When does the next bus {a} go in {b}?",
            "At what time does bus {a} leave in {b}?",
        ],
        query: "bus {a} {b}",
        facts: &[
            "Bus {a} leaves in {b} at {v}.",
            "In {b} the next bus {a} goes at {v}.",
        ],
        answer: "Bus {a} leaves in {b} at {v}",
    },
    Topic {
        key: "people",
        a: Pool::Town,
        b: Pool::Year,
        value: Pool::Integer(1200, 98_000),
        asks: &[
            "How many people lived in {a} in {b}?",
            "How many people did {a} have in {b}?",
            "Tell me how many people lived in {a} in {b}.",
        ],
        query: "{a} people {b}",
        facts: &[
            "In {b} {v} people lived in {a}.",
            "{a} had {v} people in {b}.",
        ],
        answer: "In {b} {v} people lived in {a}",
    },
    Topic {
        key: "release",
        a: Pool::Word(PRODUCTS),
        b: Pool::Firm,
        value: Pool::Date,
        asks: &[
            "When does the new {a} by {b} come out?",
            "When can I buy the new {a} by {b}?",
            "On which day does the new {a} by {b} come out?",
        ],
        query: "new {a} {b} date",
        facts: &[
            "The new {a} by {b} comes out on {v}.",
            "On {v} {b} sells the new {a}.",
        ],
        answer: "The new {a} by {b} comes out on {v}",
    },
    Topic {
        key: "chief",
        a: Pool::Firm,
        b: Pool::Year,
        value: Pool::FullName,
        asks: &[
            "Who leads {a} in {b}?",
            "Who is the head of {a} in {b}?",
            "Tell me who leads {a} in {b}.",
        ],
        query: "head of {a} {b}",
        facts: &["{v} leads {a} in {b}.", "The head of {a} in {b} is {v}."],
        answer: "{v} leads {a} in {b}",
    },
    Topic {
        key: "concert",
        a: Pool::Band,
        b: Pool::Date,
        value: Pool::Town,
        asks: &[
            "Where do the {a} play on {b}?",
            "In which town do the {a} play on {b}?",
            "Tell me where the {a} play on {b}.",
        ],
        query: "{a} {b} concert",
        facts: &["The {a} play in {v} on {b}.", "On {b} the {a} are in {v}."],
        answer: "On {b} the {a} play in {v}",
    },
];
