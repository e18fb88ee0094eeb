//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dsv3_kernels::DeviceSpec;
use dsv3_sampling::{
    FrequencyPenalty, MinP, PresencePenalty, Preset, RepetitionPenalty, Seed, Temperature, TopK,
    TopLogprobs, TopP,
};

use crate::commands::bench::BenchArgs;
use crate::commands::convert::ConvertArgs;
use crate::commands::eval::EvalArgs;
use crate::commands::finetune::FinetuneArgs;
use crate::commands::plan::PlanArgs;
use crate::input::{Ids, parse_ids};

/// Run DeepSeek-V3.1 from its published checkpoint.
///
/// A checkpoint is a folder in the published layout: config.json, *.safetensors, tokenizer.json.
/// Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong use, 130
/// ended by Ctrl-C.
#[derive(Debug, Parser)]
#[command(
    name = "dsv3",
    version,
    max_term_width = 100,
    after_help = "Example: dsv3 generate --model DeepSeek-V3.1 --prompt 'Why is the sky blue?'"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The checkpoint's folder: config.json, tokenizer.json, safetensors [default of chat,
    /// generate, score, eval, bench and finetune: fixtures/dsv3-tiny of dsv3's repository]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Where to compute: cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceSpec,
    /// Threads of the CPU [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) threads: Option<u16>,
    /// Keep each of them on a core of its own: for machines that do nothing else meanwhile
    #[arg(long, global = true)]
    pub(crate) pin_threads: bool,
    /// Say on stderr what is going on; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print JSON where the output is data
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write an answer to a prompt
    Generate(GenerateArgs),
    /// Talk with the model
    Chat(ChatArgs),
    /// Log-probabilities of a given text, and its perplexity
    Score(ScoreArgs),
    /// Text to token ids
    Tokenize(TokenizeArgs),
    /// Token ids to text
    Detokenize(DetokenizeArgs),
    /// A conversation (OpenAI's message format) to the prompt that the model sees
    Render(RenderArgs),
    /// What the model wrote, on stdin, to reasoning, content and tool calls
    Parse(ParseArgs),
    /// How well a model does
    Eval(EvalArgs),
    /// How fast a model reads prompts and writes, beside what the memory allows
    Bench(BenchArgs),
    /// Train an adapter on conversations of your own
    Finetune(FinetuneArgs),
    /// What a checkpoint holds, by component
    Inspect(InspectArgs),
    /// What a model needs, from its config.json alone, and whether it fits
    Plan(PlanArgs),
    /// Write a checkpoint in another number format
    Convert(ConvertArgs),
    /// What this machine and this build can do
    #[command(after_help = "Example: dsv3 doctor --model DeepSeek-V3.1")]
    Doctor,
}

/// How to load and run the model.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct LoadArgs {
    /// Format of activations
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// Round activations to 8 bits in front of packed weights: to fp8 in front of fp8, as DeepSeek
    /// trained; to int8 in front of int8 and int4, which reads prompts faster
    #[arg(long)]
    pub(crate) w8a8: bool,
    /// How the cache keeps its tokens; fp8 takes 656 bytes a token and layer of V3.1, bf16 1,152,
    /// f32 2,304 [default: as --dtype]
    #[arg(long, value_enum)]
    pub(crate) cache: Option<CacheFormat>,
    /// Tokens that the cache holds, prompt and answer together [default: what the task needs; in
    /// chat 8192]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) context: Option<u32>,
    /// Tokens of one forward pass; longer prompts are read in pieces. More read a long prompt
    /// faster, take more memory, and let Ctrl-C and other sequences wait longer [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_tokens: Option<u32>,
    /// An adapter to apply: a folder that dsv3 finetune or PEFT wrote
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    #[default]
    F32,
    Bf16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheFormat {
    F32,
    Bf16,
    Fp8,
}

