//! Makes the small model of `fixtures/dsv3-tiny`: its corpus, its tokenizer, its weights.
//! `cargo xtask fixtures` calls it; every step can be repeated, and training goes on where it was.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::{Parser, Subcommand};
use dsv3_model::Checkpoint;
use dsv3_tasks::{Corpus, held_out, modes};
use dsv3_tokenizer::{Segment, Tokenizer};
use dsv3_train::data::{CorpusSource, TrainSequence, example_messages};
use dsv3_train::report::{Progress, StepReport};
use dsv3_train::{
    ExportOptions, Observer, Recipe, RunDir, RunEnd, Trainer, initial_values, load_state, run,
    trained_values, write_checkpoint,
};

/// Makes the small model that ships with dsv3.
#[derive(Parser)]
#[command(
    name = "dsv3-tiny",
    version,
    after_help = "Example: cargo xtask fixtures train --run target/dsv3-tiny"
)]
struct Cli {
    /// The model's folder, with config.json and recipe.json
    #[arg(long, global = true, default_value = "fixtures/dsv3-tiny")]
    model: PathBuf,
    /// The recipe; for train several, one run after the other [default: recipe.json in the model's
    /// folder, and for train continued.json and stretched.json after it]
    #[arg(long, global = true, value_name = "FILE")]
    recipe: Vec<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the first examples of the corpus as JSON lines
    Corpus {
        /// The file [default: stdout]
        #[arg(long)]
        out: Option<PathBuf>,
        /// How many
        #[arg(long, default_value = "1000")]
        count: u64,
        /// Held-out examples, this many of each kind and mode, instead of training's
        #[arg(long)]
        held_out: bool,
        /// As conversations, to be mixed with data for `dsv3 finetune`; tools, searches and
        /// fill-in-the-middle are left out
        #[arg(long)]
        messages: bool,
    },
    /// Train the tokenizer and write tokenizer.json and tokenizer_config.json
    Tokenizer,
    /// Train the weights, or go on with it, then write them
    Train {
        /// The folder of the run: state, log, curves; of several runs the first is in its folder 1
        /// and so on, and each begins with the weights that the one before wrote
        #[arg(long)]
        run: PathBuf,
        /// Begin the first run with this checkpoint's weights instead of drawn ones; a run that has
        /// begun goes on from its own
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Write the weights of the run's state to the model's folder and train no further; with one
        /// recipe
        #[arg(long)]
        export_only: bool,
    },
}

/// The recipes of the shipped weights, in their order.
const RECIPES: [&str; 3] = ["recipe.json", "continued.json", "stretched.json"];

/// Bytes of one weight file: the repository takes none over 10 MB.
const SHARD_BYTES: usize = 8 << 20;

/// Seed of the held-out examples that are watched in training; `dsv3 eval` has its own.
const WATCHED_SEED: u64 = 9;

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut paths = cli.recipe;
    if paths.is_empty() {
        let training = matches!(cli.command, Command::Train { .. });
        let count = if training { RECIPES.len() } else { 1 };
        paths.extend(RECIPES[..count].iter().map(|name| cli.model.join(name)));
    }
    let mut recipes = Vec::new();
    for path in &paths {
        recipes.push(Recipe::from_json(&read(path)?)?);
    }
    let recipe = match (&recipes[..], &cli.command) {
        ([recipe], _) | ([recipe, ..], Command::Train { .. }) => recipe,
        _ => bail!("--recipe was given {} times: give one", recipes.len()),
    };
    match cli.command {
        Command::Corpus {
            out,
            count,
            held_out,
            messages,
        } => corpus(recipe, out.as_deref(), count, held_out, messages),
        Command::Tokenizer => tokenizer(recipe, &cli.model),
        Command::Train {
            run,
            from,
            export_only,
        } => {
            if export_only && recipes.len() > 1 {
                bail!("--export-only writes the weights of one run: say which with --recipe FILE");
            }
            let stop = Arc::new(AtomicBool::new(false));
            let flag = stop.clone();
            ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
            for (i, recipe) in recipes.iter().enumerate() {
                let dir = match recipes.len() {
                    1 => run.clone(),
                    _ => run.join((i + 1).to_string()),
                };
                let from = if i == 0 {
                    from.as_deref()
                } else {
                    Some(cli.model.as_path())
                };
                if train(recipe, &cli.model, &dir, from, export_only, &stop)? == RunEnd::Stopped {
                    break;
                }
            }
            Ok(())
        }
    }
}

