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
}
