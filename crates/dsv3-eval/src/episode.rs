//! Tasks given to an engine turn by turn, many at a time.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use dsv3_engine::{
    Engine, EngineEvent, FinishReason, ModelRunner, Request, SamplingParams, SequenceId,
    StopConditions,
};
use dsv3_tasks::Draw;
use dsv3_tokenizer::{Special, TokenId, Tokenizer};

use crate::error::EvalError;
use crate::prepared::{Prepared, PreparedTask};
use crate::score::{Verdict, Written, score};
use crate::segments::mode_after;

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// One verdict a turn.
    pub verdicts: Vec<Verdict>,
    /// All that was given and written.
    pub ids: Vec<TokenId>,
    /// The parts of `ids` that the model wrote, one for each turn that was given to it.
    pub written: Vec<Range<usize>>,
}

impl Outcome {
    /// Whether all turns are right.
    pub fn right(&self) -> bool {
        self.verdicts.iter().all(Verdict::right)
    }

    /// Tokens that the model wrote.
    pub fn tokens(&self) -> usize {
        self.written.iter().map(Range::len).sum()
    }
}

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks done.
    pub done: usize,
    /// All tasks.
    pub total: usize,
    /// Tasks done and right.
    pub right: usize,
    /// Tokens written.
    pub tokens: usize,
}

/// A task on its way.
struct Episode {
    index: usize,
    ids: Vec<TokenId>,
    prompt_len: usize,
    outcome: Outcome,
}

/// Give every task to the model, `in_flight` at a time, and let it write greedily. The outcomes
/// come in the tasks' order. They do not depend on `in_flight`, except that a prefix found in the
/// cache may be attended to in the other of latent attention's two forms, whose rounding can turn
/// a near-tie. `on_progress` hears of every step; `Break` stops.
///
/// # Errors
/// [`EvalError::NoTokenizer`], [`EvalError::Engine`] for ids that the model has no embedding of,
/// [`EvalError::Failed`] when a pass fails, [`EvalError::Stopped`].
pub fn run<R: ModelRunner>(
    engine: &mut Engine<R>,
    prepared: &Prepared,
    in_flight: usize,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Vec<Outcome>, EvalError> {
    let tokenizer = engine.tokenizer().cloned().ok_or(EvalError::NoTokenizer)?;
    let tasks = &prepared.tasks;
    let mut runner = Runner {
        engine,
        tokenizer: &tokenizer,
        max_new_tokens: prepared.max_new_tokens,
        running: HashMap::new(),
        done: tasks.iter().map(|_| None).collect(),
        progress: Progress {
            total: tasks.len(),
            ..Progress::default()
        },
    };
    // Kinds differ in length: mixed, the time that is left can be told from the time spent.
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    Draw::new(0, 0).shuffle(&mut order);
    let mut waiting = order.into_iter().filter_map(|i| Some((i, tasks.get(i)?)));
    let mut next = waiting.next();
    let config = *runner.engine.config();
    // Below zero while one runs that is larger than the cache.
    let mut room = (config.blocks() * config.block_size) as isize;
    let rounded = |need: usize| need.next_multiple_of(config.block_size) as isize;
    loop {
        while let Some((index, task)) = next {
            // What does not fit into the cache would push others out and be computed twice.
            let full = runner.running.len() >= in_flight || rounded(task.need) > room;
            if full && !runner.running.is_empty() {
                break;
            }
            room -= rounded(task.need);
            runner.begin(index, task)?;
            next = waiting.next();
        }
        if runner.running.is_empty() {
            break;
        }
        for index in runner.step(tasks)? {
            room += tasks.get(index).map_or(0, |task| rounded(task.need));
        }
        if on_progress(&runner.progress).is_break() {
            return Err(EvalError::Stopped);
        }
    }
    Ok(runner.done.into_iter().flatten().collect())
}

struct Runner<'a, R: ModelRunner> {
    engine: &'a mut Engine<R>,
    tokenizer: &'a Tokenizer,
    max_new_tokens: usize,
    running: HashMap<SequenceId, Episode>,
    done: Vec<Option<Outcome>>,
    progress: Progress,
}

