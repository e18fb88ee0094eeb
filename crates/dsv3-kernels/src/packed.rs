//! Weights as the operations see them: backend primitives, plain or packed.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    ExtensionType,
};

/// A 16-bit float format in which a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfFormat {
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// How a row of integer codes with group scales lies in memory.
///
/// From `offset` on first the codes, then one f16 scale for each `columns` columns. What else is in
/// the row's `row_bytes` belongs to others: padding, or another weight's row, where two weights that
/// are read together stand row by row beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFormat {
    /// The codes.
    pub codes: GroupCodes,
    /// Columns that share a scale: a multiple of 32.
    pub columns: usize,
    /// Bytes from one row to the next.
    pub row_bytes: usize,
    /// Bytes before a row's codes.
    pub offset: usize,
}

/// Integer codes of a weight; the input dimension is a multiple of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupCodes {
    /// i8: value = code · scale.
    Int8,
    /// Four bits: value = (code − 8) · scale. Of the 16 bytes for 32 columns, byte `i` has column
    /// `i` in its lower half and column `16 + i` in its upper one.
    Int4,
}

/// Columns that are coded together.
pub(crate) const GROUP_UNIT: usize = 32;

impl GroupFormat {
    /// Bytes of a row's codes.
    pub(crate) fn code_bytes(&self, input: usize) -> usize {
        match self.codes {
            GroupCodes::Int8 => input,
            GroupCodes::Int4 => input / 2,
        }
    }

    /// What the codes without signs lie above those with: value = (code − zero) · scale.
    pub(crate) fn zero(&self) -> i32 {
        match self.codes {
            GroupCodes::Int8 => 128,
            GroupCodes::Int4 => 8,
        }
    }

    /// Whether activations in whole numbers are the same in front of both.
    pub(crate) fn rounds_as(&self, other: &GroupFormat) -> bool {
        (self.columns, self.codes) == (other.columns, other.codes)
    }

    /// Scales of a row.
    pub(crate) fn scales(&self, input: usize) -> usize {
        input.div_ceil(self.columns)
    }
}

/// How a linear layer treats its input before it meets a packed weight.
///
/// DeepSeek trained with activations quantised as well (W8A8, DeepSeek-V3 report §3.3.2);
/// dequantising the weight alone is slightly more exact and is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As they come.
    #[default]
    Full,
    /// Rounded to 8 bits for each token and group along the input, with one scale each
    /// (`activation_scheme: dynamic`): in front of an fp8 weight to e4m3 in groups of 128, in front
    /// of integer codes to i8 in the groups of the weight, so that whole numbers are multiplied.
    /// Other weights take them as they come.
    EightBits {
        /// Whether the scales of e4m3 are powers of two (`scale_fmt: ue8m0`).
        ue8m0: bool,
    },
}

/// One weight matrix `[out, in]`, row-major, as the operations take it.
///
/// `data` holds the checkpoint's bytes: on the CPU as `U8 [out, in · size]`, possibly a view of
/// the mapped file; on other devices as little-endian `U32 [out, ⌈in · size / 4⌉]`, rows padded
/// with zeros, because not every shader language has bytes.
#[derive(Clone, Debug, ExtensionType)]
pub enum Packed<B: Backend> {
    /// A float tensor `[out, in]`, which training can move.
    Plain {
        /// `[out, in]`
        weight: FloatTensor<B>,
    },
    /// 16-bit floats, two bytes each.
    Half {
        /// The bytes.
        data: IntTensor<B>,
        /// Their meaning.
        format: HalfFormat,
        /// `[out, in]`
        shape: [usize; 2],
    },
    /// e4m3 bytes with one f32 scale a block; value = e4m3 · scale.
    Fp8Block {
        /// The bytes.
        data: IntTensor<B>,
        /// `[⌈out / block[0]⌉, ⌈in / block[1]⌉]` f32
        scale: FloatTensor<B>,
        /// Rows and columns of a block (`weight_block_size`).
        block: [usize; 2],
        /// `[out, in]`
        shape: [usize; 2],
    },
    /// Integer codes and, behind each row's, the scales of its groups.
    Group {
        /// The bytes, `[out, row_bytes]`.
        data: IntTensor<B>,
        /// Their meaning.
        format: GroupFormat,
        /// `[out, in]`
        shape: [usize; 2],
    },
}

impl<B: Backend> Packed<B> {
    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Packed::Plain { weight } => {
                let shape = burn::backend::TensorMetadata::shape(weight);
                [shape[0], shape[1]]
            }
            Packed::Half { shape, .. }
            | Packed::Fp8Block { shape, .. }
            | Packed::Group { shape, .. } => *shape,
        }
    }
}

/// One SwiGLU expert.
#[derive(Clone, Debug, ExtensionType)]
pub struct Expert<B: Backend> {
    /// `[moe_inter, hidden]`
    #[extension_type]
    pub gate: Packed<B>,
    /// `[moe_inter, hidden]`
    #[extension_type]
    pub up: Packed<B>,
    /// `[hidden, moe_inter]`
    #[extension_type]
    pub down: Packed<B>,
}

/// The routed experts of one layer, in the order of their ids.
///
/// A list, because the published checkpoint keeps every expert's matrices apart, wherever a
/// shard put them: stacking them would copy what the map gives for nothing.
#[derive(Clone, Debug)]
pub struct Experts<B: Backend>(pub Vec<Expert<B>>);

// The derive knows single tensors and nested values; a list of nested values is this.
impl<B: Backend> ExtensionType<B> for Experts<B> {
    type Target = Experts<Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Self::Target
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        Experts(
            self.0
                .into_iter()
                .map(|e| e.map_to_dispatch(&map_kind, autodiff))
                .collect(),
        )
    }

    fn map_from_dispatch<F>(target: Self::Target, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        Experts(
            target
                .0
                .into_iter()
                .map(|e| Expert::map_from_dispatch(e, &unwrap_kind))
                .collect(),
        )
    }

    fn routing_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target
            .0
            .first()
            .and_then(<Expert<B> as ExtensionType<B>>::routing_tensor)
    }

    fn routing_float_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target
            .0
            .first()
            .and_then(<Expert<B> as ExtensionType<B>>::routing_float_tensor)
    }

    fn autodiff_context(target: &Self::Target) -> DispatchAutodiffContext {
        target
            .0
            .iter()
            .fold(DispatchAutodiffContext::Disabled, |context, e| {
                context.merge(<Expert<B> as ExtensionType<B>>::autodiff_context(e))
            })
    }
}

/// What [`packed_linear_pair`](crate::Dsv3Ops::packed_linear_pair) gives.
#[derive(Clone, Debug, ExtensionType)]
pub struct Pair<B: Backend> {
    /// Of the first weight, `[T, out]`.
    pub first: FloatTensor<B>,
    /// Of the second one, `[T, out]`.
    pub second: FloatTensor<B>,
}

/// What [`route`](crate::Dsv3Ops::route) chose for each token.
#[derive(Clone, Debug, ExtensionType)]
pub struct Routed<B: Backend> {
    /// Expert ids `[tokens, k]`, best first.
    pub ids: IntTensor<B>,
    /// Their weights `[tokens, k]`, f32.
    pub weights: FloatTensor<B>,
}
