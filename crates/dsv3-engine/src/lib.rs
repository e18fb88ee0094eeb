//! Many sequences over one DeepSeek-V3 model: schedule, run, sample, collect.
//!
//! For whoever wants answers rather than logits: requests of different lengths and parameters
//! join and leave at any step, share cached prefixes, stream their text, and end each by its own
//! conditions. A sequence's tokens never depend on its neighbours.
//!
//! This crate deliberately knows nothing of HTTP, of command lines, or of how a layer computes.
//!
//! ```
//! use dsv3_engine::{Engine, EngineConfig, LoadOptions, SamplingParams};
//!
//! # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/base/model");
//! let mut engine = Engine::open(dir, &LoadOptions::cpu(), EngineConfig::default())?;
//! let answer = engine.generate(vec![0, 17, 42], SamplingParams::greedy())?;
//! println!("{:?}", answer.tokens); // this checkpoint has no tokenizer: ids in, ids out
//! # assert!(!answer.tokens.is_empty());
//! # Ok::<(), dsv3_engine::EngineError>(())
//! ```

#![forbid(unsafe_code)]

mod block_pool;
mod config;
mod engine;
mod error;
mod event;
mod request;
mod runner;
mod scheduler;
mod score;
mod sequence;
mod text;
mod turn;

pub use block_pool::{BlockId, BlockPool};
pub use config::EngineConfig;
pub use dsv3_model::LoadOptions;
pub use dsv3_sampling::SamplingParams;
pub use engine::{Engine, Events};
pub use error::EngineError;
pub use event::{Completion, EngineEvent, FinishReason, SequenceId, Usage};
pub use request::{Input, Request, StopConditions};
pub use runner::{ModelRunner, TransformerRunner};
pub use scheduler::Scheduler;
pub use score::PositionScore;
pub use sequence::Sequence;
pub use turn::Turn;
