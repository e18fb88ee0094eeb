//! What is to be measured, and whether the model and the machine have room for it.

use std::path::Path;

use dsv3_model::{LatentFormat, ModelArgs};
use dsv3_weights::human_bytes;

use super::BenchArgs;
use super::projection::Target;
use crate::error::usage;

/// Tokens a cache block, as in the engine.
pub(super) const BLOCK: usize = 16;

/// Lengths, depths and batches, each list in order and without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) prompts: Vec<usize>,
    pub(super) depths: Vec<usize>,
    pub(super) batches: Vec<usize>,
    pub(super) decode: usize,
    pub(super) repeat: usize,
    /// Tokens of one pass over prompts.
    pub(super) batch_tokens: usize,
}

fn in_order(numbers: &[u32]) -> Vec<usize> {
    let mut numbers: Vec<usize> = numbers.iter().map(|n| *n as usize).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

impl Workload {
    /// What the flags ask for.
    pub(super) fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let decode = args.decode as usize;
        let mut prompts = in_order(&args.prompt);
        prompts.retain(|tokens| *tokens > 0);
        if decode == 0 && prompts.is_empty() {
            return Err(usage(
                "with --prompt 0 and --decode 0 there is nothing to measure: raise one of them",
            ));
        }
        let batches = in_order(&args.batch);
        let fills = !prompts.is_empty() || decode > 0 && args.depth.iter().any(|depth| *depth > 0);
        let most = batches.last().copied().unwrap_or(1);
        if fills && most > args.batch_tokens as usize {
            return Err(usage(format!(
                "--batch {most} is more than a pass over prompts has tokens, of all sequences \
                 together: raise --batch-tokens {} or lower --batch",
                args.batch_tokens
            )));
        }
        Ok(Workload {
            prompts,
            depths: match decode {
                0 => Vec::new(),
                _ => in_order(&args.depth),
            },
            batches,
            decode,
            repeat: args.repeat as usize,
            batch_tokens: args.batch_tokens as usize,
        })
    }

    /// Tokens of one sequence that the cache holds at most.
    pub(super) fn longest(&self) -> usize {
        let prompt = self.prompts.last().copied().unwrap_or(0);
        let depth = self.depths.last().copied().unwrap_or(0);
        prompt.max(depth + self.decode)
    }

    /// Tokens of each of `batch` sequences that one pass over prompts has.
    pub(super) fn step(&self, batch: usize) -> usize {
        (self.batch_tokens / batch.max(1)).max(1)
    }

    /// Cache blocks of one sequence.
    pub(super) fn blocks(&self) -> usize {
        self.longest().div_ceil(BLOCK)
    }

    /// Bytes of the largest cache.
    pub(super) fn cache_bytes(&self, args: &ModelArgs, cache: LatentFormat) -> u64 {
        let batch = self.batches.last().copied().unwrap_or(1) as u64;
        let tokens = (self.blocks() * BLOCK) as u64;
        let token = args.num_hidden_layers * cache.bytes(args.kv_lora_rank, args.qk_rope_head_dim);
        batch.saturating_mul(tokens).saturating_mul(token as u64)
    }

    /// Refuse what is past the model's last position.
    pub(super) fn check_positions(&self, args: &ModelArgs, dir: &Path) -> anyhow::Result<()> {
        let positions = args.max_position_embeddings;
        let config = dir.join("config.json");
        let limit = format!("max_position_embeddings in {} is", config.display());
        if let Some(tokens) = self.prompts.last().filter(|tokens| **tokens > positions) {
            return Err(usage(format!(
                "--prompt {tokens} is more than the model has positions for: {limit} {positions}"
            )));
        }
        match self.depths.last() {
            Some(depth) if depth + self.decode > positions => Err(usage(format!(
                "--depth {depth} and {} decoded tokens are more than the model has positions for: \
                 {limit} {positions}; lower --depth or --decode",
                self.decode
            ))),
            _ => Ok(()),
        }
    }

    /// Refuse a cache that `available` bytes of memory can't hold.
    pub(super) fn check_memory(
        &self,
        args: &ModelArgs,
        cache: LatentFormat,
        available: u64,
    ) -> anyhow::Result<()> {
        let bytes = self.cache_bytes(args, cache);
        if bytes <= available {
            return Ok(());
        }
        Err(usage(format!(
            "the cache of {} sequences of {} tokens takes {} and {} of memory are available: lower \
             --batch, --depth or --prompt",
            self.batches.last().copied().unwrap_or(1),
            self.longest(),
            human_bytes(bytes),
            human_bytes(available)
        )))
    }

    /// Refuse what a projection can't be made from.
    pub(super) fn check_projection(&self, target: &Target) -> anyhow::Result<()> {
        if !self.batches.contains(&1) {
            return Err(usage(
                "--project reckons for one sequence: have 1 among the sizes of --batch",
            ));
        }
        let positions = target.args().max_position_embeddings;
        if self.longest() > positions {
            return Err(usage(format!(
                "{} tokens are measured and the model of --project has positions for {positions} \
                 (max_position_embeddings): lower --prompt, --depth or --decode",
                self.longest()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::cli::Command;
    use clap::Parser;

    fn workload(flags: &[&str]) -> anyhow::Result<Workload> {
        let cli = Cli::try_parse_from([&["dsv3", "bench"], flags].concat())?;
        match cli.command {
            Command::Bench(args) => Workload::new(&args),
            other => anyhow::bail!("{other:?}"),
        }
    }

    fn args() -> ModelArgs {
        let config = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/golden/base/model/config.json"
        );
        ModelArgs::from_file(config).unwrap()
    }

    /// Breaks with: lists measured twice or out of order, prompts of no tokens, depths without
    /// decoding.
    #[test]
    fn lists_are_sorted_and_nothing_is_left_out() {
        let asked = [
            "--prompt",
            "64,0,16,64",
            "--depth",
            "9,0",
            "--batch",
            "4,1,4",
        ];
        let found = workload(&asked).unwrap();
        assert_eq!(
            (&found.prompts[..], &found.depths[..], &found.batches[..]),
            (&[16, 64][..], &[0, 9][..], &[1, 4][..])
        );
        assert_eq!((found.decode, found.repeat), (32, 3));
        assert_eq!((found.longest(), found.blocks()), (64, 4));
        // 4 sequences, 64 tokens, 3 layers of 64 + 16 values
        assert_eq!(
            found.cache_bytes(&args(), LatentFormat::F32),
            4 * 64 * 3 * 80 * 4
        );
        assert_eq!(
            found.cache_bytes(&args(), LatentFormat::Bf16),
            4 * 64 * 3 * 80 * 2
        );
        let prefill = workload(&["--decode", "0", "--depth", "999999"]).unwrap();
        assert_eq!((prefill.depths.len(), prefill.longest()), (0, 512));
    }

    /// Breaks with: a limit that is off by one, or a refusal that doesn't say what to change.
    #[test]
    fn what_has_no_room_is_refused() {
        let dir = Path::new("MODEL");
        let positions = |flags: &[&str]| workload(flags)?.check_positions(&args(), dir);
        positions(&["--prompt", "1024", "--depth", "992"]).unwrap();
        for flags in [&["--prompt", "1025"][..], &["--depth", "993"]] {
            let message = positions(flags).unwrap_err().to_string();
            assert!(
                message.contains(flags[0]) && message.contains("1024"),
                "{message}"
            );
            assert!(message.contains("MODEL"), "{message}");
        }
        let found = workload(&["--batch", "2", "--prompt", "16", "--decode", "0"]).unwrap();
        let needed = 2 * 16 * 3 * 80 * 4;
        let check = |available| found.check_memory(&args(), LatentFormat::F32, available);
        check(needed).unwrap();
        let message = check(needed - 1).unwrap_err().to_string();
        assert!(message.contains("2 sequences of 16 tokens"), "{message}");
        assert!(message.contains("--batch"), "{message}");
        let message = workload(&["--prompt", "0", "--decode", "0"]).unwrap_err();
        assert!(
            message.to_string().contains("nothing to measure"),
            "{message}"
        );
    }
}
