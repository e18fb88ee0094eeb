//! Writing the latent cache.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use crate::stock::Float;

/// Runs of consecutive slots, as (first row, first slot, length).
fn runs(slots: &[u32]) -> Vec<(usize, usize, usize)> {
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for (row, &slot) in slots.iter().enumerate() {
        match runs.last_mut() {
            Some((_, first, len)) if *first + *len == slot as usize => *len += 1,
            _ => runs.push((row, slot as usize, 1)),
        }
    }
    runs
}

/// `cache [blocks, size, d]`, `rows [T, d]`, one slot a row → the cache.
pub(crate) fn append_latent<B: Backend>(
    cache: FloatTensor<B>,
    rows: FloatTensor<B>,
    slots: &[u32],
) -> FloatTensor<B> {
    let cache = Float::<B>(cache);
    let rows = Float::<B>(rows).cast(cache.dtype()); // [T, d]
    let [blocks, size, d] = [cache.dim(0), cache.dim(1), cache.dim(2)];
    let mut flat = cache.reshape(&[blocks * size, d]); // [slots, d]
    for (row, slot, len) in runs(slots) {
        flat = flat.write(0, slot, rows.clone().narrow(0, row, len));
    }
    flat.reshape(&[blocks, size, d]).0
}
