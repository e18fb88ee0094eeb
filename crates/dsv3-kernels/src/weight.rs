//! The weight of a linear layer, as modules hold it.

use std::sync::Arc;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Int, Tensor, TensorData};

use crate::error::KernelsError;
use crate::inputs::InputSquares;
use crate::low_rank::LowRank;
use crate::packed::{Expert, GROUP_UNIT, GroupFormat, HalfFormat, Packed};

/// A linear layer's matrix `[out, in]`: plain, so that training can move it, or packed as the
/// checkpoint has it; and the factors of an adapter beside it, if one is attached. Modules never
/// ask which.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use dsv3_kernels::{Activations, HalfFormat, Weight};
///
/// // Two rows of three bfloat16 ones, as bytes.
/// let bytes = bytes::Bytes::from([0x80, 0x3f].repeat(6));
/// let device = Device::flex();
/// let weight = Weight::half(bytes, HalfFormat::Bf16, [2, 3], &device)?;
/// let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0]], &device); // [1, 3]
/// let y = dsv3_kernels::packed_linear(x, &weight, Activations::Full); // [1, 2]
/// assert_eq!(y.into_data().try_to_vec::<f32>()?, [6.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Weight {
    repr: Repr,
    /// Boxed: most weights of a checkpoint have none, and there are many.
    adapter: Option<Box<LowRank>>,
    /// Who counts its inputs.
    watcher: Option<Arc<InputSquares>>,
}

// Nearly every weight of a checkpoint is of the large kind, so boxing it would save nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Repr {
    Plain(Tensor<2>),
    Half {
        data: Tensor<2, Int>,
        format: HalfFormat,
        shape: [usize; 2],
    },
    Fp8Block {
        data: Tensor<2, Int>,
        scale: Tensor<2>,
        block: [usize; 2],
        shape: [usize; 2],
    },
    Group {
        data: Tensor<2, Int>,
        format: GroupFormat,
        shape: [usize; 2],
    },
}

