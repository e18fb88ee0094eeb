//! Balance among the experts, as DeepSeek-V3 keeps it: a correction bias that follows the load
//! (report §2.1.2, "auxiliary-loss-free"), and a small loss within each sequence.

use burn::tensor::{DType, Int, Tensor, TensorData, activation::sigmoid};
use dsv3_model::{SequenceSlice, Trace};

use crate::error::TrainError;

/// What one layer's router did.
struct Layer {
    /// `[T, experts]`
    logits: Tensor<2>,
    /// `[T, k]`
    ids: Tensor<2, Int>,
}

/// Keeps what the routers of a forward pass did.
#[derive(Default)]
pub(crate) struct RouterTrace {
    layers: Vec<Layer>,
}

impl Trace for RouterTrace {
    fn router(
        &mut self,
        _layer: usize,
        logits: &Tensor<2>,
        ids: &Tensor<2, Int>,
        _weights: &Tensor<2>,
    ) {
        self.layers.push(Layer {
            logits: logits.clone(),
            ids: ids.clone(),
        });
    }
}

/// The balance loss of one pass and the load behind it.
pub(crate) struct Balance {
    /// `Σ_layers Σ_sequences Σ_i f_i P_i / sequences` (equation 17 without its factor α), `None`
    /// where there are no routers.
    pub(crate) loss: Option<Tensor<1>>,
    /// Tokens that chose each expert, a row a layer.
    pub(crate) load: Vec<Vec<u64>>,
}

impl RouterTrace {
    /// The loss over `sequences` (its mean over `total` of them), and each layer's load.
    pub(crate) fn balance(
        self,
        sequences: &[SequenceSlice],
        total: usize,
    ) -> Result<Balance, TrainError> {
        let mut balance = Balance {
            loss: None,
            load: Vec::with_capacity(self.layers.len()),
        };
        for Layer { logits, ids } in self.layers {
            let [tokens, experts] = logits.dims();
            let [_, k] = ids.dims();
            let chosen = ids
                .into_data()
                .convert::<i32>()
                .try_to_vec::<i32>()
                .map_err(|error| TrainError::Device(error.to_string()))?;
            let mut load = vec![0u64; experts];
            let mut factors = vec![0f32; tokens * experts]; // [T, experts]
            for sequence in sequences {
                let rows = sequence.rows.clone();
                let len = rows.len().max(1);
                let mut counts = vec![0u64; experts];
                for id in chosen.get(rows.start * k..rows.end * k).unwrap_or_default() {
                    if let Some(count) = counts.get_mut(*id as usize) {
                        *count += 1;
                    }
                }
                // f_i = E / (k · len) · count, P_i = 1 / len · Σ s'
                let scale = experts as f32 / (k * len) as f32 / (len * total.max(1)) as f32;
                for row in factors
                    .chunks_exact_mut(experts)
                    .skip(rows.start)
                    .take(rows.len())
                {
                    row.iter_mut()
                        .zip(&counts)
                        .for_each(|(f, count)| *f = *count as f32 * scale);
                }
                load.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
            let device = logits.device();
            let data = TensorData::new(factors, [tokens, experts]);
            let factors = Tensor::<2>::from_data(data, (&device, DType::F32)); // [T, experts]
            let scores = sigmoid(logits); // [T, experts]
            let sums = scores.clone().sum_dim(1); // [T, 1]
            let loss = (scores / sums * factors).sum();
            balance.loss = Some(match balance.loss.take() {
                Some(sum) => sum + loss,
                None => loss,
            });
            balance.load.push(load);
        }
        Ok(balance)
    }
}

/// Move a correction bias by `speed` (γ) up where an expert had less than its share, down where
/// more.
pub(crate) fn follow_load(bias: &mut [f32], load: &[u64], speed: f32) {
    let total: u64 = load.iter().sum();
    let count = load.len() as u64;
    for (bias, load) in bias.iter_mut().zip(load) {
        // load against total / count without a division
        match (load * count).cmp(&total) {
            std::cmp::Ordering::Less => *bias += speed,
            std::cmp::Ordering::Greater => *bias -= speed,
            std::cmp::Ordering::Equal => {}
        }
    }
}

/// Each expert's share of its layer's load.
pub(crate) fn shares(load: &[Vec<u64>]) -> Vec<Vec<f32>> {
    let share = |load: &Vec<u64>| {
        let total = load.iter().sum::<u64>().max(1) as f32;
        load.iter().map(|n| *n as f32 / total).collect()
    };
    load.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a sign turned round, a bias that moves at balance.
    #[test]
    fn the_bias_moves_against_the_load() {
        let mut bias = [0.0, 0.5, -0.5, 0.0];
        follow_load(&mut bias, &[2, 4, 0, 2], 0.25);
        assert_eq!(bias, [0.0, 0.25, -0.25, 0.0]);
    }

    /// Breaks with: a share of the wrong total.
    #[test]
    fn shares_add_up() {
        assert_eq!(shares(&[vec![1, 3]]), [[0.25, 0.75]]);
        assert_eq!(shares(&[vec![0, 0]]), [[0.0, 0.0]]);
    }
}
