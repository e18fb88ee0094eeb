//! How large the inputs of a weight are, column by column.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Tensor};

/// Watches what a weight is multiplied with ([`Weight::watched`](crate::Weight::watched)). A column
/// that is large in its inputs is one whose rounding is felt.
#[derive(Debug, Default)]
pub struct InputSquares(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    /// `Σ x²` of each column.
    squares: Vec<f64>,
    rows: u64,
}

impl InputSquares {
    /// The mean of `x²` for each column `[in]`; none where nothing was multiplied.
    pub fn mean(&self) -> Option<Vec<f32>> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = (sums.rows > 0).then_some(sums.rows as f64)?;
        Some(sums.squares.iter().map(|sum| (sum / rows) as f32).collect())
    }

    /// Rows that were multiplied.
    pub fn rows(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rows
    }

    /// Count `x [T, in]`. Where the device doesn't answer nothing is counted.
    pub(crate) fn add(&self, x: &Tensor<2>) {
        let x = x.clone().detach().cast(DType::F32);
        let [rows, _] = x.dims();
        let squares = (x.clone() * x).sum_dim(0); // [1, in]
        let Ok(squares) = squares.into_data().try_to_vec::<f32>() else {
            return;
        };
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.squares.resize(squares.len(), 0.0);
        for (sum, square) in sums.squares.iter_mut().zip(squares) {
            *sum += f64::from(square);
        }
        sums.rows += rows as u64;
    }
}
