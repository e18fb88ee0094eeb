//! The graph's parameters by the names of the published layout, for whoever moves them.

use burn::tensor::Tensor;
use dsv3_kernels::Weight;

use crate::embedding::Embedding;

/// One parameter, as its module holds it.
#[derive(Debug)]
pub enum ParameterMut<'a> {
    /// A linear layer's matrix `[out, in]`.
    Matrix(&'a mut Weight),
    /// A norm's weight or a router's correction bias `[n]`.
    Vector(&'a mut Tensor<1>),
    /// The table of token embeddings `[vocab, hidden]`.
    Embedding(&'a mut Embedding),
}

/// Is shown each parameter, under its name in the published layout.
pub type ParameterVisitor<'v> = dyn FnMut(&str, ParameterMut<'_>) + 'v;

/// Shows `visitor` a matrix.
pub(crate) fn matrix(visitor: &mut ParameterVisitor<'_>, name: &str, weight: &mut Weight) {
    visitor(name, ParameterMut::Matrix(weight));
}

/// Shows `visitor` the linear layer `{prefix}.weight`.
pub(crate) fn linear(
    visitor: &mut ParameterVisitor<'_>,
    prefix: &str,
    linear: &mut crate::linear::Linear,
) {
    matrix(visitor, &format!("{prefix}.weight"), &mut linear.weight);
}

/// Shows `visitor` the norm `{prefix}.weight`.
pub(crate) fn norm(
    visitor: &mut ParameterVisitor<'_>,
    prefix: &str,
    norm: &mut crate::norm::RMSNorm,
) {
    visitor(
        &format!("{prefix}.weight"),
        ParameterMut::Vector(norm.weight_mut()),
    );
}
