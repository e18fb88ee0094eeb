//! Running prompts and decoding, and taking the time.

use anyhow::anyhow;
use dsv3_model::{
    ChosenExperts, ForwardBatch, LatentCache, PassBytes, PassTimes, Trace, Transformer, WeightBytes,
};
use indicatif::ProgressBar;
use serde::Serialize;

use super::limits::{Gauge, Limits};
use super::operations;
use super::part::ByPart;
use super::workload::{BLOCK, Workload};
use crate::interrupt::Listening;
use crate::output::progress_bar;

/// Of the token ids: the same in every run.
const SEED: u64 = 0x5EED;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Prefill,
    Decode,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
        }
    }
}

/// One thing that was measured.
#[derive(Debug, Clone)]
pub(super) struct Measurement {
    pub(super) kind: Kind,
    /// Of each sequence.
    pub(super) tokens: usize,
    pub(super) depth: usize,
    pub(super) batch: usize,
    /// Of all its passes.
    pub(super) bytes: PassBytes,
    /// Multiplications and additions of all its passes.
    pub(super) operations: f64,
    /// Seconds of each repetition, the quickest first.
    pub(super) repeats: Vec<ByPart>,
    /// What the machine gave around them.
    pub(super) limits: Limits,
}

impl Measurement {
    /// Tokens of all sequences.
    pub(super) fn all_tokens(&self) -> f64 {
        (self.tokens * self.batch) as f64
    }

    /// Seconds of the repetition in the middle; of two the slower.
    pub(super) fn median(&self) -> ByPart {
        let middle = self.repeats.get(self.repeats.len() / 2);
        middle.copied().unwrap_or_default()
    }
}

/// Measure all of `workload` onto `measured`, or until Ctrl-C or until a pass fails: what is measured
/// by then stays.
pub(super) fn run(
    model: &Transformer,
    workload: &Workload,
    listening: &Listening,
    gauge: &mut Gauge,
    measured: &mut Vec<Measurement>,
) -> anyhow::Result<()> {
    let bar = progress_bar(
        cost_of_all(workload),
        "measuring {bar:30} {percent} %, {eta} left: {msg}",
    );
    'all: for batch in &workload.batches {
        let mut sequences = Sequences::new(model, workload, *batch, listening, &bar);
        for tokens in &workload.prompts {
            let work = Work::prefill(*tokens, workload.step(*batch));
            measured.extend(sequences.measure(work, workload.repeat, gauge)?);
            if listening.pressed() {
                break 'all;
            }
        }
        for depth in &workload.depths {
            sequences.fill(*depth)?;
            let work = Work::decode(*depth, workload.decode);
            measured.extend(sequences.measure(work, workload.repeat, gauge)?);
            if listening.pressed() {
                break 'all;
            }
        }
    }
    debug_assert!(listening.pressed() || bar.position() == cost_of_all(workload));
    bar.finish_and_clear();
    Ok(())
}

/// What a pass costs beside its tokens, in tokens: reading the weights takes about as long as the
/// arithmetic of a few. Only the time that is left is estimated by it.
const READING: u64 = 3;

/// What so many tokens of every sequence cost, `step` of each at a time.
fn cost(tokens: usize, step: usize, batch: usize) -> u64 {
    READING * tokens.div_ceil(step) as u64 + (tokens * batch) as u64
}

/// What all passes of `workload` cost, those that fill caches too.
fn cost_of_all(workload: &Workload) -> u64 {
    let rounds = 1 + workload.repeat as u64;
    let mut all = 0;
    for batch in &workload.batches {
        let step = workload.step(*batch);
        let mut filled = 0;
        for tokens in &workload.prompts {
            all += rounds * cost(*tokens, step, *batch);
            filled = filled.max(*tokens);
        }
        for depth in &workload.depths {
            all += cost(depth.saturating_sub(filled), step, *batch);
            all += rounds * cost(workload.decode, 1, *batch);
            filled = filled.max(depth + workload.decode);
        }
    }
    all
}

/// Tokens of every sequence, and how many of each are one pass.
#[derive(Debug, Clone, Copy)]
struct Work {
    kind: Kind,
    from: usize,
    tokens: usize,
    step: usize,
}

impl Work {
    fn prefill(tokens: usize, step: usize) -> Self {
        Work {
            kind: Kind::Prefill,
            from: 0,
            tokens,
            step,
        }
    }

    fn decode(depth: usize, tokens: usize) -> Self {
        Work {
            kind: Kind::Decode,
            from: depth,
            tokens,
            step: 1,
        }
    }
}

/// Sequences of one length that run side by side.
///
/// The token at a place of a sequence is always the same. So it does not matter who wrote the
/// cache there, a prompt or the decoding of an earlier measurement, and every repetition sends
/// its tokens to the same experts.
struct Sequences<'a> {
    model: &'a Transformer,
    weights: WeightBytes,
    cache: LatentCache,
    blocks: usize,
    batch: usize,
    /// Tokens of each that one pass over prompts has.
    step: usize,
    /// Tokens of each that are in the cache.
    filled: usize,
    listening: &'a Listening,
    bar: &'a ProgressBar,
}

