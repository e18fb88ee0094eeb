//! The data of one tensor from one format to another, a few megabytes at a time.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use crate::error::shown;
use crate::group::{GroupFormat, pack_row, packable};
use crate::output::{Job, Sink};
use crate::stacked::{Stack, part_names};
use crate::{AdapterFactors, Checkpoint, Dtype, TensorView, WeightsError, decode, fp8};

use super::outputs::{Action, Outputs, Task};

/// How many elements are held as f32 at once, unless one row of blocks has more.
const CHUNK_ELEMENTS: usize = 1 << 21;
/// How many are packed at once, of which a row for each thread is held as f32: enough that a thread
/// which had to step aside is not waited for all the time.
const PACKED_ELEMENTS: usize = 1 << 23;

pub(super) fn run(
    checkpoint: &Checkpoint,
    job: &Job<Task>,
    outputs: &Outputs<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), WeightsError> {
    if let Action::PackStack(format, stack) = job.task.action {
        return pack_stack(checkpoint, &job.name, format, stack, outputs, sink);
    }
    let tensor = checkpoint.tensor(&job.name)?;
    let walk = Walk::new(checkpoint, tensor, outputs)?;
    match job.task.action {
        Action::Copy { check } => copy(&tensor, check, sink),
        Action::CopyQuantized => {
            copy_codes(&tensor, sink)?;
            let (_, scales) = checkpoint.block_scales(&tensor)?;
            sink(1, 0, f32_bytes(&scales))
        }
        Action::Cast(dtype) if job.task.merged == 0 => cast(&tensor, dtype, sink),
        Action::Cast(dtype) | Action::Dequantize(dtype) => walk.by_rows(|first, _, values| {
            let at = (first * dtype.size_bytes()) as u64;
            sink(0, at, encode(&tensor, first, values, dtype)?)
        }),
        Action::Quantize | Action::Requantize => {
            let fmt = outputs.scale_fmt;
            let mut scales_done = 0;
            walk.by_rows(|first, shape, values| {
                refuse_not_finite(&tensor, first, values)?;
                let quantized = fp8::quantize_block(values, shape, outputs.block, fmt)?;
                sink(0, first as u64, quantized.data)?;
                let (at, bytes) = (scales_done, f32_bytes(&quantized.scale));
                scales_done += bytes.len() as u64;
                sink(1, at, bytes)
            })
        }
        Action::Pack(format) | Action::PackStack(format, _) => {
            walk.must_be_matrix()?;
            pack(&[walk], format, outputs, sink, &mut 0)
        }
    }
}

/// The tensors that a job reads, in order; scales, which are little beside them, left out.
pub(super) fn sources(checkpoint: &Checkpoint, job: &Job<Task>) -> Vec<String> {
    match job.task.action {
        Action::PackStack(_, stack) => parts_of(checkpoint, &job.name, stack),
        _ => vec![job.name.clone()],
    }
}

/// What the stack of this name is made of.
fn parts_of(checkpoint: &Checkpoint, name: &str, stack: Stack) -> Vec<String> {
    let prefix = name.split_once(".experts.").map_or(name, |(p, _)| p);
    part_names(prefix, stack, checkpoint.args().n_routed_experts).collect()
}

/// All experts of a layer, one after the other; where a stack is made of two matrices of each,
/// their rows in turn.
fn pack_stack(
    checkpoint: &Checkpoint,
    name: &str,
    format: GroupFormat,
    stack: Stack,
    outputs: &Outputs<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), WeightsError> {
    let parts = stack.of_expert().len();
    let sources = parts_of(checkpoint, name, stack);
    let mut done = 0;
    for expert in sources.chunks(parts) {
        let walks = expert
            .iter()
            .map(|source| Walk::new(checkpoint, checkpoint.tensor(source)?, outputs))
            .collect::<Result<Vec<_>, _>>()?;
        pack(&walks, format, outputs, sink, &mut done)?;
    }
    Ok(())
}

