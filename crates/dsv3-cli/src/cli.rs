//! What can be typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dsv3_kernels::DeviceSpec;
use dsv3_sampling::{
    FrequencyPenalty, MinP, PresencePenalty, Preset, RepetitionPenalty, Temperature, TopK, TopP,
};
use dsv3_weights::{CacheDtype, DeviceMemory, PlanFormat};

/// Run DeepSeek-V3.1 from its published checkpoint.
#[derive(Debug, Parser)]
#[command(name = "dsv3", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The checkpoint's folder: config.json, tokenizer.json, safetensors
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Where to compute: cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, global = true, default_value = "cpu")]
    pub(crate) device: DeviceSpec,
    /// Threads of the CPU [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
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
    /// What a checkpoint holds, by component
    Inspect(InspectArgs),
    /// What a model needs, from its config.json alone, and whether it fits
    Plan(PlanArgs),
    /// Write a checkpoint in another number format
    Convert(ConvertArgs),
    /// What this machine and this build can do
    Doctor,
}

/// How to load and run the model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct LoadArgs {
    /// Format of activations
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// Round activations to fp8 in front of fp8 weights, as DeepSeek trained
    #[arg(long)]
    pub(crate) w8a8: bool,
    /// Tokens that the cache holds: prompt and answer together
    #[arg(long, value_name = "TOKENS", default_value = "8192")]
    pub(crate) context: NonZeroUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    Bf16,
}

/// How to choose tokens. What is not given comes from --preset, then from the checkpoint's
/// generation_config.json, then is temperature 0.6 and top-p 0.95.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Settings by kind of work: coding, analysis, creative, chat
    #[arg(long)]
    pub(crate) preset: Option<Preset>,
    /// 0 takes the most probable token always; at most 2
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<Temperature>,
    /// Keep the most probable tokens up to this sum
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<TopP>,
    /// Keep this many tokens
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<TopK>,
    /// Keep tokens at least this fraction as probable as the best
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<MinP>,
    /// Divide the logits of tokens already there by this
    #[arg(long, value_name = "X")]
    pub(crate) repetition_penalty: Option<RepetitionPenalty>,
    /// Subtract this from the logits of tokens already written
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<PresencePenalty>,
    /// Subtract this for each time that a token was written
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<FrequencyPenalty>,
    /// The same seed gives the same text
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// End at this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Tokens to write at most
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) max_new_tokens: NonZeroUsize,
    /// Tokens of reasoning at most
    #[arg(long, value_name = "N")]
    pub(crate) max_thinking_tokens: Option<usize>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 generate --model DeepSeek-V3.1 --think --prompt 'Why is the sky blue?'\n\
    The answer goes to stdout, reasoning to stderr. Without a tokenizer.json the ids are printed."
)]
pub(crate) struct GenerateArgs {
    /// The prompt
    #[arg(long, group = "input", value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt [default: stdin]
    #[arg(long, group = "input", value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// The prompt as token ids, used as they are: 1,2,3
    #[arg(long, group = "input", value_name = "IDS", value_delimiter = ',')]
    pub(crate) input_ids: Option<Vec<u32>>,
    /// The prompt is plain text to go on with: one BOS, no chat format
    #[arg(long, conflicts_with_all = ["chat", "think"])]
    pub(crate) raw: bool,
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
    Type /help in the conversation for what it understands. Where stdin is no terminal, or with\n\
    --prompt, one answer is given and that is all.")]
pub(crate) struct ChatArgs {
    /// One message, one answer, no conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Let the model reason first
    #[arg(long)]
    pub(crate) think: bool,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Tools that the model may call: a JSON list in OpenAI's format
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
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
    #[arg(long, group = "scored", value_name = "IDS", value_delimiter = ',')]
    pub(crate) input_ids: Option<Vec<u32>>,
    /// Text; one BOS is put in front [default: stdin]
    #[arg(long, group = "scored", value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Also the N most probable tokens at each position
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) top: i64,
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

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 plan --config config.json --context 32768 --devices 80GiB×8\n\
    Sizes say what they mean: GiB is 2^30 bytes, GB is 10^9."
)]
pub(crate) struct PlanArgs {
    /// The config.json [default: the one in --model]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Format of the weights: published, bf16, f16, f32, fp8
    #[arg(long, default_value = "published")]
    pub(crate) format: PlanFormat,
    /// Tokens of one sequence that the cache holds
    #[arg(long, value_name = "N", default_value = "4096")]
    pub(crate) context: u64,
    /// Sequences that the cache holds at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) sequences: u64,
    /// Format of the cache: bf16, f16, f32, fp8
    #[arg(long, default_value = "bf16")]
    pub(crate) cache_dtype: CacheDtype,
    /// Tokens of one forward pass
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) batch_tokens: u64,
    /// Leave the MTP module out
    #[arg(long)]
    pub(crate) no_mtp: bool,
    /// Devices and their memory: 80GiB×8, 24GB, …
    #[arg(long, num_args = 1.., value_name = "SIZE[×N]")]
    pub(crate) devices: Vec<DeviceMemory>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 convert --model DeepSeek-V3.1 --out V3.1-bf16 --format bf16\n\
    Interrupted, it goes on where it was when called again."
)]
pub(crate) struct ConvertArgs {
    /// The folder to write; must not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Format of the weights
    #[arg(long, value_enum)]
    pub(crate) format: TargetFormat,
    /// Block scales of fp8 weights: powers of two as V3.1's, or any as V3's
    #[arg(long, value_enum, default_value = "ue8m0")]
    pub(crate) scales: Scales,
    /// Largest shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = dsv3_weights::parse_size)]
    pub(crate) shard_size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetFormat {
    Bf16,
    Fp8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scales {
    Ue8m0,
    F32,
}
