//! `cargo xtask`: the project's own chores, so that none of them lives in someone's head.
//!
//! - `validate`: everything that a change must pass, the cheapest check first.
//! - `convert`: a checkpoint from one number format to another.
//! - `bench-model`: a checkpoint with random weights, to measure speed with.
//! - `fixtures`: the small model that ships, made again: corpus, tokenizer, weights.
//! - `gpu-check`: the suites for a machine that has a GPU and no Rust.
//!
//! Each is thin: what a chore computes belongs to a library crate, what it checks to the tests.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench_model;
mod convert;
mod fixtures;
mod gpu_check;
mod step;
mod validate;
mod watch;

/// The chores of the dsv3 workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Validate(validate::Validate),
    Convert(convert::Convert),
    BenchModel(bench_model::BenchModel),
    Fixtures(fixtures::Fixtures),
    GpuCheck(gpu_check::GpuCheck),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Validate(chore) => chore.run(),
        Chore::Convert(chore) => chore.run(),
        Chore::BenchModel(chore) => chore.run(),
        Chore::Fixtures(chore) => chore.run(),
        Chore::GpuCheck(chore) => chore.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", explained(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once: library errors often name their cause themselves.
fn explained(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
