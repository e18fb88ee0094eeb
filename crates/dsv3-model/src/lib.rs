//! DeepSeek-V3's graph on Burn, under DeepSeek's own names: configuration to modules to logits.
//!
//! For whoever wants logits, hidden states or router choices of a DeepSeek-V3-architecture
//! checkpoint, on any of Burn's devices. The modules mirror DeepSeek's `inference/model.py`, so
//! the two can be read side by side.
//!
//! This crate deliberately knows nothing of text, sampling or scheduling. It has one graph: what
//! differs by device lives in `dsv3-kernels`.
//!
//! ```
//! use dsv3_model::{Checkpoint, ForwardBatch, LoadOptions, Transformer};
//!
//! # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/base/model");
//! let checkpoint = Checkpoint::open(dir)?;
//! let model = Transformer::load(&checkpoint, &LoadOptions::cpu())?;
//! let mut cache = model.new_cache(4, 16); // four blocks of 16 tokens
//! let mut batch = ForwardBatch::default();
//! batch.push(&[0, 17, 42], 0, vec![0]); // three tokens, none cached, in block 0
//! let output = model.forward(&batch, &mut cache)?;
//! assert_eq!(output.logits.dims(), [1, model.args().vocab_size]); // of the last token
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod adapter;
mod batch;
mod block;
mod cache;
mod calibration;
mod embedding;
mod error;
mod gate;
mod linear;
mod loader;
mod mla;
mod mlp;
mod moe;
mod mtp;
mod norm;
mod options;
mod parameters;
mod reads;
mod rope;
mod times;
mod trace;
mod transformer;

pub use batch::{ForwardBatch, SequenceSlice};
pub use block::Block;
pub use cache::LatentCache;
pub use calibration::Calibration;
pub use dsv3_kernels::{LatentFormat, MlaForm};
pub use dsv3_weights::{Checkpoint, ModelArgs};
pub use embedding::Embedding;
pub use error::ModelError;
pub use gate::{Gate, Routing};
pub use linear::Linear;
pub use mla::{Context, Mla};
pub use mlp::Mlp;
pub use moe::Moe;
pub use mtp::{MtpModule, MtpOutput};
pub use norm::RMSNorm;
pub use options::{AttentionForm, LoadOptions, Precision};
pub use parameters::{ParameterMut, ParameterVisitor};
pub use reads::{ChosenExperts, LayerBytes, PassBytes, WeightBytes};
pub use rope::YarnRope;
pub use times::PassTimes;
pub use trace::Trace;
pub use transformer::{Output, Transformer};
