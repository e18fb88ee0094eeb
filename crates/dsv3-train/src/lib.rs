//! Training and fine-tuning of DeepSeek-V3 models on Burn's autodiff.
//!
//! For whoever adapts a checkpoint to data of their own ([`lora`]), or trains one from nothing
//! ([`Trainer`], [`run`]): DeepSeek's recipe for losses, balance and MTP, packed sequences that
//! can't see each other, runs that can be stopped and end with the same bits.
//!
//! It deliberately knows nothing of sampling, of engines, or of how a task is scored.
//!
//! ```
//! use burn::tensor::Device;
//! use dsv3_model::Checkpoint;
//! use dsv3_train::data::{PackedBatch, TrainSequence};
//! use dsv3_train::{TrainOptions, Trainer};
//!
//! # fn main() -> Result<(), dsv3_train::TrainError> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/base/model");
//! let checkpoint = Checkpoint::open(path)?;
//! let mut trainer = Trainer::new(&checkpoint, TrainOptions::default(), &Device::flex())?;
//! // After 0 5 7 the model is to write 9 1.
//! let marks = vec![false, false, false, true, true];
//! let sequence = TrainSequence::new(vec![0, 5, 7, 9, 1], marks)?;
//! let batch = [PackedBatch { sequences: vec![sequence] }];
//! let first = trainer.step(&batch, 1e-3)?.loss;
//! assert!(trainer.evaluate(&batch)? < first);
//! # Ok(())
//! # }
//! ```

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
