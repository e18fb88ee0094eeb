//! Rotary positions with YaRN (Peng et al., arXiv:2309.00071, as DeepSeek-V3 applies it).

use std::f64::consts::PI;

use burn::tensor::{DType, Device, Tensor, TensorData};
use dsv3_weights::{ModelArgs, RopeScaling};

/// Inverse frequencies and the two factors that come with a stretched context.
///
/// YaRN is static: it applies to short contexts too.
#[derive(Clone, Debug)]
pub struct YarnRope {
    inv_freq: Vec<f64>,
    attention_scaling: f64,
    softmax_scale: f64,
}

/// YaRN's magnitude correction (`yarn_get_mscale`).
fn mscale(factor: f64, weight: f64) -> f64 {
    match factor > 1.0 {
        true => 0.1 * weight * factor.ln() + 1.0,
        false => 1.0,
    }
}

/// The dimension pair that turns `rotations` times within the original context.
fn correction_dim(rotations: f64, dim: f64, theta: f64, scaling: &RopeScaling) -> f64 {
    let original = scaling.original_max_position_embeddings as f64;
    dim * (original / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
}

impl YarnRope {
    /// From config keys `qk_rope_head_dim`, `rope_theta` and `rope_scaling`.
    pub fn new(args: &ModelArgs) -> Self {
        let dim = args.qk_rope_head_dim as f64;
        let base =
            (0..args.qk_rope_head_dim / 2).map(|i| args.rope_theta.powf(-2.0 * i as f64 / dim));
        let plain_scale = (args.qk_head_dim() as f64).powf(-0.5);
        let Some(scaling) = &args.rope_scaling else {
            return YarnRope {
                inv_freq: base.collect(),
                attention_scaling: 1.0,
                softmax_scale: plain_scale,
            };
        };
        let low = correction_dim(scaling.beta_fast, dim, args.rope_theta, scaling)
            .floor()
            .max(0.0);
        let high = correction_dim(scaling.beta_slow, dim, args.rope_theta, scaling)
            .ceil()
            .min(dim - 1.0);
        // transformers widens an empty ramp by this much so as not to divide by zero
        let width = if high > low { high - low } else { 0.001 };
        let inv_freq = base.enumerate().map(|(i, f)| {
            let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
            f / scaling.factor * ramp + f * (1.0 - ramp)
        });
        let all_dim = mscale(scaling.factor, scaling.mscale_all_dim);
        YarnRope {
            inv_freq: inv_freq.collect(),
            attention_scaling: mscale(scaling.factor, scaling.mscale) / all_dim,
            softmax_scale: plain_scale * all_dim * all_dim,
        }
    }

    /// Radians a position, one for each pair: `[qk_rope_head_dim / 2]`.
    pub fn inv_freq(&self) -> &[f64] {
        &self.inv_freq
    }

    /// Factor on cos and sin; 1 where `mscale = mscale_all_dim`.
    pub fn attention_scaling(&self) -> f64 {
        self.attention_scaling
    }

    /// Factor on attention scores.
    pub fn softmax_scale(&self) -> f64 {
        self.softmax_scale
    }

    /// cos and sin of every position's angles, each `[T, rope / 2]` f32; angles in f64.
    pub fn angles(&self, positions: &[u32], device: &Device) -> (Tensor<2>, Tensor<2>) {
        let shape = [positions.len(), self.inv_freq.len()];
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = positions
                .iter()
                .flat_map(|p| self.inv_freq.iter().map(|w| f64::from(*p) * w))
                .map(|angle| (f(angle) * self.attention_scaling) as f32)
                .collect();
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        (table(f64::cos), table(f64::sin))
    }
}