fn corpus(
    recipe: &Recipe,
    out: Option<&Path>,
    count: u64,
    held: bool,
    messages: bool,
) -> Result<()> {
    let mut to: Box<dyn Write> = match out {
        Some(path) => Box::new(BufWriter::new(
            fs::File::create(path).with_context(|| format!("creating {}", path.display()))?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let mut write = |example: &dsv3_tasks::Example| -> Result<()> {
        match (messages, example_messages(example)) {
            (false, _) => serde_json::to_writer(&mut to, example)?,
            (true, Some(line)) => serde_json::to_writer(&mut to, &line)?,
            (true, None) => return Ok(()),
        }
        Ok(writeln!(to)?)
    };
    if held {
        for kind in dsv3_tasks::Kind::ALL {
            for mode in modes(kind) {
                for example in held_out(kind, *mode, count as usize, recipe.seed)? {
                    write(&example)?;
                }
            }
        }
    } else {
        let corpus = Corpus::new(recipe.seed, recipe.mix.clone())?;
        for index in 0..count {
            write(&corpus.example(index)?)?;
        }
    }
    Ok(to.flush()?)
}

/// All text of an example, a piece at a time: control tokens are no text.
fn texts(example: &dsv3_tasks::Example) -> impl Iterator<Item = String> + '_ {
    let segments = example
        .turns
        .iter()
        .flat_map(|turn| turn.given.iter().chain(&turn.answer));
    segments.filter_map(|segment| match segment {
        Segment::Text(text) => Some(text.clone()),
        Segment::Special(_) => None,
    })
}

fn tokenizer(recipe: &Recipe, model: &Path) -> Result<()> {
    let args = dsv3_weights::ModelArgs::from_file(model.join("config.json"))?;
    let corpus = Corpus::new(recipe.seed, recipe.mix.clone())?;
    let mut pieces = Vec::new();
    for index in 0..recipe.tokenizer_examples {
        pieces.extend(texts(&corpus.example(index)?));
    }
    let json = dsv3_tasks::train_tokenizer(pieces.into_iter(), args.vocab_size)?;
    fs::write(model.join("tokenizer.json"), json)?;
    let template = read(Path::new("fixtures/chat/chat_template.jinja"))?;
    let config = dsv3_tasks::tokenizer_config(&template, args.max_position_embeddings);
    fs::write(model.join("tokenizer_config.json"), config)?;
    Ok(())
}

/// Shows a run on the terminal.
struct Shown(Progress);

impl Observer for Shown {
    fn step(&mut self, report: &StepReport) {
        self.0.step(report);
    }

    fn note(&mut self, text: &str) {
        self.0.note(text);
    }
}

/// Write what the run begins with to `start`: drawn values, or those of the checkpoint `from` if
/// `start` is not there yet. Returns what tells such a beginning from others.
fn write_start(
    recipe: &Recipe,
    config: &str,
    from: Option<&Path>,
    start: &Path,
) -> Result<Option<Vec<u8>>> {
    let args = dsv3_weights::ModelArgs::from_json_bytes(config.as_bytes())?;
    let f32 = ExportOptions {
        shard_bytes: usize::MAX,
        f32: true,
    };
    let Some(from) = from else {
        let first = initial_values(&args, recipe.seed).map(Ok);
        write_checkpoint(start, config, first, &f32)?;
        return Ok(None);
    };
    let weights = start.join("model.safetensors");
    if !weights.exists() {
        let checkpoint = Checkpoint::open(from)?;
        let trainer = Trainer::new(&checkpoint, recipe.train.clone(), &Device::flex())?;
        let values = trained_values(&args, trainer.parameters());
        write_checkpoint(start, config, values, &f32)?;
    }
    let bytes = fs::read(&weights).with_context(|| format!("reading {}", weights.display()))?;
    Ok(Some(bytes))
}

fn train(
    recipe: &Recipe,
    model: &Path,
    dir: &Path,
    from: Option<&Path>,
    export_only: bool,
    stop: &Arc<AtomicBool>,
) -> Result<RunEnd> {
    let config = read(&model.join("config.json"))?;
    let args = dsv3_weights::ModelArgs::from_json_bytes(config.as_bytes())?;
    let tokenizer_json = fs::read(model.join("tokenizer.json"))
        .context("reading tokenizer.json; make it with `cargo xtask fixtures tokenizer`")?;
    let tokenizer = Tokenizer::from_bytes(&tokenizer_json)?;
    let start = dir.join("start");
    let begun = write_start(recipe, &config, from, &start)?;
    let fingerprint = recipe.fingerprint(&config, &tokenizer_json, begun.as_deref());
    let checkpoint = Checkpoint::open(&start)?;
    let mut trainer = Trainer::new(&checkpoint, recipe.train.clone(), &Device::flex())?;
    eprintln!("{} parameters", trainer.parameters().count());

    let mut end = RunEnd::Complete;
    if export_only {
        trainer.restore(|parameters| {
            load_state::<serde_json::Value>(dir, parameters)?;
            Ok(())
        })?;
    } else {
        let watched = watched(recipe, &tokenizer)?;
        let corpus = Corpus::new(recipe.seed, recipe.mix.clone())?;
        let total = recipe.run.schedule.total_steps;
        let mut shown = Shown(Progress::new(total, 0, 50));
        end = run(
            &mut trainer,
            CorpusSource::new(corpus, tokenizer),
            &watched,
            &recipe.run,
            &fingerprint,
            &RunDir::new(dir),
            stop,
            &mut shown,
        )?;
        shown.0.finish();
    }
    if end == RunEnd::Complete {
        let published = ExportOptions {
            shard_bytes: SHARD_BYTES,
            f32: false,
        };
        let values = trained_values(&args, trainer.parameters());
        write_checkpoint(model, &config, values, &published)?;
    }
    Ok(end)
}

/// Held-out sequences of every kind, for the loss that is watched.
fn watched(recipe: &Recipe, tokenizer: &Tokenizer) -> Result<Vec<TrainSequence>> {
    let mut sequences = Vec::new();
    for kind in dsv3_tasks::Kind::ALL {
        for mode in modes(kind) {
            for example in held_out(kind, *mode, recipe.held_out_per_kind, WATCHED_SEED)? {
                sequences.push(TrainSequence::from_example(&example, tokenizer)?);
            }
        }
    }
    Ok(sequences)
}
