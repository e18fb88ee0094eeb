//! Tests of several nouns together.

mod jsonl;
mod packing;
mod split;
