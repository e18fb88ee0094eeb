//! Adapters on a loaded model.

use burn::tensor::{DType, Tensor, TensorData};
use dsv3_kernels::LowRank;
use dsv3_weights::Adapter;

use crate::error::ModelError;
use crate::parameters::ParameterMut;
use crate::transformer::Transformer;

impl Transformer {
    /// Put low-rank factors beside matrices. `factors` is asked for each by the name of its weight
    /// in the published layout; those that it has none for stay as they are. Says how many it had.
    /// The weights themselves keep their format, fp8 included.
    ///
    /// # Errors
    /// [`ModelError::Kernels`] naming the first weight that its factors don't fit; those before it
    /// have theirs already.
    pub fn adapt(
        &mut self,
        factors: &mut dyn FnMut(&str) -> Option<LowRank>,
    ) -> Result<usize, ModelError> {
        let (mut count, mut failed) = (0, None);
        self.visit_parameters(&mut |name, parameter| {
            let ParameterMut::Matrix(weight) = parameter else {
                return;
            };
            let Some(factors) = factors(name).filter(|_| failed.is_none()) else {
                return;
            };
            match weight.clone().with_adapter(factors) {
                Ok(adapted) => {
                    *weight = adapted;
                    count += 1;
                }
                Err(source) => {
                    failed = Some(ModelError::Kernels {
                        name: name.to_owned(),
                        source,
                    });
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(count),
        }
    }

    /// Apply `adapter` from now on. An MTP module is not changed by it.
    ///
    /// # Errors
    /// [`ModelError::ForeignAdapter`] when it was opened for another configuration.
    pub fn attach_adapter(&mut self, adapter: &Adapter) -> Result<(), ModelError> {
        let device = self.device().clone();
        let matrix = |values: &[f32], shape: [usize; 2]| {
            let data = TensorData::new(values.to_vec(), shape);
            Tensor::<2>::from_data(data, (&device, DType::F32))
        };
        let found = self.adapt(&mut |name| {
            let factors = adapter.get(name)?;
            let [out, input] = factors.shape;
            Some(LowRank {
                a: matrix(&factors.a, [factors.rank, input]),
                b: matrix(&factors.b, [out, factors.rank]),
                scale: factors.scale,
            })
        })?;
        match found == adapter.factors().len() {
            true => Ok(()),
            false => Err(ModelError::ForeignAdapter {
                expected: adapter.factors().len(),
                found,
            }),
        }
    }

    /// Leave adapters away from now on.
    pub fn detach_adapter(&mut self) {
        self.visit_parameters(&mut |_, parameter| {
            if let ParameterMut::Matrix(weight) = parameter
                && weight.adapter().is_some()
            {
                *weight = weight.clone().without_adapter();
            }
        });
    }
}
