//! Tests of several nouns together.

mod jsonl;
mod messages;
mod packing;
mod split;
