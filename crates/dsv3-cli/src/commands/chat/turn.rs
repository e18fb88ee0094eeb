//! The model's turn: searches are made and tools are run until it has answered.

use dsv3_engine::{
    Completion, Engine, EngineEvent, FinishReason, ModelRunner, SamplingParams, StopConditions,
    Turn,
};
use dsv3_tokenizer::{ToolCall, citations};

use super::session::Session;
use crate::answer;
use crate::demo_tools::DemoTools;
use crate::interrupt::Listening;

/// Pages that a search gives the model; the small one is trained on two or three.
const PAGES: usize = 3;
/// Searches in an answer, and answers that call tools, before a turn is taken for a loop.
const MOST_SEARCHES: usize = 8;
const MOST_ROUNDS: usize = 8;

/// How the model answers.
pub(super) struct Answers {
    pub(super) params: SamplingParams,
    pub(super) stop: StopConditions,
    pub(super) tools: DemoTools,
}

/// Shows a turn as it comes.
pub(super) trait Display {
    /// The model wrote something.
    fn event(&mut self, event: &EngineEvent) -> anyhow::Result<()>;
    /// It searched.
    fn searched(&mut self, search: &Search) -> anyhow::Result<()>;
    /// It ended an answer; `run` says that the calls in it will be run.
    fn ended(&mut self, completion: &Completion, run: bool) -> anyhow::Result<()>;
    /// A tool was run.
    fn ran(&mut self, ran: &Ran) -> anyhow::Result<()>;
}

/// A search and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) query: String,
    /// Numbers of the pages in this answer, and their titles.
    pub(super) pages: Vec<(usize, String)>,
}

/// A tool's call and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) call: ToolCall,
    pub(super) output: String,
}

/// Why a turn is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The model has said what it had to say, or was stopped.
    Answered,
    /// It called tools that somebody else must give the results of.
    Waiting,
    /// It searched, and there is nothing to search in.
    NothingToSearch,
    /// It searched again and again.
    TooManySearches,
    /// It called tools again and again.
    TooManyCalls,
}

/// A turn that is over.
#[derive(Debug)]
pub(super) struct Report {
    /// The last answer.
    pub(super) completion: Completion,
    /// Searches of the last answer: the numbers in it are those of their pages.
    pub(super) searches: Vec<Search>,
    pub(super) ran: Vec<Ran>,
    pub(super) end: End,
}

impl Report {
    /// The pages that the answer cites: number and title, which is `None` for a page that nobody
    /// gave.
    pub(super) fn sources(&self) -> Vec<(usize, Option<&str>)> {
        let answer = self.completion.parsed.as_ref().map(|p| p.content.as_str());
        let pages = || self.searches.iter().flat_map(|search| &search.pages);
        let title = |number| {
            let page = pages().find(|(page, _)| *page == number);
            page.map(|(_, title)| title.as_str())
        };
        let cited = citations(answer.unwrap_or_default());
        cited.into_iter().map(|n| (n, title(n))).collect()
    }

    /// What the user should know beyond the answer.
    pub(super) fn note(&self) -> Option<String> {
        let note = match (&self.end, &self.completion.finish_reason) {
            (End::NothingToSearch, _) => "the model wants to search, and search is off: /search \
                 (or the flag --search) names pages for it"
                .to_owned(),
            (End::TooManySearches, _) => {
                format!("stopped: {MOST_SEARCHES} searches in one turn and no answer")
            }
            (End::TooManyCalls, _) => {
                format!("stopped: tools were called {MOST_ROUNDS} times in one turn and no answer")
            }
            (_, FinishReason::Length) => "the limit of tokens is reached: see --max-new-tokens \
                 and --context"
                .to_owned(),
            (_, FinishReason::Cancelled) => "stopped".to_owned(),
            (_, FinishReason::Error(why)) => format!("the answer broke off: {why}"),
            (End::Waiting, _) => "give each call's result, in order, with /result TEXT".to_owned(),
            _ => return None,
        };
        Some(note)
    }
}

/// Let the model answer and keep in the session what it said.
pub(super) fn turn<R: ModelRunner>(
    engine: &mut Engine<R>,
    session: &mut Session,
    answers: &mut Answers,
    listening: &Listening,
    display: &mut dyn Display,
) -> anyhow::Result<Report> {
    let mut ran = Vec::new();
    let mut rounds = 0;
    loop {
        rounds += 1;
        let (completion, searches, mut end) =
            one_answer(engine, session, answers, listening, display)?;
        let parsed = completion.parsed.clone().unwrap_or_default();
        let calls = parsed.tool_calls.clone();
        let called = completion.finish_reason == FinishReason::ToolCalls;
        let run = called && session.runs_tools() && rounds <= MOST_ROUNDS;
        display.ended(&completion, run)?;
        session.keep(parsed);
        if run {
            for call in calls {
                let output = answers.tools.run(&call);
                session.tool_result(&output);
                let done = Ran { call, output };
                display.ran(&done)?;
                ran.push(done);
            }
            continue;
        }
        if called && session.runs_tools() {
            end = End::TooManyCalls;
        } else if called {
            end = End::Waiting;
        }
        return Ok(Report {
            completion,
            searches,
            ran,
            end,
        });
    }
}

/// One answer, with its searches.
fn one_answer<R: ModelRunner>(
    engine: &mut Engine<R>,
    session: &Session,
    answers: &Answers,
    listening: &Listening,
    display: &mut dyn Display,
) -> anyhow::Result<(Completion, Vec<Search>, End)> {
    let tokenizer = engine.tokenizer().cloned();
    let tokenizer = tokenizer.ok_or(dsv3_engine::EngineError::NoTokenizer)?;
    let prompt = session.prompt()?;
    let (params, stop) = (answers.params.clone(), answers.stop.clone());
    let mut turn = Turn::new(&prompt, &tokenizer, params, stop)?;
    let mut searches: Vec<Search> = Vec::new();
    let end = loop {
        let part = answer::drive(engine, turn.request(), listening, &mut |event| {
            display.event(event)
        })?;
        let Some(query) = turn.take(part) else {
            break End::Answered;
        };
        let Some(library) = session.pages() else {
            break End::NothingToSearch;
        };
        if searches.len() == MOST_SEARCHES {
            break End::TooManySearches;
        }
        let pages = library.find(&query, PAGES);
        let texts: Vec<&str> = pages.iter().map(|page| page.text.as_str()).collect();
        let first = turn.give(&tokenizer, &texts)?;
        let titles = pages.iter().map(|page| page.title.clone());
        let search = Search {
            query,
            pages: (first..).zip(titles).collect(),
        };
        display.searched(&search)?;
        searches.push(search);
    };
    Ok((turn.into_completion(), searches, end))
}

#[cfg(test)]
mod tests;