impl<R: ModelRunner> Runner<'_, R> {
    fn begin(&mut self, index: usize, task: &PreparedTask) -> Result<(), EvalError> {
        let outcome = Outcome {
            verdicts: Vec::new(),
            ids: Vec::new(),
            written: Vec::new(),
        };
        let episode = Episode {
            index,
            ids: task.given.first().cloned().unwrap_or_default(),
            prompt_len: 0,
            outcome,
        };
        self.submit(episode)
    }

    /// Let the model write the next turn.
    fn submit(&mut self, mut episode: Episode) -> Result<(), EvalError> {
        episode.prompt_len = episode.ids.len();
        let mut request = Request::new(episode.ids.clone(), SamplingParams::greedy());
        request.stop = StopConditions {
            // A search ends the turn even where none is wanted: nobody will answer it.
            ids: self
                .tokenizer
                .special()
                .id(Special::SearchEnd)
                .into_iter()
                .collect(),
            max_new_tokens: self.max_new_tokens,
            ..StopConditions::default()
        };
        let id = self.engine.submit(request)?;
        self.running.insert(id, episode);
        Ok(())
    }

    /// One step of the engine. → the tasks that are done now.
    fn step(&mut self, tasks: &[PreparedTask]) -> Result<Vec<usize>, EvalError> {
        let mut done = Vec::new();
        for (id, event) in self.engine.step() {
            match event {
                EngineEvent::Token { token, .. } => {
                    self.progress.tokens += 1;
                    if let Some(episode) = self.running.get_mut(&id) {
                        episode.ids.push(token);
                    }
                }
                EngineEvent::Parsed(_) => {}
                EngineEvent::Finished { reason, .. } => {
                    let Some(episode) = self.running.remove(&id) else {
                        continue;
                    };
                    let Some(task) = tasks.get(episode.index) else {
                        continue;
                    };
                    done.extend(self.end_turn(episode, task, &reason)?);
                }
            }
        }
        Ok(done)
    }

    /// Score a turn and go on with the next one, if there is one that can be given. → the task,
    /// if it is done.
    fn end_turn(
        &mut self,
        mut episode: Episode,
        task: &PreparedTask,
        reason: &FinishReason,
    ) -> Result<Option<usize>, EvalError> {
        let example = &task.task.example;
        if let FinishReason::Error(problem) = reason {
            return Err(EvalError::Failed {
                id: example.id.clone(),
                problem: problem.clone(),
            });
        }
        let number = episode.outcome.verdicts.len();
        let special = self.tokenizer.special();
        let (prompt, written) = episode.ids.split_at(episode.prompt_len);
        let last = written.last().and_then(|id| special.special(*id));
        let ended = last.filter(|_| *reason == FinishReason::Stop);
        let mut open = ended.is_some();
        if let Some(turn) = example.turns.get(number) {
            let written = Written {
                ids: written,
                mode: mode_after(prompt, special),
                ended,
            };
            let verdict = score(&turn.check, turn.stop(), written, self.tokenizer);
            episode
                .outcome
                .verdicts
                .push(verdict.map_err(|source| EvalError::Tokenizer {
                    kind: example.kind.name(),
                    source,
                })?);
            // Results may follow a search alone, and a user may follow the end of an answer alone.
            open &= (ended == Some(Special::SearchEnd)) == (turn.stop() == Special::SearchEnd);
        }
        let span = episode.prompt_len..episode.ids.len();
        episode.outcome.written.push(span);
        if let Some(given) = task.given.get(number + 1) {
            let room = self.engine.capacity();
            if open && episode.ids.len() + given.len() < room {
                episode.ids.extend(given);
                self.submit(episode)?;
                return Ok(None);
            }
            let left = example.turns.len() - number - 1;
            let verdict = Verdict::not_given(match open {
                true => "there was no room left for it",
                false => "the turn before it did not end as it should",
            });
            let verdicts = &mut episode.outcome.verdicts;
            verdicts.extend(std::iter::repeat_n(verdict, left));
        }
        let index = episode.index;
        let mut outcome = episode.outcome;
        outcome.ids = episode.ids;
        self.progress.done += 1;
        self.progress.right += usize::from(outcome.right());
        if let Some(slot) = self.done.get_mut(index) {
            *slot = Some(outcome);
        }
        Ok(Some(index))
    }
}
