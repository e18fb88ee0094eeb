//! One task: what is given, what the model should write, how that is scored.

use dsv3_tokenizer::{Segment, Special};
use serde::{Deserialize, Serialize, Serializer};

use crate::check::Check;

/// What a task is about. Scores are reported by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Adding, subtracting, small products.
    Arithmetic,
    /// Which of some numbers is the largest or smallest.
    Comparing,
    /// Numbers or words in order.
    Sorting,
    /// Letters in a word.
    Counting,
    /// A word backwards.
    Reversing,
    /// Days after a date, days of the week.
    Dates,
    /// Metres to kilometres and the like.
    Units,
    /// Capitals, symbols and the like.
    Facts,
    /// A question that needs an earlier one.
    MultiTurn,
    /// A system instruction that changes the answer.
    System,
    /// The right call with the right arguments, or none; then an answer from the result.
    Tools,
    /// A search where the model can't know, none where it can; then an answer with citations.
    Search,
    /// The middle of a small function.
    Fim,
    /// A fact told far back in a long text.
    Buried,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Kind; 14] = [
        Kind::Arithmetic,
        Kind::Comparing,
        Kind::Sorting,
        Kind::Counting,
        Kind::Reversing,
        Kind::Dates,
        Kind::Units,
        Kind::Facts,
        Kind::MultiTurn,
        Kind::System,
        Kind::Tools,
        Kind::Search,
        Kind::Fim,
        Kind::Buried,
    ];

    /// As in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Arithmetic => "arithmetic",
            Kind::Comparing => "comparing",
            Kind::Sorting => "sorting",
            Kind::Counting => "counting",
            Kind::Reversing => "reversing",
            Kind::Dates => "dates",
            Kind::Units => "units",
            Kind::Facts => "facts",
            Kind::MultiTurn => "multi_turn",
            Kind::System => "system",
            Kind::Tools => "tools",
            Kind::Search => "search",
            Kind::Fim => "fim",
            Kind::Buried => "buried",
        }
    }
}

/// How the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It reasons first (`<think>`).
    Think,
    /// It answers at once (`</think>`).
    Nothink,
    /// No chat at all: fill-in-the-middle.
    Raw,
}

impl Mode {
    /// As in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Think => "think",
            Mode::Nothink => "nothink",
            Mode::Raw => "raw",
        }
    }
}

/// Which part an example belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training may see it.
    Train,
    /// Training never sees it.
    HeldOut,
}

/// One stretch that is given and one that the model writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Turn {
    /// What precedes the answer: not trained on, not generated.
    #[serde(serialize_with = "spelled_out")]
    pub given: Vec<Segment>,
    /// What the model should write, the token that ends it included.
    #[serde(serialize_with = "spelled_out")]
    pub answer: Vec<Segment>,
    /// How what it really writes is scored.
    pub check: Check,
}

impl Turn {
    /// The token at which the model's writing ends: EOS, or the end of a search query.
    pub fn stop(&self) -> Special {
        match self.answer.last() {
            Some(Segment::Special(special)) => *special,
            _ => Special::Eos,
        }
    }
}

/// One task. Its turns follow each other in one sequence: the second turn's `given` comes right
/// after what was written in the first.
///
/// As JSON its texts have the control tokens spelled out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// What it asks, in short and without the seed: two examples with the same id are the same.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// How it asks.
    pub mode: Mode,
    /// Which part it belongs to: follows from the id alone.
    pub split: Split,
    /// One or more.
    pub turns: Vec<Turn>,
}

/// Segments as one string.
pub(crate) fn spell(segments: &[Segment]) -> String {
    segments
        .iter()
        .map(|segment| match segment {
            Segment::Special(special) => special.name(),
            Segment::Text(text) => text,
        })
        .collect()
}

fn spelled_out<S: Serializer>(segments: &[Segment], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&spell(segments))
}
