//! The engine over the golden checkpoints, and over a runner that misbehaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use dsv3_engine::{
    Completion, Engine, EngineConfig, EngineError, EngineEvent, FinishReason, Input, LoadOptions,
    ModelRunner, Request, SamplingParams, SequenceId, StopConditions,
};
use dsv3_model::ForwardBatch;
use dsv3_sampling::{Seed, Temperature, TopLogprobs};
use dsv3_tokenizer::{Event, Mode, Tokenizer};
use proptest::prelude::*;

fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

static TOKENIZER: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| Arc::new(Tokenizer::from_file(fixture("tokenizer/tokenizer.json")).unwrap()));

fn golden(set: &str) -> (Vec<u32>, Vec<u32>) {
    let text = std::fs::read(fixture(&format!("golden/{set}/golden.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let ids = |key: &str| serde_json::from_value(json[key].clone()).unwrap();
    (ids("prompt"), ids("greedy_f32"))
}

fn open(set: &str, config: EngineConfig) -> Engine {
    let dir = fixture(&format!("golden/{set}/model"));
    Engine::open(dir, &LoadOptions::cpu(), config).unwrap()
}

fn request(prompt: &[u32], params: SamplingParams, max_new_tokens: usize) -> Request {
    let mut request = Request::new(prompt, params);
    request.stop = StopConditions {
        max_new_tokens,
        ignore_eos: true,
        ..StopConditions::default()
    };
    request
}

/// Run everything to its end.
fn drain<R: ModelRunner>(engine: &mut Engine<R>) -> HashMap<SequenceId, Completion> {
    let mut done: HashMap<_, Completion> = HashMap::new();
    while engine.has_work() {
        for (id, event) in engine.step() {
            done.entry(id).or_default().apply(&event);
        }
    }
    done
}

/// Breaks with: any drift between the engine's way through the model and the plain one.
#[test]
fn greedy_tokens_are_the_references() {
    for set in [
        "base",
        "noqlora",
        "nogroup",
        "negbias",
        "realdims",
        "mtp",
        "fp8_ue8m0",
        "fp8_f32odd",
    ] {
        let (prompt, expected) = golden(set);
        let mut engine = open(set, EngineConfig::default());
        let mut ask = request(&prompt, SamplingParams::greedy(), expected.len());
        ask.stop.ignore_eos = false;
        let answer = engine
            .stream(ask, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!(answer.tokens, expected, "{set}");
        assert_eq!(answer.finish_reason, FinishReason::Length);
        assert_eq!(answer.usage.prompt_tokens, prompt.len());
    }
}

/// Breaks with: anything that passes from one sequence to another: blocks, seeds, batch shapes,
/// preemption, chunked prompts.
#[test]
fn a_sequences_tokens_do_not_depend_on_its_neighbours() {
    let (prompt, expected) = golden("base");
    let drawn = SamplingParams::unfiltered().with_seed(Some(Seed(5)));
    let alone = open("base", EngineConfig::default())
        .stream(request(&prompt[..9], drawn.clone(), 20), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    for (blocks, budget) in [(64, 512), (64, 5), (12, 7), (6, 64)] {
        let config = EngineConfig {
            max_cached_tokens: blocks * 16,
            max_batch_tokens: budget,
            ..EngineConfig::default()
        };
        let mut engine = open("base", config);
        let greedy = engine
            .submit(request(&prompt, SamplingParams::greedy(), 32))
            .unwrap();
        let mut events = engine.step();
        let cancelled = engine
            .submit(request(&prompt[3..30], drawn.clone(), 60))
            .unwrap();
        events.extend(engine.step());
        let seeded = engine
            .submit(request(&prompt[..9], drawn.clone(), 20))
            .unwrap();
        let late = engine
            .submit(request(&prompt[..1], SamplingParams::default(), 3))
            .unwrap();
        for _ in 0..6 {
            events.extend(engine.step());
        }
        events.extend(engine.cancel(cancelled));
        let mut done: HashMap<SequenceId, Completion> = HashMap::new();
        events
            .iter()
            .for_each(|(id, event)| done.entry(*id).or_default().apply(event));
        while engine.has_work() {
            for (id, event) in engine.step() {
                done.entry(id).or_default().apply(&event);
            }
        }
        assert_eq!(
            done[&greedy].tokens, expected,
            "{blocks} blocks, {budget} a step"
        );
        assert_eq!(
            done[&seeded].tokens, alone.tokens,
            "{blocks} blocks, {budget} a step"
        );
        assert_eq!(done[&cancelled].finish_reason, FinishReason::Cancelled);
        assert_eq!(done[&late].tokens.len(), 3);
    }
}

/// Breaks with: blocks shared that hold other tokens, or a prefix that is never found.
#[test]
fn a_cached_prefix_is_reused_and_changes_nothing() {
    let (prompt, expected) = golden("base");
    let mut engine = open("base", EngineConfig::default());
    for (round, cached) in [(0, 0), (1, 32)] {
        let ask = request(&prompt, SamplingParams::greedy(), 32);
        let answer = engine
            .stream(ask, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!(answer.tokens, expected, "round {round}");
        assert_eq!(answer.usage.cached_tokens, cached, "round {round}");
    }
    // A conversation's next turn: the prompt, the answer, more.
    let longer = [&prompt[..], &expected[..20], &[7, 8, 9]].concat();
    let again = request(&longer, SamplingParams::greedy(), 4);
    let reused = engine
        .stream(again.clone(), &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(reused.usage.cached_tokens, 64);
    let mut fresh = open("base", EngineConfig::default());
    let computed = fresh
        .stream(again, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(reused.tokens, computed.tokens);
    // One computes a few rows over many cached ones, the other all rows: attention may take its
    // two forms, which round differently.
    for (reused, computed) in reused.logprobs.iter().zip(&computed.logprobs) {
        assert!((reused - computed).abs() < 1e-5, "{reused} {computed}");
    }
}

/// Breaks with: scores that are those of another position.
#[test]
fn scores_are_the_log_probabilities_of_generation() {
    let (prompt, expected) = golden("noqlora");
    let mut engine = open(
        "noqlora",
        EngineConfig {
            max_batch_tokens: 9,
            ..EngineConfig::default()
        },
    );
    let ask = request(&prompt, SamplingParams::greedy(), expected.len());
    let answer = engine
        .stream(ask, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let ids = [&prompt[..], &answer.tokens[..]].concat();
    let mut scores = Vec::new();
    let top = TopLogprobs::new(1).unwrap();
    engine
        .score(&ids, top, &mut |s| {
            scores.push((s.logprob, s.top.first().map(|t| t.0)));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(scores.len(), ids.len());
    assert_eq!(scores[0].0, None);
    for (i, logprob) in answer.logprobs.iter().enumerate() {
        let (scored, best) = scores[prompt.len() + i];
        assert!((scored.unwrap() - logprob).abs() < 1e-4);
        assert_eq!(
            best,
            Some(answer.tokens[i]),
            "greedy tokens are the most probable"
        );
    }
}

/// Breaks with: a bad request that is taken on, or that ends the engine.
#[test]
fn impossible_requests_are_refused() {
    let mut engine = open(
        "base",
        EngineConfig {
            max_cached_tokens: 32,
            ..EngineConfig::default()
        },
    );
    let greedy = SamplingParams::greedy;
    assert!(matches!(
        engine.generate(vec![], greedy()),
        Err(EngineError::EmptyPrompt)
    ));
    assert!(matches!(
        engine.generate("hi", greedy()),
        Err(EngineError::NoTokenizer)
    ));
    assert!(matches!(
        engine.generate(vec![0; 32], greedy()),
        Err(EngineError::PromptTooLong { capacity: 32, .. })
    ));
    let error = engine.generate(vec![0, 512], greedy()).unwrap_err();
    assert!(error.to_string().contains("token id 512"), "{error}");
    let answer = engine
        .stream(request(&[0], greedy(), 1000), &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(
        (answer.tokens.len(), answer.finish_reason),
        (31, FinishReason::Length)
    );
    let none = EngineConfig {
        block_size: 0,
        ..EngineConfig::default()
    };
    let dir = fixture("golden/base/model");
    assert!(matches!(
        Engine::open(dir, &LoadOptions::cpu(), none),
        Err(EngineError::Config("block_size"))
    ));
}

/// Writes a script: after `n` tokens of a sequence its logits single out `script[n - prompt]`.
struct Parrot {
    script: Vec<u32>,
    prompt: usize,
    vocab: usize,
    /// Logits after this token are NaN.
    poison: Option<u32>,
    /// This run panics or fails.
    fail_at: Option<usize>,
    runs: usize,
}

impl Parrot {
    fn new(script: Vec<u32>, prompt: usize) -> Self {
        Parrot {
            script,
            prompt,
            vocab: 129_280,
            poison: None,
            fail_at: None,
            runs: 0,
        }
    }
}

impl ModelRunner for Parrot {
    fn run(&mut self, batch: &ForwardBatch) -> Result<Vec<f32>, EngineError> {
        self.runs += 1;
        if self.fail_at == Some(self.runs) {
            return Err(EngineError::Forward("the device is gone".into()));
        }
        let mut logits = Vec::new();
        for row in &batch.logit_rows {
            let next = batch.positions[*row] as usize + 1 - self.prompt;
            let mut values = vec![0.0; self.vocab];
            values[self.script.get(next).copied().unwrap_or(1) as usize] = 50.0;
            if self.poison == Some(batch.tokens[*row]) {
                values[3] = f32::NAN;
            }
            logits.extend(values);
        }
        Ok(logits)
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> usize {
        4096
    }

    fn reset(&mut self) {}
}

fn parrot(text: &str) -> Engine<Parrot> {
    let script = TOKENIZER.encode_with_special(text).unwrap();
    let config = EngineConfig::default();
    Engine::with_runner(
        Parrot::new(script, 1),
        Some(TOKENIZER.clone()),
        vec![],
        config,
    )
    .unwrap()
}

fn written(engine: &mut Engine<Parrot>, stop: StopConditions, parse: Option<Mode>) -> Completion {
    let request = Request {
        input: Input::Ids(vec![0]),
        params: SamplingParams::greedy(),
        stop,
        parse,
    };
    engine
        .stream(request, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

/// Breaks with: an end that shows the stop string or id, or that comes too late.
#[test]
fn stop_ids_stop_strings_and_limits() {
    let text = "One, two, 三, 👩‍👩‍👧 and done. More.<｜end▁of▁sentence｜>";
    let end = written(&mut parrot(text), StopConditions::default(), None);
    assert_eq!(end.text, "One, two, 三, 👩‍👩‍👧 and done. More.");
    assert_eq!(
        (end.tokens.last(), end.finish_reason),
        (Some(&1), FinishReason::Stop)
    );

    let strings = vec!["and done. M".to_owned(), "nowhere".to_owned()];
    let stop = StopConditions {
        strings,
        ..StopConditions::default()
    };
    let end = written(&mut parrot(text), stop, None);
    assert_eq!(
        (end.text.as_str(), end.finish_reason),
        ("One, two, 三, 👩‍👩‍👧 ", FinishReason::Stop)
    );

    let comma = TOKENIZER.encode(",").unwrap();
    let stop = StopConditions {
        ids: comma,
        ..StopConditions::default()
    };
    assert_eq!(written(&mut parrot(text), stop, None).text, "One");

    let stop = StopConditions {
        max_new_tokens: 2,
        ..StopConditions::default()
    };
    let end = written(&mut parrot(text), stop, None);
    assert_eq!(
        (end.tokens.len(), end.finish_reason),
        (2, FinishReason::Length)
    );

    // held back as the beginning of a stop string, and given out when it wasn't one
    let stop = StopConditions {
        strings: vec!["More. And".into()],
        ..StopConditions::default()
    };
    assert!(
        written(&mut parrot(text), stop, None)
            .text
            .ends_with("done. More.")
    );
}

/// Breaks with: reasoning in the answer, a tool call as text, thinking without end.
#[test]
fn parsed_answers_and_the_thinking_budget() {
    let text = "Hm, hm, hm.</think>Sunny STOP<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>";
    let end = written(
        &mut parrot(text),
        StopConditions::default(),
        Some(Mode::Thinking),
    );
    let parsed = end.parsed.unwrap();
    assert_eq!(parsed.reasoning_content.as_deref(), Some("Hm, hm, hm."));
    assert_eq!(parsed.content, "Sunny STOP");
    assert_eq!(parsed.tool_calls.len(), 1);
    assert_eq!(end.finish_reason, FinishReason::ToolCalls);
    assert_eq!(end.text, "");

    let stop = StopConditions {
        strings: vec!["STOP".into()],
        ..StopConditions::default()
    };
    let end = written(&mut parrot(text), stop, Some(Mode::Thinking));
    assert_eq!(end.parsed.unwrap().content, "Sunny ");

    let stop = StopConditions {
        max_thinking_tokens: Some(3),
        max_new_tokens: 9,
        ..StopConditions::default()
    };
    let end = written(&mut parrot(&"a ".repeat(40)), stop, Some(Mode::Thinking));
    let think_end = TOKENIZER.token_to_id("</think>").unwrap();
    assert_eq!(end.tokens.iter().position(|t| *t == think_end), Some(3));
}

/// Breaks with: one sequence's NaN, or one lost pass, that ends the others.
#[test]
fn failures_end_only_what_they_touch() {
    let mut engine = parrot("a b c d e f<｜end▁of▁sentence｜>");
    let greedy = || SamplingParams::greedy();
    let mut bad = Parrot::new(TOKENIZER.encode_with_special("a b c").unwrap(), 1);
    bad.poison = Some(99);
    let mut poisoned = Engine::with_runner(
        bad,
        Some(TOKENIZER.clone()),
        vec![1],
        EngineConfig::default(),
    )
    .unwrap();
    let well = poisoned.submit(Request::new(vec![0u32], greedy())).unwrap();
    let ill = poisoned
        .submit(Request::new(vec![99u32], greedy()))
        .unwrap();
    let done = drain(&mut poisoned);
    assert!(
        matches!(&done[&ill].finish_reason, FinishReason::Error(e) if e.contains("NaN")),
        "{done:?}"
    );
    assert_eq!(done[&well].text, "a b c");

    let mut lost = Parrot::new(TOKENIZER.encode_with_special("a b c").unwrap(), 1);
    lost.fail_at = Some(2);
    let config = EngineConfig {
        max_sequences: 1,
        ..EngineConfig::default()
    };
    let mut lost = Engine::with_runner(lost, Some(TOKENIZER.clone()), vec![1], config).unwrap();
    let first = lost.submit(Request::new(vec![0u32], greedy())).unwrap();
    let second = lost.submit(Request::new(vec![0u32], greedy())).unwrap();
    let done = drain(&mut lost);
    assert!(matches!(&done[&first].finish_reason, FinishReason::Error(e) if e.contains("gone")));
    assert_eq!(done[&second].text, "a b c");

    // cancelled from within the stream: nothing more is computed for it
    let request = Request::new(vec![0u32], greedy());
    let mut tokens = 0;
    let end = engine
        .stream(request, &mut |event| {
            tokens += usize::from(matches!(event, EngineEvent::Token { .. }));
            if tokens == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(
        (end.tokens.len(), end.finish_reason),
        (2, FinishReason::Cancelled)
    );
    assert!(!engine.has_work());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Breaks with: a sequence that starves, a block that leaks, a step without progress.
    #[test]
    fn every_sequence_ends_and_all_blocks_come_back(
        blocks in 3usize..12, budget in 1usize..40, max_sequences in 1usize..5,
        asks in proptest::collection::vec((1usize..30, 1usize..20, any::<bool>()), 1..8),
    ) {
        let config = EngineConfig {
            block_size: 4, max_cached_tokens: blocks * 4, max_batch_tokens: budget, max_sequences,
        };
        let mut runner = Parrot::new(vec![], 0);
        runner.vocab = 8;
        runner.script = vec![5; 4096];
        let mut engine = Engine::with_runner(runner, None, vec![], config).unwrap();
        let mut accepted = 0;
        for (prompt, new, cancel) in asks {
            let prompt: Vec<u32> = (0..prompt).map(|i| (i % 7) as u32).collect();
            let Ok(id) = engine.submit(request(&prompt, SamplingParams::greedy(), new)) else {
                prop_assert!(prompt.len() >= blocks * 4);
                continue;
            };
            accepted += 1;
            if cancel {
                engine.step();
                engine.cancel(id);
            }
        }
        let mut steps = 0;
        while engine.has_work() {
            engine.step();
            steps += 1;
            prop_assert!(steps < 4000, "no progress");
        }
        prop_assert!(accepted == 0 || steps < 4000);
        // all blocks are free again: the largest prompt fits
        let prompt = vec![1u32; blocks * 4 - 1];
        let end = engine.stream(request(&prompt, SamplingParams::greedy(), 1), &mut |_| ControlFlow::Continue(()));
        prop_assert_eq!(end.unwrap().tokens.len(), 1);
    }
}

/// Breaks with: events that arrive after the end, or not at all.
#[test]
fn events_come_in_order_and_end_once() {
    let mut engine = parrot("Hm.</think>Yes.<｜end▁of▁sentence｜>");
    let mut request = Request::new(
        vec![0u32],
        SamplingParams::greedy().with_temperature(Temperature::GREEDY),
    );
    request.parse = Some(Mode::Thinking);
    let mut seen = Vec::new();
    engine
        .stream(request, &mut |event| {
            seen.push(event.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(matches!(
        seen.last(),
        Some(EngineEvent::Finished {
            reason: FinishReason::Stop,
            ..
        })
    ));
    let finished = seen
        .iter()
        .filter(|e| matches!(e, EngineEvent::Finished { .. }))
        .count();
    let closed = seen
        .iter()
        .filter(|e| matches!(e, EngineEvent::Parsed(Event::Finish { .. })))
        .count();
    assert_eq!((finished, closed), (1, 1));
}