/// The rows of matrices with the same input, in turn, packed to what follows the first `done`
/// bytes.
fn pack(
    walks: &[Walk<'_>],
    format: GroupFormat,
    outputs: &Outputs<'_>,
    sink: &mut Sink<'_>,
    done: &mut u64,
) -> Result<(), WeightsError> {
    let Some(first) = walks.first() else {
        return Ok(());
    };
    let columns = first.columns;
    let row_bytes = format.row_bytes(columns);
    let scales = outputs.scales(first.tensor.name(), columns);
    for rows in first.chunks(PACKED_ELEMENTS) {
        let mut packed = vec![0; rows.len() * walks.len() * row_bytes];
        // The rows of a task meet one another in no order; the first that is refused is named.
        let refused = packed
            .par_chunks_exact_mut(row_bytes)
            .enumerate()
            .map_init(
                || vec![0f32; columns],
                |values, (i, to)| {
                    let (walk, row) = (&walks[i % walks.len()], rows.start + i / walks.len());
                    walk.row(row, values)?;
                    refuse_not_packable(&walk.tensor, row * columns, values)?;
                    pack_row(values, format, &scales, to);
                    Ok(())
                },
            )
            .find_map_first(Result::err);
        if let Some(refused) = refused {
            return Err(refused);
        }
        let at = *done;
        *done += packed.len() as u64;
        sink(0, at, packed)?;
    }
    Ok(())
}

/// A matrix on the way, and what is to be added to it.
struct Walk<'a> {
    tensor: TensorView<'a>,
    rows: usize,
    columns: usize,
    block: [usize; 2],
    /// Of an fp8 matrix.
    scales: Option<Vec<f32>>,
    change: Option<&'a AdapterFactors>,
}

impl<'a> Walk<'a> {
    /// Reads the scales, no values.
    fn new(
        checkpoint: &Checkpoint,
        tensor: TensorView<'a>,
        outputs: &Outputs<'a>,
    ) -> Result<Self, WeightsError> {
        // A vector or a scalar is one row; where only a matrix will do, `by_rows` says so.
        let (rows, columns) = match tensor.shape() {
            &[rows, columns] => (rows, columns),
            _ => (1, tensor.num_elements()),
        };
        let scales = match tensor.dtype() {
            Dtype::F8E4M3 => Some(checkpoint.block_scales(&tensor)?.1),
            _ => None,
        };
        Ok(Self {
            tensor,
            rows,
            columns,
            block: outputs.block,
            scales,
            change: outputs.adapter.and_then(|a| a.get(tensor.name())),
        })
    }

    /// Whole rows of blocks, about so many values at a time.
    fn chunks(&self, elements: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows;
        let strip = self.block[0] * self.columns;
        let step = (elements / strip.max(1)).max(1) * self.block[0];
        let rows = if self.columns == 0 { 0 } else { rows };
        (0..rows)
            .step_by(step)
            .map(move |first| first..rows.min(first + step))
    }

    /// Rows as f32, changed if there is a change; `rows` is one of [`Walk::chunks`].
    fn read(&self, rows: Range<usize>) -> Result<Vec<f32>, WeightsError> {
        let row = self.columns * self.tensor.dtype().size_bytes();
        let bytes = self.tensor.as_slice();
        let bytes = bytes.get(rows.start * row..rows.end * row);
        let bytes = bytes.unwrap_or_default();
        let mut values = match &self.scales {
            Some(scales) => {
                let across = self.columns.div_ceil(self.block[1]);
                let first = rows.start / self.block[0] * across;
                let count = rows.len().div_ceil(self.block[0]) * across;
                let scales = scales.get(first..first + count).unwrap_or_default();
                fp8::dequantize_block(bytes, scales, [rows.len(), self.columns], self.block)?
            }
            None => floats(&self.tensor, bytes)?,
        }; // [rows, in]
        if let Some(change) = self.change {
            change.add_to(rows.start, &mut values);
        }
        Ok(values)
    }

    /// One row as f32, changed if there is a change.
    fn row(&self, row: usize, values: &mut [f32]) -> Result<(), WeightsError> {
        let width = self.columns * self.tensor.dtype().size_bytes();
        let bytes = self.tensor.as_slice().get(row * width..(row + 1) * width);
        let bytes = bytes.unwrap_or_default();
        match &self.scales {
            Some(scales) => {
                let across = self.columns.div_ceil(self.block[1]);
                let scales = scales
                    .get(row / self.block[0] * across..)
                    .unwrap_or_default();
                fp8::dequantize_row(bytes, scales, self.block[1], values);
            }
            None if decode::into_f32(self.tensor.dtype(), bytes, values) => {}
            None => return Err(wrong_dtype(&self.tensor)),
        }
        if let Some(change) = self.change {
            change.add_to(row, values);
        }
        Ok(())
    }

