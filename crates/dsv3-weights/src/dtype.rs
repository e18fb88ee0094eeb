//! The element types that a safetensors header can name.

use std::fmt;

/// Element type of a stored tensor, under the names of the safetensors format.
///
/// Only the first four carry model weights; the others exist so that a checkpoint with foreign
/// tensors can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// The upper half of an `F32`.
    BF16,
    /// IEEE half precision.
    F16,
    /// 1 sign, 4 exponent, 3 mantissa bits; no infinity, maximum 448.
    F8E4M3,
    /// 1 sign, 5 exponent, 2 mantissa bits.
    F8E5M2,
    /// 8 exponent bits: a power of two, used for scales.
    F8E8M0,
    /// IEEE double precision.
    F64,
    /// A pair of `F32`: real and imaginary part.
    C64,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 64 bits.
    U64,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    const ALL: [(Self, &'static str, usize); 17] = [
        (Self::F32, "F32", 4),
        (Self::BF16, "BF16", 2),
        (Self::F16, "F16", 2),
        (Self::F8E4M3, "F8_E4M3", 1),
        (Self::F8E5M2, "F8_E5M2", 1),
        (Self::F8E8M0, "F8_E8M0", 1),
        (Self::F64, "F64", 8),
        (Self::C64, "C64", 8),
        (Self::I8, "I8", 1),
        (Self::U8, "U8", 1),
        (Self::I16, "I16", 2),
        (Self::U16, "U16", 2),
        (Self::I32, "I32", 4),
        (Self::U32, "U32", 4),
        (Self::I64, "I64", 8),
        (Self::U64, "U64", 8),
        (Self::Bool, "BOOL", 1),
    ];

    /// The dtype of this name in a safetensors header, if it is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, n, _)| *n == name)
            .map(|(d, _, _)| *d)
    }

    /// The name in a safetensors header, such as `F8_E4M3`.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Bytes per element.
    pub fn size_bytes(self) -> usize {
        Self::ALL[self as usize].2
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Dtype {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row out of order in the table would give every later dtype a wrong name or size.
    #[test]
    fn table_is_in_the_order_of_the_enum() {
        for (i, (dtype, name, _)) in Dtype::ALL.iter().enumerate() {
            assert_eq!(*dtype as usize, i);
            assert_eq!(dtype.name(), *name);
            assert_eq!(Dtype::from_name(name), Some(*dtype));
        }
        assert_eq!(Dtype::F8E4M3.size_bytes(), 1);
        assert_eq!(Dtype::BF16.size_bytes(), 2);
        assert_eq!(Dtype::F32.size_bytes(), 4);
        assert_eq!(Dtype::from_name("bf16"), None);
    }
}
