//! Matrix products over slices, through the `gemm` crate.
//!
//! Used where training and dequantised operands are concerned. Its sums depend on the machine's
//! instruction set and on the shapes, so inference on packed weights does not go through here.

/// A matrix that is read: `rows × columns` at `data[r · row_stride + c · column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Contiguous rows.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that begin `row_stride` apart.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Matrix {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Rows for columns.
    pub(super) fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Elements that it spans.
    fn span(&self) -> usize {
        match self.rows == 0 || self.columns == 0 {
            true => 0,
            false => {
                (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
            }
        }
    }
}

/// A matrix that is written: rows that begin `row_stride` apart.
pub(super) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Contiguous rows.
    pub(super) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that begin `row_stride ≥ columns` apart.
    pub(super) fn strided(
        data: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        MatrixMut {
            data,
            rows,
            columns,
            row_stride,
        }
    }
}

/// What becomes of the values that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// They are replaced, and need not have been set.
    Replace,
    /// The product is added to them.
    Add,
}

/// Who computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling thread.
    One,
    /// All of the pool.
    All,
}

/// `c = factor · a · b`, or `c += …`; `a [m, k]`, `b [k, n]`, `c [m, n]`.
///
/// # Panics
/// When the shapes don't fit each other or their slices: a fault of the calling kernel.
pub(super) fn product(
    c: MatrixMut<'_>,
    write: Write,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(
        b.rows == k && c.rows == m && c.columns == n && c.row_stride >= n,
        "product of [{m}, {k}] and [{}, {n}] into [{}, {}]",
        b.rows,
        c.rows,
        c.columns
    );
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        a.span() <= a.data.len()
            && b.span() <= b.data.len()
            && (m - 1) * c.row_stride + n <= c.data.len(),
        "a matrix is larger than its slice"
    );
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: the assertions above keep every element that `gemm` reads or writes inside its
    // slice; slices are shorter than `isize::MAX` elements, so the strides fit; `c` is a unique
    // borrow whose elements don't overlap, since its rows are at least `n` apart. With
    // `read_dst` false `c` is not read.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm::<f32>(
            m,
            n,
            k,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            write == Write::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: rows taken for columns, a stride ignored, a factor on the wrong operand.
    #[test]
    fn products_of_strided_and_transposed_matrices_are_right() {
        // a [2, 3] with rows 4 apart; b [3, 2] given as its transpose [2, 3]
        let a = [1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0];
        let mut c = [1.0, 1.0, 7.0, 1.0, 1.0];
        product(
            MatrixMut::strided(&mut c, 2, 2, 3),
            Write::Add,
            2.0,
            Matrix::strided(&a, 2, 3, 4),
            Matrix::new(&b, 2, 3).transposed(),
            Threads::One,
        );
        assert_eq!(c, [15.0, 11.0, 7.0, 33.0, 23.0]);
    }

    /// Breaks with: a missing length check in front of the raw pointers.
    #[test]
    #[should_panic(expected = "larger than its slice")]
    fn a_slice_that_is_too_short_is_refused() {
        let (a, b, mut c) = ([0.0; 5], [0.0; 6], [0.0; 4]);
        product(
            MatrixMut::new(&mut c, 2, 2),
            Write::Replace,
            1.0,
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 3, 2),
            Threads::One,
        );
    }
}
