//! What an adapter adds to a weight: two thin matrices instead of a whole one.

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};

use crate::error::KernelsError;
use crate::ops::Dsv3Ops;
use crate::packed::{Activations, Packed};

/// The factors of a low-rank change of a weight `[out, in]` (LoRA, Hu et al. 2021): applied, it is
/// `x · Wᵀ + scale · (x · Aᵀ) · Bᵀ`. The sum `W + scale · B · A` is never formed, so the weight
/// stays packed as it is and a training moves `r · (in + out)` values in place of `in · out`.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `A [r, in]`, f32
    pub a: Tensor<2>,
    /// `B [out, r]`, f32
    pub b: Tensor<2>,
    /// The factor on the product, in PEFT `lora_alpha / r`.
    pub scale: f32,
}

/// A plain matrix as the operations take it.
fn plain(matrix: &Tensor<2>) -> Packed<Dispatch> {
    Packed::Plain {
        weight: matrix.clone().into_dispatch(),
    }
}

impl LowRank {
    /// Refuse factors that are not of a weight `[out, in]`.
    pub(crate) fn check(&self, [out, input]: [usize; 2]) -> Result<(), KernelsError> {
        let (a, b) = (self.a.dims(), self.b.dims());
        match a[1] == input && b[0] == out && a[0] == b[1] && a[0] > 0 {
            true => Ok(()),
            false => Err(KernelsError::LowRank {
                a,
                b,
                weight: [out, input],
            }),
        }
    }

    /// `scale · (x · Aᵀ) · Bᵀ` in f32, whatever the activations are kept in: `x [T, in]` →
    /// `[T, out]`.
    pub(crate) fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        // The linear operation rather than a plain product: on the CPU its rows don't depend on
        // how many there are.
        let linear = |x: Tensor<2>, matrix| {
            let y = <Dispatch as Dsv3Ops>::packed_linear(
                x.into_dispatch(),
                plain(matrix),
                Activations::Full,
            );
            Tensor::<2>::from_dispatch(y)
        };
        let narrow = linear(x.cast(DType::F32), &self.a); // [T, r]
        linear(narrow, &self.b).mul_scalar(self.scale) // [T, out]
    }

    /// `scale · B · A`: `[out, in]`, what the factors are there to avoid.
    pub(crate) fn product(&self) -> Tensor<2> {
        self.b.clone().matmul(self.a.clone()).mul_scalar(self.scale)
    }
}