/// How to choose tokens, and when to end.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Settings by kind of work: coding, analysis, creative, chat
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<Preset>,
    /// 0 takes the most probable token always; at most 2
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<Temperature>,
    /// Keep the most probable tokens up to this sum
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<TopP>,
    /// Keep this many tokens
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub(crate) top_k: Option<TopK>,
    /// Keep tokens at least this fraction as probable as the best
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<MinP>,
    /// Divide the logits of tokens already there by this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) repetition_penalty: Option<RepetitionPenalty>,
    /// Subtract this from the logits of tokens already written
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<PresencePenalty>,
    /// Subtract this for each time that a token was written
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<FrequencyPenalty>,
    /// The same seed gives the same text [default: another one each time]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<Seed>,
    /// End in front of this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Tokens to write at most [default: 512; in chat, what the cache holds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_new_tokens: Option<u32>,
    /// Tokens of reasoning at most
    #[arg(long, value_name = "N")]
    pub(crate) max_thinking_tokens: Option<usize>,
    /// Go on past the end that the model itself writes
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

/// What the help says of precedence.
const PRECEDENCE: &str = "\
Sampling: a flag goes before --preset, --preset before the checkpoint's generation_config.json,
and that before temperature 0.6 and top-p 0.95. As in transformers, a file that does not say
\"do_sample\": true means greedy; --top-p, --top-k or --min-p alone then sample at 0.6.";

