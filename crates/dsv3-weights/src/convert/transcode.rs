//! The data of one tensor from one format to another, a few megabytes at a time.

use half::bf16;
use rayon::prelude::*;

use crate::output::{Job, Sink};
use crate::{AdapterFactors, Checkpoint, Dtype, ScaleFmt, TensorView, WeightsError, decode, fp8};

use super::outputs::{Action, Outputs, Task};

/// How many elements are held as f32 at once, unless one row of blocks has more.
const CHUNK_ELEMENTS: usize = 1 << 22;

pub(super) fn run(
    checkpoint: &Checkpoint,
    job: &Job<Task>,
    outputs: &Outputs<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), WeightsError> {
    let tensor = checkpoint.tensor(&job.name)?;
    let walk = Walk {
        checkpoint,
        tensor: &tensor,
        block: outputs.block,
        change: outputs.adapter.and_then(|a| a.get(&job.name)),
    };
    match job.task.action {
        Action::Copy { check } => copy(&tensor, check, sink),
        Action::CopyQuantized => {
            copy_codes(&tensor, sink)?;
            let (_, scales) = checkpoint.block_scales(&tensor)?;
            sink(1, 0, &f32_bytes(&scales))
        }
        Action::Cast(dtype) if !job.task.merged => cast(&tensor, dtype, sink),
        Action::Cast(_) | Action::Dequantize => walk.by_rows(|first, _, values| {
            let at = (first * outputs.float.size_bytes()) as u64;
            sink(0, at, &encode(&tensor, first, values, outputs.float)?)
        }),
        Action::Quantize | Action::Requantize => {
            let fmt = outputs.scale_fmt.unwrap_or(ScaleFmt::F32);
            let mut scales_done = 0;
            walk.by_rows(|first, shape, values| {
                refuse_not_finite(&tensor, first, values)?;
                let quantized = fp8::quantize_block(values, shape, outputs.block, fmt)?;
                sink(0, first as u64, &quantized.data)?;
                let bytes = f32_bytes(&quantized.scale);
                sink(1, scales_done, &bytes)?;
                scales_done += bytes.len() as u64;
                Ok(())
            })
        }
    }
}

/// A matrix on the way, and what is to be added to it.
struct Walk<'a> {
    checkpoint: &'a Checkpoint,
    tensor: &'a TensorView<'a>,
    block: [usize; 2],
    change: Option<&'a AdapterFactors>,
}

impl Walk<'_> {
    /// Walks by whole rows of blocks, as f32: `each(first element, [rows, cols], values)`.
    fn by_rows(
        &self,
        mut each: impl FnMut(usize, [usize; 2], &[f32]) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError> {
        let tensor = self.tensor;
        let &[rows, cols] = tensor.shape() else {
            return Err(WeightsError::NotAMatrix {
                file: tensor.file().into(),
                tensor: tensor.name().into(),
                found: tensor.shape().into(),
            });
        };
        if rows == 0 || cols == 0 {
            return Ok(());
        }
        let [block_rows, block_cols] = self.block;
        let scales = match tensor.dtype() {
            Dtype::F8E4M3 => Some(self.checkpoint.block_scales(tensor)?.1),
            _ => None,
        };
        let across = cols.div_ceil(block_cols);
        let strips = (CHUNK_ELEMENTS / (block_rows * cols)).max(1);
        let element = tensor.dtype().size_bytes();
        let group = strips * block_rows * cols * element; // bytes
        for (number, bytes) in tensor.as_slice().chunks(group).enumerate() {
            let shape = [bytes.len() / element / cols, cols];
            let first_row = number * strips * block_rows;
            let mut values = match &scales {
                Some(scales) => {
                    let first = number * strips * across;
                    let count = shape[0].div_ceil(block_rows) * across;
                    let scales = scales.get(first..first + count).unwrap_or_default();
                    fp8::dequantize_block(bytes, scales, shape, self.block)?
                }
                None => floats(tensor, bytes)?,
            };
            if let Some(change) = self.change {
                change.add_to(first_row, &mut values);
            }
            each(first_row * cols, shape, &values)?;
        }
        Ok(())
    }
}

