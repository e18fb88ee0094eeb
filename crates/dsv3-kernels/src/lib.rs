//! The operations that DeepSeek-V3's graph needs and Burn lacks, once per backend.
//!
//! For whoever builds the graph, or part of one: linear layers that read bf16 and block-fp8
//! weights where they lie, routed experts, the router, latent attention over a paged cache,
//! rotary embedding, RMSNorm. Each has a default body in stock Burn operations ([`Dsv3Ops`]):
//! it runs on every backend, differentiates, and is the oracle for the kernels.
//!
//! This crate deliberately knows nothing of checkpoints, configuration or the order of layers.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use dsv3_kernels::{Activations, Weight, packed_linear};
//!
//! let device = Device::flex();
//! // e4m3 for 1.0 is 0x38; one block scale of 0.5 for the whole 2 × 4 matrix.
//! let weight = Weight::fp8_block(vec![0x38; 8].into(), vec![0.5], [128, 128], [2, 4], &device)?;
//! let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0, 4.0]], &device); // [1, 4]
//! let y = packed_linear(x, &weight, Activations::Full); // [1, 2]
//! assert_eq!(y.into_data().try_to_vec::<f32>()?, [5.0, 5.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What needs unsafe code says why: the call of the matrix product (`flex/gemm.rs`), the prefetch
// (`flex/lanes/prefetch.rs`), instructions that `pulp` has no tokens for and parts of rows whose
// length was looked at once (`flex/lanes`), and the job that a caller lends to its threads
// (`flex/team.rs`).
#![deny(unsafe_code)]

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
mod device;
mod error;
mod flex;
mod functions;
mod inputs;
mod latent;
mod low_rank;
mod ops;
mod oracle;
mod packed;
pub mod reference;
mod spec;
mod stock;
mod threads;
mod training;
mod weight;

pub use device::{DeviceError, DeviceSpec};
pub use error::KernelsError;
pub use flex::{DenseProduct, Elements};
pub use functions::{
    append_latent, cross_entropy, mla_attention, packed_experts, packed_linear, packed_linear_pair,
    packed_moe, quantize_activations, rms_norm, rope, route, swiglu,
};
pub use inputs::InputSquares;
pub use latent::{Fp8Latents, LatentBlocks, LatentFormat, Latents};
pub use low_rank::LowRank;
pub use ops::Dsv3Ops;
pub use packed::{
    Activations, Expert, Experts, GroupCodes, GroupFormat, HalfFormat, Packed, Pair, Routed,
};
pub use spec::{MlaForm, MlaSpec, RouteSpec, SequenceSpan, Spans};
pub use threads::{pin_this_thread, pin_threads};
pub use training::{
    AttentionCall, AttentionGradient, Dsv3Training, ExpertMatrices, ExpertsCall, ExpertsGradient,
    ExpertsSaved, TrainingKernels,
};
pub use weight::{ExpertWeights, Weight};
