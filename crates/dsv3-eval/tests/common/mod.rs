//! A byte-level vocabulary, and a runner that writes what it is told.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)] // each test file uses its part

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use dsv3_engine::{Engine, EngineConfig, EngineError, ModelRunner};
use dsv3_eval::{EvalSet, Outcome, Prepared, Report, Settings, Task, run};
use dsv3_model::ForwardBatch;
use dsv3_tasks::Example;
use dsv3_tokenizer::{Segment, Special, TokenId, Tokenizer};
use serde_json::{Map, Value, json};

/// One token a byte, and V3.1's control tokens behind them.
pub static TOKENIZER: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| Arc::new(tokenizer(&Special::ALL)));

/// A vocabulary with these control tokens.
pub fn tokenizer(specials: &[Special]) -> Tokenizer {
    // GPT-2's letters for bytes: printable ones stand for themselves.
    let mut next = 0x100;
    let mut letter = |byte: u32| match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => char::from_u32(byte).unwrap(),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap()
        }
    };
    let vocab: Map<String, Value> = (0..256)
        .map(|byte| (letter(byte).to_string(), json!(byte)))
        .collect();
    let added: Vec<Value> = (256..)
        .zip(specials)
        .map(|(id, special)| {
            json!({
                "id": id, "content": special.name(), "special": false, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": [],
        },
    });
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

/// Ids of segments. One token a byte, so texts need not be joined first.
pub fn ids(segments: &[Segment]) -> Vec<TokenId> {
    let part = |segment: &Segment| match segment {
        Segment::Text(text) => TOKENIZER.encode(text).unwrap(),
        Segment::Special(special) => vec![TOKENIZER.special().require(*special).unwrap()],
    };
    segments.iter().flat_map(part).collect()
}

fn key(prefix: &[TokenId]) -> u64 {
    let mut hasher = DefaultHasher::new();
    prefix.hash(&mut hasher);
    hasher.finish()
}

/// Knows the token after each prefix that it was told; after any other it writes EOS. Reads its
/// prefixes from the cache's slots, as a model does.
#[derive(Default)]
pub struct Scripted {
    script: HashMap<u64, TokenId>,
    slots: HashMap<usize, TokenId>,
    pub passes: usize,
}

pub const POSITIONS: usize = 1 << 16;
const BLOCK: usize = 16;
const VOCAB: usize = 278;

impl Scripted {
    /// Tell it what to write in each turn.
    pub fn tell(&mut self, example: &Example, answers: &[Vec<TokenId>]) {
        let mut text = Vec::new();
        for (turn, answer) in example.turns.iter().zip(answers) {
            text.extend(ids(&turn.given));
            for token in answer {
                let before = self.script.insert(key(&text), *token);
                assert!(
                    before.is_none_or(|b| b == *token),
                    "two tasks begin alike and go on differently: {}",
                    example.id
                );
                text.push(*token);
            }
        }
    }

    /// An oracle for these tasks.
    pub fn oracle(tasks: &[Task]) -> Self {
        let mut oracle = Scripted::default();
        for task in tasks {
            let turns = task.example.turns.iter();
            let answers: Vec<_> = turns.map(|turn| ids(&turn.answer)).collect();
            oracle.tell(&task.example, &answers);
        }
        oracle
    }
}

impl ModelRunner for Scripted {
    fn run(&mut self, batch: &ForwardBatch) -> Result<Vec<f32>, EngineError> {
        self.passes += 1;
        let eos = TOKENIZER.special().eos;
        let mut logits = Vec::new();
        for sequence in &batch.sequences {
            let slot = |p: usize| sequence.blocks[p / BLOCK] as usize * BLOCK + p % BLOCK;
            for row in sequence.rows.clone() {
                let position = batch.positions[row] as usize;
                self.slots.insert(slot(position), batch.tokens[row]);
            }
            let wanted = batch
                .logit_rows
                .iter()
                .filter(|r| sequence.rows.contains(r));
            for row in wanted {
                let end = batch.positions[*row] as usize;
                let prefix: Vec<_> = (0..=end).map(|p| self.slots[&slot(p)]).collect();
                let next = self.script.get(&key(&prefix)).copied().unwrap_or(eos);
                let mut row = vec![0.0; VOCAB];
                row[next as usize] = 1.0;
                logits.extend(row);
            }
        }
        Ok(logits)
    }

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn max_positions(&self) -> usize {
        POSITIONS
    }

    fn reset(&mut self) {
        self.slots.clear();
    }
}

/// Give `tasks` to a runner, `in_flight` at a time.
pub fn evaluate(
    runner: Scripted,
    tasks: &[Task],
    in_flight: usize,
    cached: usize,
) -> (Prepared, Vec<Outcome>) {
    let set = EvalSet {
        tasks: tasks.to_vec(),
    };
    let prepared = Prepared::new(&set, &TOKENIZER, POSITIONS, 4096).unwrap();
    let config = EngineConfig {
        max_cached_tokens: cached,
        ..EngineConfig::default()
    };
    let tokenizer = Some(Arc::clone(&TOKENIZER));
    let mut engine = Engine::with_runner(runner, tokenizer, Vec::new(), config).unwrap();
    let outcomes = run(&mut engine, &prepared, in_flight, &mut |_| {
        ControlFlow::Continue(())
    });
    (prepared, outcomes.unwrap())
}

/// The report on them, with up to two failures a kind and mode.
pub fn report(prepared: &Prepared, outcomes: &[Outcome]) -> Report {
    let settings = Settings {
        model: "scripted".into(),
        device: "none".into(),
        dtype: "f32".into(),
        cache: "f32".into(),
        w8a8: false,
        seed: 1,
        count: 4,
        max_new_tokens: 4096,
    };
    Report::new(settings, prepared, outcomes, &TOKENIZER, 1.5, 2).unwrap()
}
