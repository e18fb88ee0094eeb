//! The operations in stock Burn, one formula a file: the specification of every kernel.

mod activations;
mod attention;
mod dequantize;
mod experts;
mod latent;
mod linear;
mod loss;
mod norm;
mod rope;
mod route;
mod swiglu;

pub(crate) use activations::{quantize_activations, rounded};
pub(crate) use attention::{Factors, adapted_mla_attention, mla_attention};
pub(crate) use dequantize::dequantize;
pub(crate) use experts::{grouped_experts, packed_experts};
pub(crate) use latent::{append_fp8_latent, append_latent, latent_rows};
pub(crate) use linear::packed_linear;
pub(crate) use loss::cross_entropy;
pub(crate) use norm::rms_norm;
pub(crate) use rope::rope;
pub(crate) use route::route;
pub(crate) use swiglu::swiglu;
