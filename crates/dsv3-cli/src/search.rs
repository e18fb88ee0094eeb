//! Search without a network: a folder of pages on this machine, found by their words.

mod bm25;
mod library;
mod passages;

pub(crate) use library::Library;
