//! Checkpoints in the layout that DeepSeek-V3 and V3.1 were published in: mapped reading, number
//! formats, inventory, plan, conversion, random stand-ins.
//!
//! It knows files, names, shapes and number formats. It deliberately knows nothing of tensor
//! frameworks, of devices, or of how a layer computes; every byte that it reads may be hostile,
//! and nothing is believed or allocated before shape, dtype and file length agree.
//!
//! ```
//! use dsv3_weights::{Checkpoint, LinearFormat};
//!
//! # fn main() -> Result<(), dsv3_weights::WeightsError> {
//! # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/fp8_ue8m0/model");
//! let checkpoint = Checkpoint::open(dir)?;
//! let args = checkpoint.args();
//! let shape = [args.hidden_size, args.num_attention_heads * args.v_head_dim];
//! let weight = checkpoint.linear("model.layers.0.self_attn.o_proj.weight", shape)?;
//! assert_eq!(weight.format, LinearFormat::Fp8Block { block: [128, 128], power_of_two: true });
//! assert_eq!(weight.data.len(), shape[0] * shape[1]); // a slice of the mapped file
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod adapter;
pub mod bench_model;
mod checkpoint;
pub mod config;
pub mod convert;
mod decode;
pub mod difference;
mod dtype;
mod error;
mod file;
mod fnv;
pub mod fp8;
pub mod group;
pub mod header;
mod index;
pub mod inventory;
mod json;
pub mod layout;
mod linear;
mod mapping;
pub mod memory_size;
mod output;
mod packed;
pub mod plan;
pub mod recipe;
mod stacked;
mod verify;

pub use adapter::{Adapter, AdapterConfig, AdapterFactors};
pub use checkpoint::Checkpoint;
pub use config::{ModelArgs, Quantization, RopeScaling, ScaleFmt};
pub use convert::{
    ConvertFormat, ConvertOptions, ConvertReport, Importance, Written, convert, merge, prepare,
};
pub use dtype::Dtype;
pub use error::{AdapterError, HeaderError, IndexError, WeightsError};
pub use file::{TensorFile, TensorView};
pub use group::{GroupBits, GroupFormat};
pub use header::{Header, TensorEntry};
pub use inventory::{ComponentInventory, Inventory, PackedInventory};
pub use layout::{Component, Layout, TensorSpec};
pub use linear::{LinearFormat, LinearView, SCALE_SUFFIX};
pub use memory_size::{DeviceMemory, human_bytes, parse_size};
pub use output::Progress;
pub use packed::PackedTensor;
pub use plan::{CacheDtype, ComponentPlan, Fit, Plan, PlanFormat, PlanOptions};
pub use recipe::{Recipe, WeightFormat};
pub use stacked::{StackedExperts, StackedMatrix};
pub use verify::{ScaleCensus, Warning};
