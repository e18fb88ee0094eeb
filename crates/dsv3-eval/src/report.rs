//! Scores by kind and mode, and what lies behind them.

use dsv3_tasks::{Kind, Mode};
use dsv3_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::details::details;
use crate::episode::Outcome;
use crate::interval::Rate;
use crate::prepared::{Prepared, PreparedTask};
use crate::segments::to_text;

/// What was evaluated, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The model's folder.
    pub model: String,
    /// Where it was computed.
    pub device: String,
    /// Format of activations.
    pub dtype: String,
    /// How the cache kept its tokens.
    #[serde(default)]
    pub cache: String,
    /// Whether activations were rounded to fp8 in front of fp8 weights.
    pub w8a8: bool,
    /// The seed of the tasks.
    pub seed: u64,
    /// Tasks a kind and mode.
    pub count: usize,
    /// Tokens that the model might write in a turn.
    pub max_new_tokens: usize,
}

/// How many of one kind and mode are right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The kind.
    pub kind: Kind,
    /// The mode.
    pub mode: Mode,
    /// Tasks of which every turn is right.
    #[serde(flatten)]
    pub rate: Rate,
}

/// Something else that is counted about one kind and mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The kind.
    pub kind: Kind,
    /// The mode.
    pub mode: Mode,
    /// What is counted, in words.
    pub measure: String,
    /// How many.
    #[serde(flatten)]
    pub rate: Rate,
}

/// All kinds of one mode together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// The mode.
    pub mode: Mode,
    /// Tasks of which every turn is right.
    #[serde(flatten)]
    pub rate: Rate,
}

/// A wrong turn, to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: Kind,
    /// The mode.
    pub mode: Mode,
    /// The task.
    pub id: String,
    /// The first wrong turn, from 1.
    pub turn: usize,
    /// All that stood before it.
    pub prompt: String,
    /// An answer that would have been right.
    pub expected: String,
    /// What the model wrote.
    pub got: String,
    /// What is wrong about it.
    pub wrong: String,
}

/// The result of an evaluation. As JSON it is the output of `dsv3 eval fixture --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was evaluated, and how.
    #[serde(flatten)]
    pub settings: Settings,
    /// Fingerprint of the tasks: reports can be compared where it is the same.
    pub set: String,
    /// By kind and mode.
    pub scores: Vec<Score>,
    /// By mode, over all kinds that were asked in it.
    pub totals: Vec<Total>,
    /// What lies behind the scores: turns, tools, search, lengths.
    pub details: Vec<Detail>,
    /// Second tokens of the MTP module that greedy decoding would accept; `None` where the
    /// checkpoint has no such module.
    pub mtp_acceptance: Option<Rate>,
    /// Lengths of the buried fact that the model has no room for.
    pub skipped_lengths: Vec<usize>,
    /// Tasks given.
    pub tasks: usize,
    /// Tokens given in prompts, each once.
    pub prompt_tokens: usize,
    /// Tokens that the model wrote.
    pub tokens: usize,
    /// Seconds from the first prompt to the last answer.
    pub seconds: f64,
    /// Wrong answers, at most as many a kind and mode as were asked for.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Count `outcomes`, which are those of `prepared`'s tasks in order. At most `failures` wrong
    /// answers of each kind and mode are kept.
    ///
    /// # Errors
    /// [`dsv3_tokenizer::Error::UnknownId`] for ids that the tokenizer doesn't know.
    pub fn new(
        settings: Settings,
        prepared: &Prepared,
        outcomes: &[Outcome],
        tokenizer: &Tokenizer,
        seconds: f64,
        failures: usize,
    ) -> Result<Self, dsv3_tokenizer::Error> {
        let pairs: Vec<Pair<'_>> = prepared.tasks.iter().zip(outcomes).collect();
        let tokens = outcomes.iter().map(Outcome::tokens).sum();
        let all: usize = outcomes.iter().map(|o| o.ids.len()).sum();
        let mut report = Report {
            settings,
            set: prepared.fingerprint.clone(),
            scores: Vec::new(),
            totals: Vec::new(),
            details: Vec::new(),
            mtp_acceptance: None,
            skipped_lengths: prepared.skipped_lengths.clone(),
            tasks: pairs.len(),
            prompt_tokens: all - tokens,
            tokens,
            seconds,
            failures: Vec::new(),
        };
        for (kind, mode) in groups(&pairs) {
            let of_group: Vec<Pair<'_>> = pairs
                .iter()
                .filter(|(task, _)| group(task) == (kind, mode))
                .copied()
                .collect();
            let scored = of_group.iter().filter(|(task, _)| counts(task));
            report.scores.push(Score {
                kind,
                mode,
                rate: Rate::of(scored.map(|(_, outcome)| outcome.right())),
            });
            report.details.extend(details(kind, mode, &of_group));
            let wrong = of_group.iter().filter(|(_, outcome)| !outcome.right());
            for pair in wrong.take(failures) {
                report.failures.extend(failure(*pair, tokenizer)?);
            }
        }
        report.totals = totals(&report.scores);
        Ok(report)
    }
}

/// A task and what became of it.
pub(crate) type Pair<'a> = (&'a PreparedTask, &'a Outcome);

fn group(task: &PreparedTask) -> (Kind, Mode) {
    (task.task.example.kind, task.task.example.mode)
}

/// Whether a task counts for its kind; those on the curve of the buried fact do not.
pub(crate) fn counts(task: &PreparedTask) -> bool {
    task.task.buried_length.is_none()
}

/// The kinds and modes, in the order in which the tasks name them.
fn groups(pairs: &[Pair<'_>]) -> Vec<(Kind, Mode)> {
    let mut groups = Vec::new();
    for (task, _) in pairs {
        if !groups.contains(&group(task)) {
            groups.push(group(task));
        }
    }
    groups
}

fn totals(scores: &[Score]) -> Vec<Total> {
    let modes = [Mode::Think, Mode::Nothink, Mode::Raw];
    let total = |mode| {
        let of_mode = scores.iter().filter(|score| score.mode == mode);
        let (right, count) = of_mode.fold((0, 0), |(right, count), score| {
            (right + score.rate.right, count + score.rate.count)
        });
        let rate = Rate::new(right, count);
        (count > 0).then_some(Total { mode, rate })
    };
    modes.into_iter().filter_map(total).collect()
}

/// The first wrong turn of a task.
fn failure(
    (task, outcome): Pair<'_>,
    tokenizer: &Tokenizer,
) -> Result<Option<Failure>, dsv3_tokenizer::Error> {
    let example = &task.task.example;
    let wrong = outcome.verdicts.iter().position(|verdict| !verdict.right());
    let Some(number) = wrong else {
        return Ok(None);
    };
    let (Some(turn), Some(verdict)) = (example.turns.get(number), outcome.verdicts.get(number))
    else {
        return Ok(None);
    };
    let written = outcome.written.get(number).cloned().unwrap_or_default();
    let prompt = outcome.ids.get(..written.start).unwrap_or_default();
    Ok(Some(Failure {
        kind: example.kind,
        mode: example.mode,
        id: example.id.clone(),
        turn: number + 1,
        prompt: tokenizer.decode(prompt)?,
        expected: to_text(&turn.answer),
        got: tokenizer.decode(outcome.ids.get(written).unwrap_or_default())?,
        wrong: verdict.wrong.clone().unwrap_or_default(),
    }))
}
