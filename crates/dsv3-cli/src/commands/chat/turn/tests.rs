use super::*;
use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, LazyLock};

use dsv3_engine::{EngineConfig, EngineError};
use dsv3_model::ForwardBatch;
use dsv3_tokenizer::{Message, Tokenizer};

use crate::interrupt;
use crate::search::Library;

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/tokenizer/tokenizer.json"
    );
    Arc::new(Tokenizer::from_file(file).unwrap())
});

/// Writes one text after another, whatever it is asked.
struct Script(VecDeque<u32>);

impl ModelRunner for Script {
    fn run(&mut self, batch: &ForwardBatch) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::new();
        for _ in &batch.logit_rows {
            let mut values = vec![0.0; self.vocab_size()];
            let next = self
                .0
                .pop_front()
                .ok_or_else(|| EngineError::Forward("the script is over".to_owned()))?;
            values[next as usize] = 50.0;
            logits.extend(values);
        }
        Ok(logits)
    }

    fn vocab_size(&self) -> usize {
        129_280
    }

    fn max_positions(&self) -> usize {
        4096
    }

    fn reset(&mut self) {}
}

fn engine(texts: &[&str]) -> Engine<Script> {
    let ids = texts
        .iter()
        .map(|text| TOKENIZER.encode_with_special(text).unwrap());
    // Prompts in one piece: a row of logits is then a token that is wanted.
    let config = EngineConfig {
        max_batch_tokens: 4096,
        ..EngineConfig::default()
    };
    let script = Script(ids.flatten().collect());
    Engine::with_runner(script, Some(TOKENIZER.clone()), vec![], config).unwrap()
}

/// Notes what it is told, one line each.
#[derive(Default)]
struct Notes(Vec<String>);

impl Display for Notes {
    fn event(&mut self, _: &EngineEvent) -> anyhow::Result<()> {
        Ok(())
    }

    fn searched(&mut self, search: &Search) -> anyhow::Result<()> {
        self.0.push(format!("searched {}", search.query));
        Ok(())
    }

    fn ended(&mut self, completion: &Completion, run: bool) -> anyhow::Result<()> {
        let said = completion.parsed.as_ref().map(|p| p.content.clone());
        self.0
            .push(format!("ended {} {run}", said.unwrap_or_default()));
        Ok(())
    }

    fn ran(&mut self, ran: &Ran) -> anyhow::Result<()> {
        self.0.push(format!("{} {}", ran.call.name, ran.output));
        Ok(())
    }
}

fn run(session: &mut Session, texts: &[&str]) -> anyhow::Result<(Report, Vec<String>)> {
    let mut answers = Answers {
        params: SamplingParams::greedy(),
        stop: StopConditions::default(),
        tools: DemoTools::new(1),
    };
    let mut notes = Notes::default();
    let listening = interrupt::listen();
    let report = turn(
        &mut engine(texts),
        session,
        &mut answers,
        &listening,
        &mut notes,
    )?;
    Ok((report, notes.0))
}

fn asked(thinking: bool) -> Session {
    let mut session = Session::new(None, thinking);
    session.messages.push(Message::user("What is it?"));
    session
}

fn library(pages: &str) -> (tempfile::TempDir, Library) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pages.jsonl");
    fs::write(&file, pages).unwrap();
    let library = Library::open(&file).unwrap();
    (dir, library)
}

const EOS: &str = "<｜end▁of▁sentence｜>";
const SEARCH: &str = "I look.<｜search▁begin｜>cup winner<｜search▁end｜>";

fn call(name: &str, arguments: &str) -> String {
    format!("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>")
}

fn calls(calls: &[String]) -> String {
    format!(
        "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>{EOS}",
        calls.concat()
    )
}

