//! Weights as the graph asks for them: a linear layer's matrix with its scales, a norm's vector.

use bytes::Bytes;

use crate::error::shown;
use crate::group::{self, GroupBits, GroupFormat};
use crate::{Checkpoint, Dtype, TensorView, WeightsError, decode, fp8};

/// What a published fp8 weight's scale tensor is called, behind the weight's own name.
pub const SCALE_SUFFIX: &str = "_scale_inv";

/// A linear layer's weight `[out, in]`, where it lies in the mapped file.
#[derive(Debug, Clone)]
pub struct LinearView {
    /// The tensor's name.
    pub name: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// How `data` is to be read.
    pub format: LinearFormat,
    /// The elements, row-major, little-endian; may start at any address.
    pub data: Bytes,
    /// For [`LinearFormat::Fp8Block`]: `[ceil(out / block[0]), ceil(in / block[1])]`, row-major,
    /// all finite and above zero.
    pub scale: Option<Vec<f32>>,
}

/// Element format of a [`LinearView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinearFormat {
    /// IEEE single precision.
    F32,
    /// Upper half of f32.
    BF16,
    /// IEEE half precision.
    F16,
    /// e4m3 codes; `w[r, c] = e4m3(code[r, c]) · scale[r / block[0], c / block[1]]`, a product in
    /// spite of the tensor's name (DeepSeek's `weight_dequant`).
    Fp8Block {
        /// Rows and columns that share a scale.
        block: [usize; 2],
        /// Whether every scale of this tensor is a power of two, whatever the config says.
        power_of_two: bool,
    },
    /// Rows of codes with an f16 scale a group, as [`crate::group`] describes them.
    Group {
        /// Bits of a code.
        bits: GroupBits,
        /// Columns that share a scale.
        group: usize,
        /// Bytes of a row: codes, scales, padding.
        row_bytes: usize,
    },
}

impl LinearFormat {
    /// Rows of so many columns in this packed format.
    pub(crate) fn of_group(format: GroupFormat, columns: usize) -> Self {
        Self::Group {
            bits: format.bits(),
            group: format.group(),
            row_bytes: format.row_bytes(columns),
        }
    }
}

impl LinearView {
    /// The whole weight in f32, `[out, in]`: the slow oracle of everything that reads it packed.
    pub fn dequantize(&self) -> Vec<f32> {
        let dtype = match self.format {
            LinearFormat::F32 => Dtype::F32,
            LinearFormat::BF16 => Dtype::BF16,
            LinearFormat::F16 => Dtype::F16,
            LinearFormat::Fp8Block { block, .. } => {
                let scale = self.scale.as_deref().unwrap_or_default();
                // Lengths were checked when the view was made, so the default is never taken.
                return fp8::dequantize_block(&self.data, scale, self.shape, block)
                    .unwrap_or_default();
            }
            LinearFormat::Group { bits, group, .. } => {
                // As above: a view is made of checked groups and lengths only.
                return GroupFormat::new(bits, group)
                    .and_then(|format| group::dequantize_group(&self.data, self.shape, format))
                    .unwrap_or_default();
            }
        };
        decode::to_f32(dtype, &self.data).unwrap_or_default()
    }
}

impl Checkpoint {
    /// The weight `name` of shape `[out, in]`, with its scales if it is fp8.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`], [`WeightsError::StackedExpert`], [`WeightsError::WrongShape`] (weight or scales),
    /// [`WeightsError::WrongDtype`], [`WeightsError::MissingScale`],
    /// [`WeightsError::UndeclaredQuantization`], [`WeightsError::BadScale`].
    pub fn linear(&self, name: &str, shape: [usize; 2]) -> Result<LinearView, WeightsError> {
        if let Some((place, _)) = self.stack_holding(name) {
            return Err(WeightsError::StackedExpert {
                file: self.tensor(&place.stack)?.file().into(),
                tensor: shown(name),
                stack: place.stack,
            });
        }
        let weight = self.tensor(name)?;
        if let Some(packed) = self.packed(name) {
            if packed.shape != shape {
                return Err(WeightsError::WrongShape {
                    file: weight.file().into(),
                    tensor: shown(name),
                    expected: shape.to_vec(),
                    found: packed.shape.clone(),
                });
            }
            return Ok(LinearView {
                name: name.to_owned(),
                shape,
                format: LinearFormat::of_group(packed.format, shape[1]),
                data: weight.bytes(),
                scale: None,
            });
        }
        weight.expect_shape(&shape)?;
        let (format, scale) = match weight.dtype() {
            Dtype::F32 => (LinearFormat::F32, None),
            Dtype::BF16 => (LinearFormat::BF16, None),
            Dtype::F16 => (LinearFormat::F16, None),
            Dtype::F8E4M3 => {
                let (block, scale) = self.block_scales(&weight)?;
                let power_of_two = scale.iter().all(|s| fp8::is_power_of_two(*s));
                (
                    LinearFormat::Fp8Block {
                        block,
                        power_of_two,
                    },
                    Some(scale),
                )
            }
            found => {
                return Err(WeightsError::WrongDtype {
                    file: weight.file().into(),
                    tensor: shown(name),
                    found,
                    expected: "F32, BF16, F16 and F8_E4M3",
                });
            }
        };
        Ok(LinearView {
            name: name.to_owned(),
            shape,
            format,
            data: weight.bytes(),
            scale,
        })
    }

