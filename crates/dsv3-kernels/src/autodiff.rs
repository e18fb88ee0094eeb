//! Training: the stock bodies differentiate through Burn's own operations.
//!
//! A packed weight has no gradient (its bytes are integers); the gradient of what flows through
//! it does, since dequantisation, product and sum are stock operations.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, Backend};

use crate::ops::Dsv3Ops;

impl<B: Backend + Dsv3Ops, C: CheckpointStrategy> Dsv3Ops for Autodiff<B, C> {}
