//! The command-line tool `dsv3`.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod interrupt;
mod model;
mod output;
mod sampling;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use output::Usage;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.global.verbose {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    match run(cli) {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::paragraph(&error));
            match error.is::<Usage>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = cli.global;
    if let Some(threads) = global.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()?;
    }
    match cli.command {
        Command::Generate(args) => return commands::generate::run(&global, args),
        Command::Chat(args) => return commands::chat::run(&global, args),
        Command::Score(args) => commands::score::run(&global, args)?,
        Command::Tokenize(args) => commands::text::tokenize(&global, args)?,
        Command::Detokenize(args) => commands::text::detokenize(&global, args)?,
        Command::Render(args) => commands::text::render(&global, args)?,
        Command::Parse(args) => commands::text::parse(&global, args)?,
        Command::Inspect(args) => commands::inspect::run(&global, args)?,
        Command::Plan(args) => commands::plan::run(&global, args)?,
        Command::Convert(args) => commands::convert::run(&global, args)?,
        Command::Doctor => commands::doctor::run(&global)?,
    }
    Ok(ExitCode::SUCCESS)
}
