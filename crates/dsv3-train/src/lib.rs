//! Training and fine-tuning of DeepSeek-V3 models on Burn's autodiff.

#![forbid(unsafe_code)]

mod balance;
pub mod data;
mod error;
mod export;
mod init;
mod lines;
pub mod lora;
mod parameters;
mod recipe;
pub mod report;
mod run;
mod schedule;
mod state;
mod storage;
mod trainer;

pub use error::TrainError;
pub use export::{ExportOptions, trained_values, write_checkpoint};
pub use init::initial_values;
pub use parameters::{Moments, Parameter, ParameterSet, Update};
pub use recipe::Recipe;
pub use run::{Observer, Phases, RunDir, RunEnd, RunOptions, run};
pub use schedule::{Decay, Schedule};
pub use state::{RunProgress, has_state, load_state, save_state};
pub use storage::Storage;
pub use trainer::{StepOutcome, TrainOptions, Trainer};