#[derive(Debug, Args)]
#[command(
    after_help = format!("Example: dsv3 generate --model DeepSeek-V3.1 --think --prompt 'Why is the sky blue?'\n\n\
    Text is taken as a user's message (--chat) unless --raw is given; ids are used as they are,\n\
    no BOS is added. One newline at the end of stdin or of a file is not part of the prompt.\n\
    The answer goes to stdout, reasoning to stderr. Without a tokenizer.json the ids are printed.\n\n{PRECEDENCE}")
)]
pub(crate) struct GenerateArgs {
    /// The prompt
    #[arg(long, group = "input", value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt [default: stdin]
    #[arg(long, group = "input", value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// The prompt as token ids, used as they are: 1,2,3
    #[arg(long, group = "input", value_name = "IDS", value_parser = parse_ids, allow_hyphen_values = true)]
    pub(crate) input_ids: Option<Ids>,
    /// The prompt is plain text to go on with: one BOS, no chat format
    #[arg(long, conflicts_with_all = ["chat", "think"])]
    pub(crate) raw: bool,
    /// With --raw: control tokens written out in the text are those tokens
    #[arg(long, conflicts_with_all = ["chat", "think", "input_ids"], requires = "raw")]
    pub(crate) special: bool,
    /// The prompt is a user's message (what text is taken for without --raw)
    #[arg(long, conflicts_with = "input_ids")]
    pub(crate) chat: bool,
    /// Let the model reason first
    #[arg(long, conflicts_with = "input_ids")]
    pub(crate) think: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dsv3 chat --model DeepSeek-V3.1 --think\n\
    Without --model it talks with the small model of dsv3's repository, which thinks and searches\n\
    from the start. Type /help in the conversation for what it understands. Where stdin is no\n\
    terminal, or with --prompt, one answer is given and that is all; its settings are those of\n\
    dsv3 generate.")]
pub(crate) struct ChatArgs {
    /// One message, one answer, no conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Let the model reason first [default for the repository's small model without tools]
    #[arg(long)]
    pub(crate) think: bool,
    /// Let the model answer at once [default for any other model]
    #[arg(long, conflicts_with = "think")]
    pub(crate) nothink: bool,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Tools that the model may call when it answers at once: a JSON list in OpenAI's format
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
    /// Tools that run here: a calculator, a clock, a number at random
    #[arg(long, conflicts_with = "tools")]
    pub(crate) demo_tools: bool,
    /// Pages that the model may search in: a folder of .md, .txt and .jsonl files ({"title","text"}
    /// a line), or one file [default for the small model: fixtures/search]
    #[arg(long, value_name = "PATH")]
    pub(crate) search: Option<PathBuf>,
    /// Where typed lines are kept [default: ~/.local/share/dsv3/history]
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 score --model DIR --text 'The capital of France is Paris.' --top 3\n\
    The first token has no probability, since nothing stands before it: null in JSON."
)]
pub(crate) struct ScoreArgs {
    /// Token ids, used as they are: 1,2,3
    #[arg(long, group = "scored", value_name = "IDS", value_parser = parse_ids, allow_hyphen_values = true)]
    pub(crate) input_ids: Option<Ids>,
    /// Text; one BOS is put in front [default: stdin]
    #[arg(long, group = "scored", value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Control tokens written out in the text are those tokens
    #[arg(long, conflicts_with = "input_ids")]
    pub(crate) special: bool,
    /// Also the N most probable tokens at each position, at most 20
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true
    )]
    pub(crate) top: TopLogprobs,
    /// Write the logits, `logits` F32 [tokens, vocab], as safetensors
    #[arg(long, value_name = "FILE")]
    pub(crate) logits_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Where the tokenizer is.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenizerArgs {
    /// A tokenizer.json, instead of the one in --model
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dsv3 tokenize --model DIR 'Hello!'")]
pub(crate) struct TokenizeArgs {
    /// The text [default: stdin]
    pub(crate) text: Option<String>,
    /// Take control tokens that are written out for what they are
    #[arg(long)]
    pub(crate) special: bool,
    #[command(flatten)]
    pub(crate) tokenizer: TokenizerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dsv3 detokenize --model DIR 19923 3")]
pub(crate) struct DetokenizeArgs {
    /// Ids, separated by spaces or commas, or a JSON list [default: stdin]
    pub(crate) ids: Vec<String>,
    /// Leave control tokens out
    #[arg(long)]
    pub(crate) skip_special: bool,
    #[command(flatten)]
    pub(crate) tokenizer: TokenizerArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 render --messages conversation.json --think\n\
    Prints exactly the prompt and one newline. Needs no checkpoint unless --ids is given."
)]
pub(crate) struct RenderArgs {
    /// The conversation: a JSON list of messages, or an object with `messages` and `tools`
    #[arg(long, value_name = "FILE")]
    pub(crate) messages: PathBuf,
    /// The tools: a JSON list
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
    /// Let the model reason first
    #[arg(long)]
    pub(crate) think: bool,
    /// Print token ids
    #[arg(long)]
    pub(crate) ids: bool,
    /// Leave out the EOS behind a last message marked as "prefix", so that the model goes on
    #[arg(long)]
    pub(crate) continue_prefix: bool,
    /// Render through this Jinja template instead
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Option<PathBuf>,
    /// Leave out the marks after which the model answers
    #[arg(long)]
    pub(crate) no_generation_prompt: bool,
    #[command(flatten)]
    pub(crate) tokenizer: TokenizerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dsv3 parse --model DIR --think < answer.txt")]
pub(crate) struct ParseArgs {
    /// The answer began in reasoning
    #[arg(long)]
    pub(crate) think: bool,
    #[command(flatten)]
    pub(crate) tokenizer: TokenizerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dsv3 inspect DeepSeek-V3.1 --tensors")]
pub(crate) struct InspectArgs {
    /// A checkpoint's folder, or a config.json [default: --model]
    pub(crate) path: Option<PathBuf>,
    /// List every tensor
    #[arg(long)]
    pub(crate) tensors: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Breaks with: flags that clash, groups that name no flag, help without an example.
    #[test]
    fn every_command_is_sound_and_shows_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let commands = command.get_subcommands();
        for sub in commands.filter(|sub| sub.get_name() != "help") {
            let after = sub.get_after_help().map(ToString::to_string);
            let name = sub.get_name();
            assert!(
                after.unwrap_or_default().contains("Example: dsv3"),
                "{name}"
            );
            assert!(sub.get_about().is_some(), "{name}");
        }
    }
}