/// Whether `device` runs on the CPU, where a weight may stay a view of a mapped file.
pub(crate) fn is_cpu(device: &Device) -> bool {
    matches!(
        device.clone().inner().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), KernelsError> {
    match expected == found {
        true => Ok(()),
        false => Err(KernelsError::Length {
            what,
            expected,
            found,
        }),
    }
}

/// Rows of `row_bytes` bytes as an integer tensor: bytes on the CPU, words elsewhere.
fn integers(bytes: bytes::Bytes, rows: usize, row_bytes: usize, device: &Device) -> Tensor<2, Int> {
    if is_cpu(device) {
        let bytes = Bytes::from_shared(bytes, AllocationProperty::File);
        let data = TensorData::from_bytes(bytes, [rows, row_bytes], DType::U8);
        return Tensor::from_data(data, (device, DType::U8));
    }
    let words = row_bytes.div_ceil(4);
    let mut values = Vec::with_capacity(rows * words);
    for row in bytes.chunks_exact(row_bytes.max(1)) {
        values.extend(row.chunks(4).map(|b| {
            b.iter()
                .enumerate()
                .fold(0u32, |word, (i, b)| word | u32::from(*b) << (8 * i))
        }));
    }
    Tensor::from_data(TensorData::new(values, [rows, words]), (device, DType::U32))
}

impl Weight {
    fn new(repr: Repr) -> Self {
        Weight {
            repr,
            adapter: None,
            watcher: None,
        }
    }

    /// A float tensor `[out, in]`.
    pub fn plain(weight: Tensor<2>) -> Self {
        Weight::new(Repr::Plain(weight))
    }

    /// 16-bit floats, little-endian, row-major.
    ///
    /// # Errors
    /// When `bytes` is not exactly `out · in · 2` long.
    pub fn half(
        bytes: bytes::Bytes,
        format: HalfFormat,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self, KernelsError> {
        check_len("a 16-bit weight", shape[0] * shape[1] * 2, bytes.len())?;
        Ok(Weight::new(Repr::Half {
            data: integers(bytes, shape[0], shape[1] * 2, device),
            format,
            shape,
        }))
    }

    /// e4m3 bytes, row-major, with one f32 scale a block of `block[0]` rows and `block[1]`
    /// columns (`weight_block_size`); the last block of a row or column may be partial.
    ///
    /// # Errors
    /// When `bytes` is not `out · in` long, `scale` not one a block, or a side of a block 0.
    pub fn fp8_block(
        bytes: bytes::Bytes,
        scale: Vec<f32>,
        block: [usize; 2],
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self, KernelsError> {
        let [rows, columns] = block;
        if rows == 0 || columns == 0 {
            return Err(KernelsError::Block { rows, columns });
        }
        let blocks = [shape[0].div_ceil(rows), shape[1].div_ceil(columns)];
        check_len("an fp8 weight", shape[0] * shape[1], bytes.len())?;
        check_len("its block scales", blocks[0] * blocks[1], scale.len())?;
        Ok(Weight::new(Repr::Fp8Block {
            data: integers(bytes, shape[0], shape[1], device),
            scale: Tensor::from_data(TensorData::new(scale, blocks), (device, DType::F32)),
            block,
            shape,
        }))
    }

    /// Integer codes with group scales, row by row as [`GroupFormat`] says.
    ///
    /// # Errors
    /// When the input dimension or the group is not a multiple of 32, a row's codes and scales
    /// are longer than `row_bytes`, or `bytes` is not exactly `out` rows long.
    pub fn group(
        bytes: bytes::Bytes,
        format: GroupFormat,
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self, KernelsError> {
        let [out, input] = shape;
        for (what, columns) in [("the input", input), ("a group", format.columns)] {
            if columns == 0 || !columns.is_multiple_of(GROUP_UNIT) {
                return Err(KernelsError::Columns { what, columns });
            }
        }
        let needed = format.code_bytes(input) + 2 * format.scales(input);
        let needed = needed.saturating_add(format.offset);
        if needed > format.row_bytes {
            return Err(KernelsError::Length {
                what: "a row of codes and scales",
                expected: needed,
                found: format.row_bytes,
            });
        }
        check_len("a weight in groups", out * format.row_bytes, bytes.len())?;
        Ok(Weight::new(Repr::Group {
            data: integers(bytes, out, format.row_bytes, device),
            format,
            shape,
        }))
    }

    /// The weight with the factors of an adapter beside it, in place of any that were there. The
    /// weight itself stays as it is.
    ///
    /// # Errors
    /// When the factors are not `[r, in]` and `[out, r]`.
    pub fn with_adapter(self, adapter: LowRank) -> Result<Self, KernelsError> {
        adapter.check(self.shape())?;
        Ok(Weight {
            adapter: Some(Box::new(adapter)),
            ..self
        })
    }

    /// The weight alone.
    #[must_use]
    pub fn without_adapter(self) -> Self {
        Weight {
            adapter: None,
            ..self
        }
    }

    /// The weight, whose inputs `watcher` counts from now on: those of [`packed_linear`] and
    /// [`packed_experts`], not those of attention.
    ///
    /// [`packed_linear`]: crate::packed_linear
    /// [`packed_experts`]: crate::packed_experts
    #[must_use]
    pub fn watched(self, watcher: Arc<InputSquares>) -> Self {
        Weight {
            watcher: Some(watcher),
            ..self
        }
    }

    /// Who counts its inputs.
    pub(crate) fn watcher(&self) -> Option<&InputSquares> {
        self.watcher.as_deref()
    }

    /// The factors beside it.
    pub fn adapter(&self) -> Option<&LowRank> {
        self.adapter.as_deref()
    }

    /// Whether nothing stands beside it: no adapter, and nobody who counts its inputs.
    pub(crate) fn is_plain_product(&self) -> bool {
        self.adapter.is_none() && self.watcher.is_none()
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        match &self.repr {
            Repr::Plain(weight) => weight.dims(),
            Repr::Half { shape, .. } | Repr::Fp8Block { shape, .. } | Repr::Group { shape, .. } => {
                *shape
            }
        }
    }

    /// Whether it is block-fp8, so that a W8A8 run rounds its input.
    pub fn is_fp8(&self) -> bool {
        matches!(self.repr, Repr::Fp8Block { .. })
    }

    /// Bytes that one pass over the weight reads.
    pub fn bytes(&self) -> usize {
        let [out, input] = self.shape();
        let base = match &self.repr {
            Repr::Plain(weight) => out * input * weight.dtype().size(),
            Repr::Half { .. } => out * input * 2,
            Repr::Fp8Block { scale, .. } => out * input + scale.shape().num_elements() * 4,
            Repr::Group { format, .. } => {
                out * (format.code_bytes(input) + 2 * format.scales(input))
            }
        };
        let factors = self.adapter.as_ref();
        base + factors.map_or(0, |f| f.a.dims()[0] * (out + input) * 4)
    }

    /// The device that holds it.
    pub fn device(&self) -> Device {
        match &self.repr {
            Repr::Plain(weight) => weight.device(),
            Repr::Half { data, .. } | Repr::Fp8Block { data, .. } | Repr::Group { data, .. } => {
                data.device()
            }
        }
    }

    /// As the operations take it, without the adapter.
    pub(crate) fn packed(&self) -> Packed<Dispatch> {
        match self.repr.clone() {
            Repr::Plain(weight) => Packed::Plain {
                weight: weight.into_dispatch(),
            },
            Repr::Half {
                data,
                format,
                shape,
            } => Packed::Half {
                data: data.into_dispatch(),
                format,
                shape,
            },
            Repr::Fp8Block {
                data,
                scale,
                block,
                shape,
            } => Packed::Fp8Block {
                data: data.into_dispatch(),
                scale: scale.into_dispatch(),
                block,
                shape,
            },
            Repr::Group {
                data,
                format,
                shape,
            } => Packed::Group {
                data: data.into_dispatch(),
                format,
                shape,
            },
        }
    }
}

/// One SwiGLU expert's matrices.
#[derive(Clone, Debug)]
pub struct ExpertWeights {
    /// `[moe_inter, hidden]`
    pub gate: Weight,
    /// `[moe_inter, hidden]`
    pub up: Weight,
    /// `[hidden, moe_inter]`
    pub down: Weight,
}

impl ExpertWeights {
    /// Whether nothing stands beside any of the three.
    pub(crate) fn is_plain_product(&self) -> bool {
        let all = [&self.gate, &self.up, &self.down];
        all.into_iter().all(Weight::is_plain_product)
    }

    pub(crate) fn packed(&self) -> Expert<Dispatch> {
        Expert {
            gate: self.gate.packed(),
            up: self.up.packed(),
            down: self.down.packed(),
        }
    }
}
