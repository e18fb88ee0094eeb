//! `dsv3`: DeepSeek-V3.1 checkpoints on the command line.
//!
//! Flags and terminals only: what this program computes is a call into one of the library crates.
//! Start with `cli.rs` for what can be asked, then the command's file in `commands/`.

#![forbid(unsafe_code)]

mod answer;
mod cli;
mod commands;
mod default_model;
mod demo_tools;
mod device;
mod error;
mod input;
mod interrupt;
mod logits_file;
mod machine;
mod model;
mod output;
mod sampling;
mod search;

use std::process::ExitCode;

use clap::Parser;

/// A pass makes and drops hundreds of tensors. The system's allocator gives large ones back each
/// time, and the system clears their pages anew; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    error::install_panic_hook();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return error::refused_arguments(&refused),
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(failed) => error::report(&failed),
    }
}
