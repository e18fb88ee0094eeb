//! The commands, one a file.

pub(crate) mod bench;
mod calibrate;
mod chat;
pub(crate) mod convert;
mod doctor;
pub(crate) mod eval;
pub(crate) mod finetune;
mod generate;
mod inspect;
pub(crate) mod plan;
pub(crate) mod report;
mod score;
mod text;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::cli::{Cli, Command, Global};
use crate::machine;

/// Do what was asked.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = cli.global;
    log_to_stderr(global.verbose);
    start_threads(&global)?;
    match cli.command {
        Command::Generate(args) => return generate::run(&global, args),
        Command::Chat(args) => return chat::run(&global, args),
        Command::Score(args) => return score::run(&global, args),
        Command::Eval(args) => return eval::run(&global, args),
        Command::Bench(args) => return bench::run(&global, args),
        Command::Finetune(args) => return finetune::run(&global, args),
        Command::Convert(args) => return convert::run(&global, args),
        Command::Tokenize(args) => text::tokenize(&global, args)?,
        Command::Detokenize(args) => text::detokenize(&global, args)?,
        Command::Render(args) => text::render(&global, args)?,
        Command::Parse(args) => text::parse(&global, args)?,
        Command::Inspect(args) => inspect::run(&global, args)?,
        Command::Plan(args) => plan::run(&global, args)?,
        Command::Doctor => doctor::run(&global)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// As many threads as asked for, and on cores of their own if asked for.
fn start_threads(global: &Global) -> anyhow::Result<()> {
    if global.threads.is_none() && !global.pin_threads {
        return Ok(());
    }
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = global.threads {
        pool = pool.num_threads(usize::from(threads));
    }
    if global.pin_threads {
        machine::cores();
        let cores = dsv3_kernels::pin_threads();
        if global.threads.is_none() {
            // A pinned thread sees one core, and rayon would count that.
            pool = pool.num_threads(cores);
        }
        if cores == 0 {
            tracing::warn!(
                "--pin-threads has no effect: this system doesn't say which cores there are"
            );
        }
        pool = pool.start_handler(dsv3_kernels::pin_this_thread);
    }
    pool.build_global()
        .context("cannot start as many threads as --threads asks for")
}

/// Warnings of our own crates at any time; the libraries' too once something is asked for.
fn log_to_stderr(verbose: u8) {
    let (ours, others) = match verbose {
        0 => (LevelFilter::WARN, LevelFilter::OFF),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        2 => (LevelFilter::DEBUG, LevelFilter::INFO),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time();
    let filter = Targets::new()
        .with_default(others)
        .with_target("dsv3", ours);
    // Fails only if a subscriber is there already, and then that one stays.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
}
