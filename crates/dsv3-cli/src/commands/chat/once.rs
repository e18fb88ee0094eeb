//! One message, one answer: where nobody is there to talk.

use std::process::ExitCode;

use anyhow::anyhow;
use dsv3_engine::{Completion, Engine, EngineEvent, FinishReason};
use serde_json::{Value, json};

use super::session::Session;
use super::turn::{self, Answers, Display, End, Ran, Report, Search};
use crate::answer::{self, Printer, shown_call};
use crate::cli::Global;
use crate::error::one_line;
use crate::interrupt;
use crate::output::say_json;

/// The answer on stdout, all else on stderr.
struct Plain(Printer);

impl Display for Plain {
    fn event(&mut self, event: &EngineEvent) -> anyhow::Result<()> {
        self.0.show(event)
    }

    fn searched(&mut self, search: &Search) -> anyhow::Result<()> {
        let query = one_line(&search.query);
        self.0.aside(&format!("search: {query}"))?;
        if search.pages.is_empty() {
            return self.0.aside("  nothing found");
        }
        for (number, title) in &search.pages {
            self.0.aside(&format!("  [{number}] {}", one_line(title)))?;
        }
        Ok(())
    }

    fn ended(&mut self, completion: &Completion, run: bool) -> anyhow::Result<()> {
        match run {
            true => Ok(()), // its calls come with their results
            false => self.0.finish(completion),
        }
    }

    fn ran(&mut self, ran: &Ran) -> anyhow::Result<()> {
        self.0.aside(&one_line(&shown_call(&ran.call)))?;
        let name = one_line(&ran.call.name);
        self.0
            .aside(&format!("  {name}: {}", one_line(&ran.output)))
    }
}

/// Nothing before the end.
struct Silent;

impl Display for Silent {
    fn event(&mut self, _: &EngineEvent) -> anyhow::Result<()> {
        Ok(())
    }

    fn searched(&mut self, _: &Search) -> anyhow::Result<()> {
        Ok(())
    }

    fn ended(&mut self, _: &Completion, _: bool) -> anyhow::Result<()> {
        Ok(())
    }

    fn ran(&mut self, _: &Ran) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Answer, and say how it ended.
pub(super) fn answer(
    global: &Global,
    engine: &mut Engine,
    session: &mut Session,
    answers: &mut Answers,
    load_s: f64,
) -> anyhow::Result<ExitCode> {
    let (mut plain, mut silent) = (Plain(Printer::new(false)), Silent);
    let display: &mut dyn Display = match global.json {
        true => &mut silent,
        false => &mut plain,
    };
    let listening = interrupt::listen();
    let report = turn::turn(engine, session, answers, &listening, display)?;
    match global.json {
        true => say_json(&to_json(&report, load_s)?)?,
        false => {
            for (number, title) in report.sources() {
                let title = title.map_or("there is no such page".to_owned(), one_line);
                plain.0.aside(&format!("[{number}] {title}"))?;
            }
        }
    }
    let usage = report.completion.usage;
    tracing::info!(
        prompt_tokens = usage.prompt_tokens,
        tokens = usage.completion_tokens,
        prefill_s = usage.prefill_s,
        decode_s = usage.decode_s,
        finish = report.completion.finish_reason.name(),
        "answered"
    );
    exit_code(&report)
}

/// A turn that did not come to an answer has failed; the limit of tokens was asked for.
fn exit_code(report: &Report) -> anyhow::Result<ExitCode> {
    let stopped = report.completion.finish_reason == FinishReason::Cancelled;
    match report.end {
        End::NothingToSearch | End::TooManySearches | End::TooManyCalls if !stopped => {
            Err(anyhow!("{}", report.note().unwrap_or_default()))
        }
        _ => answer::exit_code(&report.completion),
    }
}

/// What `generate` prints, with the searches and the tools' results where there were any.
fn to_json(report: &Report, load_s: f64) -> anyhow::Result<Value> {
    let mut object = answer::to_json(&report.completion, load_s)?;
    let searches = report.searches.iter().map(|search| {
        let pages = search.pages.iter();
        let pages = pages.map(|(number, title)| json!({"number": number, "title": title}));
        json!({"query": search.query, "pages": pages.collect::<Vec<_>>()})
    });
    let ran = report.ran.iter().map(|ran| {
        let (name, arguments) = (&ran.call.name, &ran.call.arguments);
        json!({"name": name, "arguments": arguments, "result": ran.output})
    });
    if !report.searches.is_empty() {
        object["searches"] = searches.collect();
    }
    if !report.ran.is_empty() {
        object["tool_results"] = ran.collect();
    }
    Ok(object)
}