    fn must_be_matrix(&self) -> Result<(), WeightsError> {
        if self.tensor.shape().len() == 2 {
            return Ok(());
        }
        Err(WeightsError::NotAMatrix {
            file: self.tensor.file().into(),
            tensor: shown(self.tensor.name()),
            found: self.tensor.shape().into(),
        })
    }

    /// Walks by whole rows of blocks: `each(first element, [rows, in], values)`.
    fn by_rows(
        &self,
        mut each: impl FnMut(usize, [usize; 2], &[f32]) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError> {
        self.must_be_matrix()?;
        for rows in self.chunks(CHUNK_ELEMENTS) {
            let (first, shape) = (rows.start * self.columns, [rows.len(), self.columns]);
            each(first, shape, &self.read(rows)?)?;
        }
        Ok(())
    }
}

fn copy(tensor: &TensorView<'_>, check: bool, sink: &mut Sink<'_>) -> Result<(), WeightsError> {
    let element = tensor.dtype().size_bytes();
    let mut first = 0;
    for bytes in tensor.as_slice().chunks(CHUNK_ELEMENTS * element) {
        if check {
            refuse_bytes_not_finite(tensor, first, bytes)?;
        }
        sink(0, (first * element) as u64, bytes.to_vec())?;
        first += bytes.len() / element;
    }
    Ok(())
}

/// fp8 codes, refusing the two that are NaN.
fn copy_codes(tensor: &TensorView<'_>, sink: &mut Sink<'_>) -> Result<(), WeightsError> {
    let mut first = 0;
    for codes in tensor.as_slice().chunks(CHUNK_ELEMENTS) {
        refuse_bytes_not_finite(tensor, first, codes)?;
        sink(0, first as u64, codes.to_vec())?;
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
        sink(0, (first * dtype.size_bytes()) as u64, out)?;
        first += values.len();
    }
    Ok(())
}

fn floats(tensor: &TensorView<'_>, bytes: &[u8]) -> Result<Vec<f32>, WeightsError> {
    decode::to_f32(tensor.dtype(), bytes).ok_or_else(|| wrong_dtype(tensor))
}

fn wrong_dtype(tensor: &TensorView<'_>) -> WeightsError {
    WeightsError::WrongDtype {
        file: tensor.file().into(),
        tensor: shown(tensor.name()),
        found: tensor.dtype(),
        expected: "F32, BF16, F16 and F8_E4M3",
    }
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
        Some(at) if at != usize::MAX => Err(tensor.not_finite(first + at)),
        _ => Ok(out),
    }
}

/// As [`refuse_not_finite`], of values that are not to be changed.
fn refuse_bytes_not_finite(
    tensor: &TensorView<'_>,
    first: usize,
    bytes: &[u8],
) -> Result<(), WeightsError> {
    match decode::first_not_finite(tensor.dtype(), bytes) {
        None => Err(wrong_dtype(tensor)),
        Some(None) => Ok(()),
        Some(Some(at)) => Err(tensor.not_finite(first + at)),
    }
}

fn refuse_not_finite(tensor: &TensorView<'_>, first: usize, x: &[f32]) -> Result<(), WeightsError> {
    match x.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(tensor.not_finite(first + at)),
        None => Ok(()),
    }
}

/// Also what is finite and too large for an f16 scale: it would become infinite.
fn refuse_not_packable(
    tensor: &TensorView<'_>,
    first: usize,
    x: &[f32],
) -> Result<(), WeightsError> {
    // All of them looked at: that is made vectors of.
    if x.iter().fold(true, |all, x| all & packable(*x)) {
        return Ok(());
    }
    let at = x.iter().position(|x| !packable(*x)).unwrap_or_default();
    Err(tensor.not_finite(first + at))
}

fn f32_bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}
