//! How often the MTP module guesses the main model's next token right.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use dsv3_model::{ForwardBatch, LatentCache, MtpModule, Transformer};
use dsv3_tasks::{Kind, Mode};
use dsv3_tokenizer::TokenId;

use crate::episode::Outcome;
use crate::error::EvalError;
use crate::interval::Rate;
use crate::prepared::Prepared;

/// Rows of a forward pass: logits of 256 rows of V3.1's vocabulary are 132 MB.
const CHUNK: usize = 256;
/// Tokens a cache block.
const BLOCK: usize = 16;

/// A text and the parts of it that a model wrote greedily.
#[derive(Debug, Clone, Copy)]
pub struct WrittenText<'a> {
    /// The whole text.
    pub ids: &'a [TokenId],
    /// What the model wrote.
    pub written: &'a [Range<usize>],
}

/// The answers to the first `count` tasks of each kind and mode.
pub fn mtp_texts<'a>(
    prepared: &Prepared,
    outcomes: &'a [Outcome],
    count: usize,
) -> Vec<WrittenText<'a>> {
    let mut taken: HashMap<(Kind, Mode), usize> = HashMap::new();
    let mut texts = Vec::new();
    for (task, outcome) in prepared.tasks.iter().zip(outcomes) {
        let example = &task.task.example;
        let taken = taken.entry((example.kind, example.mode)).or_default();
        if *taken < count && task.task.buried_length.is_none() {
            *taken += 1;
            texts.push(WrittenText {
                ids: &outcome.ids,
                written: &outcome.written,
            });
        }
    }
    texts
}

/// The share of second tokens that speculative decoding would accept under greedy decoding.
///
/// At each place the main model writes a token and the module, from the main model's hidden state
/// and that token, guesses the one after it. The guess is right where the main model's own choice
/// is the same. Texts are run as they stand, which gives what decoding token by token would.
/// Counted are the guesses within what was written; `vocab` are the ids that can be chosen.
///
/// # Errors
/// [`EvalError::Mtp`] for a text that the model can't take, [`EvalError::Device`],
/// [`EvalError::Stopped`] when `on_text`, which hears of every text, breaks off.
pub fn acceptance(
    model: &Transformer,
    module: &MtpModule,
    texts: &[WrittenText<'_>],
    vocab: usize,
    on_text: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Rate, EvalError> {
    let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
    let blocks = longest.div_ceil(BLOCK).max(1);
    let mut pass = Pass {
        model,
        module,
        vocab,
        blocks: (0..blocks as u32).collect(),
        cache: model.new_cache(blocks, BLOCK),
        own: module.new_cache(model, blocks, BLOCK),
    };
    let (mut right, mut count) = (0, 0);
    for text in texts {
        let (accepted, guessed) = pass.text(text)?;
        right += accepted;
        count += guessed;
        if on_text().is_break() {
            return Err(EvalError::Stopped);
        }
    }
    Ok(Rate::new(right, count))
}

struct Pass<'a> {
    model: &'a Transformer,
    module: &'a MtpModule,
    vocab: usize,
    blocks: Vec<u32>,
    cache: LatentCache,
    own: LatentCache,
}

impl Pass<'_> {
    /// Guesses accepted, and all of them.
    fn text(&mut self, text: &WrittenText<'_>) -> Result<(usize, usize), EvalError> {
        // Row i holds token i; the module's row i the one after it, so the last has none.
        let Some((_, rows)) = text.ids.split_last() else {
            return Ok((0, 0));
        };
        let (mut chosen, mut guessed) = (Vec::new(), Vec::new());
        for (n, tokens) in rows.chunks(CHUNK).enumerate() {
            let first = n * CHUNK;
            let mut batch = ForwardBatch::default();
            batch.push(tokens, first, self.blocks.clone());
            batch.want_all_logits();
            let output = self.model.forward(&batch, &mut self.cache)?;
            let logits = output.logits.try_into_data().map_err(device)?; // [tokens, vocab]
            chosen.extend(self.choices(&logits.try_into_vec::<f32>().map_err(device)?));
            let next = text.ids.get(first + 1..=first + tokens.len());
            batch.tokens = next.unwrap_or_default().to_vec();
            let (model, own) = (self.model, &mut self.own);
            let guess = self
                .module
                .forward(model, output.hidden, &batch, own, &mut ())?;
            let logits = guess.logits.try_into_data().map_err(device)?; // [tokens, vocab]
            guessed.extend(self.choices(&logits.try_into_vec::<f32>().map_err(device)?));
        }
        // The token that row i's guess is about is the main model's choice in row i + 1. Both are
        // part of the answer where i + 1 and i + 2 are.
        let is_written = |i: usize| {
            text.written
                .iter()
                .any(|part| part.contains(&(i + 1)) && part.contains(&(i + 2)))
        };
        let pairs = guessed.iter().zip(chosen.iter().skip(1)).enumerate();
        let (mut right, mut count) = (0, 0);
        for (_, (guess, choice)) in pairs.filter(|(i, _)| is_written(*i)) {
            right += usize::from(guess == choice);
            count += 1;
        }
        Ok((right, count))
    }

    /// The most probable id of each row of `logits [rows, vocab]`; of equals the lowest, as the
    /// sampler has it.
    fn choices(&self, logits: &[f32]) -> Vec<TokenId> {
        let width = self.model.args().vocab_size.max(1);
        let best = |row: &[f32]| {
            let mut best = (0, f32::NEG_INFINITY);
            for (id, logit) in row.iter().take(self.vocab).enumerate() {
                if *logit > best.1 {
                    best = (id as TokenId, *logit);
                }
            }
            best.0
        };
        logits.chunks_exact(width).map(best).collect()
    }
}

fn device(error: impl std::fmt::Display) -> EvalError {
    EvalError::Device(error.to_string())
}