    /// A norm's weight or a bias of `len` values, in f32.
    ///
    /// # Errors
    /// [`WeightsError::MissingTensor`], [`WeightsError::WrongShape`], [`WeightsError::WrongDtype`];
    /// [`WeightsError::NotFinite`], because a router's bias that is NaN would choose its expert for
    /// every token and show nowhere.
    pub fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, WeightsError> {
        let values = self.plain(name, &[len])?;
        match values.iter().position(|x| !x.is_finite()) {
            Some(index) => Err(self.tensor(name)?.not_finite(index)),
            None => Ok(values),
        }
    }

    /// A matrix in f32, dequantised if it is fp8 or packed, taken out of its stack if it is an
    /// expert's in a packed checkpoint.
    ///
    /// # Errors
    /// As [`Checkpoint::linear`].
    pub fn matrix_f32(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>, WeightsError> {
        match self.unstacked(name, shape)? {
            Some(values) => Ok(values),
            None => self.linear(name, shape).map(|w| w.dequantize()),
        }
    }

    /// Values of a tensor that must not be quantised.
    fn plain(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.tensor(name)?;
        tensor.expect_shape(shape)?;
        match tensor.dtype() {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => tensor.to_f32_vec(),
            found => Err(WeightsError::WrongDtype {
                file: tensor.file().into(),
                tensor: shown(name),
                found,
                expected: "F32, BF16 and F16",
            }),
        }
    }

    /// Block size and checked scales of an fp8 weight of two dimensions.
    pub(crate) fn block_scales(
        &self,
        weight: &TensorView<'_>,
    ) -> Result<([usize; 2], Vec<f32>), WeightsError> {
        let (block, stored) = self.scale_tensor(weight)?;
        let scale = stored.to_f32_vec()?;
        match scale.iter().position(|s| !s.is_finite() || *s <= 0.0) {
            Some(index) => Err(WeightsError::BadScale {
                file: stored.file().into(),
                tensor: shown(stored.name()),
                index,
                value: scale[index],
            }),
            None => Ok((block, scale)),
        }
    }

    /// Block size and scale tensor of an fp8 weight, shapes and dtype checked, values not read.
    pub(crate) fn scale_tensor(
        &self,
        weight: &TensorView<'_>,
    ) -> Result<([usize; 2], TensorView<'_>), WeightsError> {
        let (file, tensor) = (|| weight.file().to_path_buf(), || shown(weight.name()));
        let Some(quantization) = self.args().quantization else {
            return Err(WeightsError::UndeclaredQuantization {
                file: file(),
                tensor: tensor(),
            });
        };
        let Some(stored) = self.get(&format!("{}{SCALE_SUFFIX}", weight.name())) else {
            return Err(WeightsError::MissingScale {
                file: file(),
                tensor: tensor(),
            });
        };
        let block = quantization.weight_block_size;
        let &[out, inner] = weight.shape() else {
            return Err(WeightsError::NotAMatrix {
                file: file(),
                tensor: tensor(),
                found: weight.shape().to_vec(),
            });
        };
        stored.expect_shape(&[out.div_ceil(block[0]), inner.div_ceil(block[1])])?;
        if !matches!(stored.dtype(), Dtype::F32 | Dtype::BF16 | Dtype::F8E8M0) {
            return Err(WeightsError::WrongDtype {
                file: stored.file().into(),
                tensor: shown(stored.name()),
                found: stored.dtype(),
                expected: "F32, BF16 and F8_E8M0",
            });
        }
        Ok((block, stored))
    }
}
