//! Small tasks with known answers, generated from a seed, in DeepSeek-V3.1's chat format.
//!
//! For training the small model in `fixtures/dsv3-tiny` and for scoring any model on the part that
//! training never sees. An example is named by what it asks, and that name alone says whether it
//! is for training or held out, so the two can't meet whatever the seed.
//!
//! It deliberately knows nothing of tensors, engines or files.
//!
//! ```
//! use dsv3_tasks::{Check, Kind, Mode, Split, held_out};
//!
//! # fn main() -> Result<(), dsv3_tasks::TasksError> {
//! for example in held_out(Kind::Arithmetic, Mode::Think, 3, 0)? {
//!     assert_eq!(example.split, Split::HeldOut);
//!     let turn = &example.turns[0];
//!     assert!(matches!(turn.check, Check::Exact { .. }));
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod arithmetic;
mod buried;
mod chat;
mod check;
mod columns;
mod comparing;
mod conversation;
mod corpus;
mod counting;
mod dates;
mod draw;
mod error;
mod example;
mod facts;
mod fim;
mod generate;
mod history;
mod known;
mod length;
mod mix;
mod multi_turn;
mod names;
mod question;
mod reversing;
mod search;
mod sorting;
mod split;
mod system;
#[cfg(test)]
mod testing;
mod tools;
mod units;
mod vocabulary;
mod words;

pub use buried::buried_of_length;
pub use check::Check;
pub use corpus::{Corpus, held_out};
pub use draw::Draw;
pub use error::TasksError;
pub use example::{Example, Kind, Mode, Split, Turn};
pub use generate::{generate, modes};
pub use mix::Mix;
pub use vocabulary::{tokenizer_config, train_tokenizer};
