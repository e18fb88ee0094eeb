//! What can be wrong with what a caller hands over.

/// An operand that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelsError {
    /// Bytes or values that don't fill the declared shape.
    #[error(
        "{what} has {found} elements where its shape needs {expected}; \
         check the shape against the file it came from"
    )]
    Length {
        /// What was handed over.
        what: &'static str,
        /// What the shape needs.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// Columns of a weight in groups that are no whole number of units.
    #[error(
        "{what} has {columns} columns; integer codes stand in units of 32: use a multiple of it"
    )]
    Columns {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        columns: usize,
    },
    /// Blocks without rows or columns.
    #[error(
        "blocks of {rows} × {columns} share a scale: neither may be 0; check weight_block_size"
    )]
    Block {
        /// Rows of a block.
        rows: usize,
        /// Columns of a block.
        columns: usize,
    },
    /// Factors of a low-rank change that are of another weight.
    #[error(
        "low-rank factors A {a:?} and B {b:?} don't fit a weight of shape {weight:?}: \
         A must be [r, in] and B [out, r]"
    )]
    LowRank {
        /// Shape of A.
        a: [usize; 2],
        /// Shape of B.
        b: [usize; 2],
        /// `[out, in]`
        weight: [usize; 2],
    },
}
