//! Fine-tuning by low-rank factors (LoRA): the base stays as it is, in whatever format it is
//! stored, and a small adapter beside it is trained.
//!
//! Adapters are written in PEFT's files and names, and read by `dsv3_weights::Adapter`.

mod config;
mod factors;
mod file;
mod finetune;
mod out;

pub use config::{LoraConfig, LoraTarget};
pub use file::write_adapter;
pub use finetune::{Finetune, FinetuneEnd, FinetuneOptions, FinetunePlan, Length};