impl<'a> Sequences<'a> {
    fn new(
        model: &'a Transformer,
        workload: &Workload,
        batch: usize,
        listening: &'a Listening,
        bar: &'a ProgressBar,
    ) -> Self {
        let blocks = workload.blocks();
        Sequences {
            model,
            weights: model.weight_bytes(),
            cache: model.new_cache(blocks * batch, BLOCK),
            blocks,
            batch,
            step: workload.step(batch),
            filled: 0,
            listening,
            bar,
        }
    }

    /// Fill the cache up to `depth`, untimed.
    fn fill(&mut self, depth: usize) -> anyhow::Result<()> {
        self.bar
            .set_message(format!("filling the cache to {depth}"));
        while self.filled < depth && !self.listening.pressed() {
            let to = (self.filled + self.step).min(depth);
            self.pass(&self.batch_of(self.filled, to), &mut ())?;
            self.filled = to;
        }
        Ok(())
    }

    /// Run `work` once untimed, which reads all weights that it needs and counts them, then
    /// `repeat` times, and see what the machine gives. Nothing where Ctrl-C came before the first of
    /// those.
    fn measure(
        &mut self,
        work: Work,
        repeat: usize,
        gauge: &mut Gauge,
    ) -> anyhow::Result<Option<Measurement>> {
        let (kind, batch) = (work.kind.name(), self.batch);
        let (tokens, depth) = (work.tokens, work.from);
        let message = format!("{kind} of {tokens}, depth {depth}, batch {batch}");
        self.bar.set_message(message);
        let ends = (0..tokens).step_by(work.step);
        let passes: Vec<ForwardBatch> = ends
            .map(|at| self.batch_of(depth + at, depth + (at + work.step).min(tokens)))
            .collect();

        let (mut bytes, mut operations) = (PassBytes::default(), 0.0);
        for pass in &passes {
            if self.listening.pressed() {
                return Ok(None);
            }
            let mut chosen = ChosenExperts::default();
            self.pass(pass, &mut chosen)?;
            bytes += self.weights.of_pass(pass, &self.cache, &chosen);
            operations += operations::of_pass(self.model.args(), pass);
        }
        self.filled = self.filled.max(depth + tokens);

        let mut repeats = Vec::with_capacity(repeat);
        'repeats: for _ in 0..repeat {
            let mut times = PassTimes::begin();
            for pass in &passes {
                if self.listening.pressed() {
                    break 'repeats;
                }
                self.pass(pass, &mut times)?;
                times.end();
            }
            repeats.push(ByPart::of_times(&times));
        }
        let repeated = repeats.len();
        tracing::info!(kind, tokens, depth, batch, repeated, "measured");
        repeats.sort_by(|a, b| a.total().total_cmp(&b.total()));
        if self.listening.pressed() {
            gauge.stop();
        }
        self.bar.set_message("what the machine gives");
        Ok((!repeats.is_empty()).then(|| Measurement {
            kind: work.kind,
            tokens,
            depth,
            batch,
            bytes,
            operations,
            repeats,
            limits: gauge.around(),
        }))
    }

    /// One pass, to the logits of each sequence's last token on the host.
    fn pass(&mut self, batch: &ForwardBatch, trace: &mut dyn Trace) -> anyhow::Result<()> {
        let output = self.model.forward_traced(batch, &mut self.cache, trace)?;
        let logits = output.logits.try_into_data(); // [batch, vocab]
        let logits = logits.map_err(|error| anyhow!("the device failed in a pass: {error}"))?;
        std::hint::black_box(logits);
        self.bar.inc(READING + batch.tokens.len() as u64);
        Ok(())
    }

    /// The tokens at `from..to` of every sequence.
    fn batch_of(&self, from: usize, to: usize) -> ForwardBatch {
        let vocab = self.model.args().vocab_size;
        let mut batch = ForwardBatch::default();
        for sequence in 0..self.batch {
            let tokens: Vec<u32> = (from..to).map(|at| token(sequence, at, vocab)).collect();
            let first = sequence * self.blocks;
            let blocks = first..first + to.div_ceil(BLOCK);
            batch.push(&tokens, from, blocks.map(|block| block as u32).collect());
        }
        batch
    }
}

/// The token at place `at` of sequence `sequence`: any id, by the mixing function of SplitMix64.
fn token(sequence: usize, at: usize, vocab: usize) -> u32 {
    let mut z = SEED ^ ((sequence as u64) << 40) ^ at as u64;
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) % vocab.max(1) as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Breaks with: ids outside of the vocabulary, sequences that are copies of each other, or a
    /// stream of few ids, which would choose few experts.
    #[test]
    fn tokens_are_valid_and_spread() {
        let stream =
            |sequence| -> Vec<u32> { (0..400).map(|at| token(sequence, at, 512)).collect() };
        let (first, second) = (stream(0), stream(1));
        assert!(first.iter().chain(&second).all(|id| *id < 512));
        assert_ne!(first, second);
        let distinct: BTreeSet<u32> = first.into_iter().collect();
        assert!(distinct.len() > 200, "{}", distinct.len());
    }
}
