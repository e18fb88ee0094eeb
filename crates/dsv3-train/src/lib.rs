//! Training and fine-tuning of DeepSeek-V3 models on Burn's autodiff.

#![forbid(unsafe_code)]

pub mod data;
mod error;
mod lines;
pub mod report;
mod schedule;

pub use error::TrainError;
pub use schedule::{Decay, Schedule};