fn copy(tensor: &TensorView<'_>, check: bool, sink: &mut Sink<'_>) -> Result<(), WeightsError> {
    let element = tensor.dtype().size_bytes();
    let mut first = 0;
    for bytes in tensor.as_slice().chunks(CHUNK_ELEMENTS * element) {
        if check {
            refuse_not_finite(tensor, first, &floats(tensor, bytes)?)?;
        }
        sink(0, (first * element) as u64, bytes)?;
        first += bytes.len() / element;
    }
    Ok(())
}

/// fp8 codes, refusing the two that are NaN.
fn copy_codes(tensor: &TensorView<'_>, sink: &mut Sink<'_>) -> Result<(), WeightsError> {
    let mut first = 0;
    for codes in tensor.as_slice().chunks(CHUNK_ELEMENTS) {
        if let Some(at) = codes.iter().position(|c| c & 0x7f == 0x7f) {
            return Err(not_finite(tensor, first + at));
        }
        sink(0, first as u64, codes)?;
        first += codes.len();
    }
    Ok(())
}

fn cast(tensor: &TensorView<'_>, dtype: Dtype, sink: &mut Sink<'_>) -> Result<(), WeightsError> {
    let element = tensor.dtype().size_bytes();
    let mut first = 0;
    for bytes in tensor.as_slice().chunks(CHUNK_ELEMENTS * element) {
        let values = floats(tensor, bytes)?;
        let out = encode(tensor, first, &values, dtype)?;
        sink(0, (first * dtype.size_bytes()) as u64, &out)?;
        first += values.len();
    }
    Ok(())
}

fn floats(tensor: &TensorView<'_>, bytes: &[u8]) -> Result<Vec<f32>, WeightsError> {
    decode::to_f32(tensor.dtype(), bytes).ok_or_else(|| WeightsError::WrongDtype {
        file: tensor.file().into(),
        tensor: tensor.name().into(),
        found: tensor.dtype(),
        expected: "F32, BF16, F16 and F8_E4M3",
    })
}

/// As bytes of f32 or bf16.
fn encode(
    tensor: &TensorView<'_>,
    first: usize,
    values: &[f32],
    dtype: Dtype,
) -> Result<Vec<u8>, WeightsError> {
    match dtype {
        Dtype::F32 => {
            refuse_not_finite(tensor, first, values)?;
            Ok(f32_bytes(values))
        }
        _ => to_bf16(tensor, first, values),
    }
}

/// Rounds to nearest even; what is not finite before or after is refused.
fn to_bf16(tensor: &TensorView<'_>, first: usize, x: &[f32]) -> Result<Vec<u8>, WeightsError> {
    let mut out = vec![0; x.len() * 2];
    let pairs = out.as_chunks_mut::<2>().0;
    let bad = pairs
        .par_iter_mut()
        .zip(x)
        .enumerate()
        .map(|(i, (pair, x))| {
            let rounded = bf16::from_f32(*x);
            *pair = rounded.to_le_bytes();
            if rounded.is_finite() { usize::MAX } else { i }
        })
        .min();
    match bad {
        Some(at) if at != usize::MAX => Err(not_finite(tensor, first + at)),
        _ => Ok(out),
    }
}

fn refuse_not_finite(tensor: &TensorView<'_>, first: usize, x: &[f32]) -> Result<(), WeightsError> {
    match x.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(not_finite(tensor, first + at)),
        None => Ok(()),
    }
}

fn not_finite(tensor: &TensorView<'_>, index: usize) -> WeightsError {
    WeightsError::NotFinite {
        file: tensor.file().into(),
        tensor: tensor.name().into(),
        index,
    }
}

fn f32_bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}
