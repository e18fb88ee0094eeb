//! Small tasks with known answers, generated from a seed, in DeepSeek-V3.1's chat format.
//!
//! For training the small model in `fixtures/dsv3-tiny` and for scoring any model on the part that
//! training never sees. An example is named by what it asks, and that name alone says whether it
//! is for training or held out, so the two can't meet whatever the seed.
//!
//! It deliberately knows nothing of tensors, engines or files.

#![forbid(unsafe_code)]

mod arithmetic;
mod chat;
mod check;
mod corpus;
mod draw;
mod error;
mod example;
mod generate;
mod mix;
mod question;
mod split;

pub use check::Check;
pub use corpus::{Corpus, held_out};
pub use draw::Draw;
pub use error::TasksError;
pub use example::{Example, Kind, Mode, Split, Turn};
pub use generate::{generate, modes};
pub use mix::Mix;