/// Breaks with: a search that is not made or not shown, sources that are other pages, a page that
/// was never given taken for one.
#[test]
fn a_search_is_made_and_cited() {
    let (_dir, library) = library(
        "{\"title\": \"Tea\", \"text\": \"Tea is hot.\"}\n\
         {\"title\": \"Cup\", \"text\": \"The winner of the cup is Mia.\"}\n",
    );
    let mut session = asked(true);
    session.search_in(library);
    let answer = format!("Page 1.</think>Mia [citation:1], [citation:7].{EOS}");
    let (report, notes) = run(&mut session, &[SEARCH, &answer]).unwrap();
    assert_eq!(
        notes,
        [
            "searched cup winner",
            "ended Mia [citation:1], [citation:7]. false"
        ]
    );
    assert_eq!(report.end, End::Answered);
    assert_eq!(report.searches[0].pages, [(1, "Cup".to_owned())]);
    assert_eq!(report.sources(), [(1, Some("Cup")), (7, None)]);
    assert_eq!(report.note(), None);
    let Some(Message::Assistant(kept)) = session.messages.last() else {
        panic!("nothing kept");
    };
    assert_eq!(kept.reasoning_content.as_deref(), Some("I look.Page 1."));
}

/// Breaks with: a model that is left waiting for pages, or made to invent them.
#[test]
fn a_search_without_pages_ends_the_turn() {
    let (report, _) = run(&mut asked(true), &[SEARCH]).unwrap();
    assert_eq!(report.end, End::NothingToSearch);
    assert!(report.note().unwrap().contains("--search"));
}

/// Breaks with: searches or calls that go on for ever.
#[test]
fn loops_end() {
    let (_dir, library) = library("{\"title\": \"Tea\", \"text\": \"Tea is hot.\"}");
    let mut session = asked(true);
    session.search_in(library);
    let (report, notes) = run(&mut session, &[SEARCH; 20]).unwrap();
    assert_eq!(report.end, End::TooManySearches);
    assert_eq!(report.searches.len(), MOST_SEARCHES);
    assert_eq!(notes[0], "searched cup winner");
    assert!(report.note().unwrap().contains("8 searches"));

    let mut session = asked(false);
    session.use_demo_tools();
    let sum = calls(&[call("compute_sum", "{\"expression\": \"1+1\"}")]);
    let texts = vec![sum.as_str(); 20];
    let (report, _) = run(&mut session, &texts).unwrap();
    assert_eq!(report.end, End::TooManyCalls);
    assert_eq!(report.ran.len(), MOST_ROUNDS);
}

/// Breaks with: a call that is not run, a result that goes to the wrong call, an answer that does
/// not wait for all of them.
#[test]
fn tools_are_run_until_the_model_answers() {
    let mut session = asked(false);
    session.use_demo_tools();
    let both = calls(&[
        call("compute_sum", "{\"expression\": \"47 * 83\"}"),
        call("no_such_tool", "{}"),
    ]);
    let answer = format!("It is 3901.{EOS}");
    let (report, notes) = run(&mut session, &[&both, &answer]).unwrap();
    assert_eq!(
        notes,
        [
            "ended  true",
            "compute_sum {\"result\": 3901}",
            "no_such_tool {\"error\": \"there is no such tool\"}",
            "ended It is 3901. false",
        ]
    );
    assert_eq!(report.end, End::Answered);
    assert_eq!(report.ran.len(), 2);
    let roles: Vec<&str> = session.messages.iter().map(Message::role).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "assistant"]);
}

/// Breaks with: somebody else's tools run here, or a call that was cut off run at all.
#[test]
fn other_calls_wait_for_their_results() {
    let own = "[{\"type\": \"function\", \"function\": {\"name\": \"compute_sum\"}}]";
    let one = call("compute_sum", "{}");
    let mut session = asked(false);
    session.set_tools(dsv3_tokenizer::Tool::list_from_json(own).unwrap());
    let (report, notes) = run(&mut session, &[&calls(std::slice::from_ref(&one))]).unwrap();
    assert_eq!(notes, ["ended  false"]);
    assert_eq!(report.end, End::Waiting);
    assert!(report.note().unwrap().contains("/result"));
    assert!(session.line("/result 1").is_ok());

    let mut session = asked(false);
    session.use_demo_tools();
    let cut = format!("<｜tool▁calls▁begin｜>{one}<｜tool▁call▁begin｜>calc{EOS}");
    let (report, _) = run(&mut session, &[&cut]).unwrap();
    assert!(report.ran.is_empty());
}
