//! int8 and int4 with a scale for each group of columns.
//!
//! A weight `[out, in]` is a tensor of rows `[out, row_bytes]`. A row holds its codes, then an f16
//! scale (little-endian) for each group of columns, then zeros up to a multiple of 64 bytes, so
//! that a row is one stretch of memory and every row of a file that starts well does too.
//!
//! - int8: one byte a column, `value = code · scale`, codes from −127 to 127.
//! - int4: 32 columns are 16 bytes; byte i has column i's code in its low half and column 16 + i's
//!   in its high half. `value = (code − 8) · scale`, codes from 0 to 15. A scale may be negative,
//!   so that the largest magnitude of a group, whatever its sign, can be the eighth step.
//!
//! Scales lie between the codes, so opening a file does not look at them: one that is not finite
//! makes its values NaN and nothing else.

use half::f16;
use rayon::prelude::*;

use crate::WeightsError;

mod f16_bits;
mod fit;
mod quantize;

pub(crate) use quantize::{Scales, check_importance, pack_row, packable};
pub use quantize::{quantize_group, quantize_group_fitted};

/// Columns of one int4 unit; groups and input dimensions are multiples of it.
pub const UNIT: usize = 32;

/// A row's length in bytes is a multiple of this.
pub const ROW_ALIGN: usize = 64;

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBits {
    /// 8: codes from −127 to 127.
    Int8,
    /// 4: codes from −8 to 7.
    Int4,
}

impl GroupBits {
    /// The name in metadata, recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Columns of a group unless something else is asked for. In int4 groups of 64 would save a
    /// quarter of a bit of 4.5 for 11 % more error, which int4 cannot spare; int8's error is a
    /// sixteenth of that, so there the quarter bit is saved (docs/notebook.md, "int8 and int4").
    pub fn default_group(self) -> usize {
        match self {
            Self::Int8 => 64,
            Self::Int4 => 32,
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Int8, Self::Int4]
            .into_iter()
            .find(|b| b.name() == name)
    }
}

/// How the rows of a packed weight are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct GroupFormat {
    bits: GroupBits,
    group: usize,
}

impl GroupFormat {
    /// Codes of `bits` with a scale for each `group` columns.
    ///
    /// # Errors
    /// [`WeightsError::BadOption`] unless `group` is a multiple of 32 from 32 to 65,536.
    pub fn new(bits: GroupBits, group: usize) -> Result<Self, WeightsError> {
        if group == 0 || !group.is_multiple_of(UNIT) || group > MAX_GROUP {
            return Err(WeightsError::BadOption {
                option: "group",
                problem: format!("is {group}; choose a multiple of 32 from 32 to {MAX_GROUP}"),
            });
        }
        Ok(Self { bits, group })
    }

    /// `bits` with its default group.
    pub fn of(bits: GroupBits) -> Self {
        let group = bits.default_group();
        Self { bits, group }
    }

    /// Bits of a code.
    pub fn bits(self) -> GroupBits {
        self.bits
    }

    /// Columns that share a scale.
    pub fn group(self) -> usize {
        self.group
    }

    /// Whether a weight with so many columns can be packed.
    pub fn fits(columns: usize) -> bool {
        columns > 0 && columns.is_multiple_of(UNIT)
    }

    /// Bytes of a row's codes.
    pub fn code_bytes(self, columns: usize) -> usize {
        match self.bits {
            GroupBits::Int8 => columns,
            GroupBits::Int4 => columns / 2,
        }
    }

    /// Scales of a row; the last may be for fewer columns than the others.
    pub fn scales(self, columns: usize) -> usize {
        columns.div_ceil(self.group)
    }

    /// Bytes of a row: codes, scales, padding.
    pub fn row_bytes(self, columns: usize) -> usize {
        (self.code_bytes(columns) + 2 * self.scales(columns)).next_multiple_of(ROW_ALIGN)
    }
}

impl std::fmt::Display for GroupFormat {
    /// `int4/32`: codes, and columns of a group.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.bits.name(), self.group)
    }
}

/// The largest group; rows are not longer in any model of this architecture.
const MAX_GROUP: usize = 1 << 16;

/// The values of packed rows, `[out, in]`: the slow, obvious form, and the oracle of the kernels.
///
/// # Errors
/// [`WeightsError::WrongLength`] if the bytes are not those of `shape`, or the input dimension is
/// no multiple of 32.
pub fn dequantize_group(
    rows: &[u8], // [out, row_bytes]
    shape: [usize; 2],
    format: GroupFormat,
) -> Result<Vec<f32>, WeightsError> {
    let [out, columns] = shape;
    check_columns(columns)?;
    let row_bytes = format.row_bytes(columns);
    let expected = out.saturating_mul(row_bytes);
    if rows.len() != expected {
        return Err(WeightsError::WrongLength {
            what: "bytes of packed rows",
            expected,
            given: rows.len(),
        });
    }
    let mut values = vec![0.0; out * columns]; // [out, in]
    values
        .par_chunks_mut(columns)
        .zip(rows.par_chunks(row_bytes))
        .for_each(|(values, row)| unpack_row(row, format, values));
    Ok(values)
}

/// One row's values.
fn unpack_row(row: &[u8], format: GroupFormat, values: &mut [f32]) {
    let (codes, rest) = row.split_at(format.code_bytes(values.len()));
    match format.bits {
        GroupBits::Int8 => {
            for (value, code) in values.iter_mut().zip(codes) {
                *value = f32::from(code.cast_signed());
            }
        }
        GroupBits::Int4 => {
            for (unit, bytes) in values.chunks_mut(UNIT).zip(codes.chunks(UNIT / 2)) {
                let (low, high) = unit.split_at_mut(UNIT / 2);
                for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
                    *low = f32::from(byte & 15) - 8.0;
                    *high = f32::from(byte >> 4) - 8.0;
                }
            }
        }
    }
    let (scales, _) = rest.as_chunks::<2>();
    for (group, scale) in values.chunks_mut(format.group).zip(scales) {
        let scale = f16::from_le_bytes(*scale).to_f32();
        group.iter_mut().for_each(|value| *value *= scale);
    }
}

fn check_columns(columns: usize) -> Result<(), WeightsError> {
    if GroupFormat::fits(columns) {
        return Ok(());
    }
    Err(WeightsError::WrongLength {
        what: "input dimension of a packed weight (a multiple of 32)",
        expected: columns.next_multiple_of(UNIT).max(UNIT),
        given: columns,
    })
}
