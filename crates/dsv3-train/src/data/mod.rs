//! What is trained on: from examples and conversations to batches.

mod conversation;
mod dataset;
mod hash;
mod jsonl;
mod messages;
mod packing;
mod sequence;
mod source;
#[cfg(test)]
mod tests;

pub use conversation::ConversationOptions;
pub use dataset::{BadLine, Dataset};
pub(crate) use hash::{ContentHash, hash_text};
pub use jsonl::{MAX_LINE_BYTES, OnBadLine, read_jsonl};
pub use messages::example_messages;
pub use packing::{PackedBatch, PackedForward, Packer, PackingOptions, PackingPosition, Targets};
pub use sequence::TrainSequence;
pub use source::{CorpusSource, DatasetSource, Source, SourcePosition};
