//! Activations rounded to e4m3, per token and group of columns.

use dsv3_weights::fp8::{ceil_to_ue8m0, e4m3_to_f32, f32_to_e4m3};

use crate::spec::{ACTIVATION_AMAX_FLOOR, ACTIVATION_GROUP, E4M3_MAX};

/// Round each row of `n` values in place, in groups of [`ACTIVATION_GROUP`].
pub(super) fn quantize(values: &mut [f32], n: usize, ue8m0: bool) {
    for row in values.chunks_exact_mut(n.max(1)) {
        for group in row.chunks_mut(ACTIVATION_GROUP) {
            let amax = group
                .iter()
                .fold(ACTIVATION_AMAX_FLOOR, |m, v| m.max(v.abs()));
            let scale = amax / E4M3_MAX;
            let scale = match ue8m0 {
                true => ceil_to_ue8m0(scale),
                false => scale,
            };
            for v in group {
                *v = e4m3_to_f32(f32_to_e4m3(*v / scale)) * scale;
            }
        }
    }
}
