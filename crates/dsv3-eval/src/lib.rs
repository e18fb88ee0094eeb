//! How well a DeepSeek-V3 model does: held-out tasks, given to it turn by turn and scored by
//! exact answer, each rate with its count and a 95% interval.
//!
//! For whoever changes a model's weights, format or arithmetic and wants to know what that cost.
//! The same options give the same tasks, and decoding is greedy, so that two reports differ by
//! the models alone.
//!
//! It deliberately knows nothing of terminals, of files but through a checkpoint, or of training.
//!
//! ```
//! use dsv3_eval::Rate;
//!
//! let rate = Rate::new(190, 200);
//! assert!(rate.low > 0.91 && rate.high < 0.98); // Wilson's interval
//! ```

#![forbid(unsafe_code)]

mod details;
mod divergence;
mod episode;
mod error;
mod interval;
mod mtp;
mod prepared;
mod report;
mod score;
mod segments;
mod set;

pub use divergence::{CountedText, Divergence, divergence};
pub use episode::{Outcome, Progress, run};
pub use error::EvalError;
pub use interval::Rate;
pub use mtp::{WrittenText, acceptance, mtp_texts};
pub use prepared::{Prepared, PreparedTask};
pub use report::{Detail, Failure, Report, Score, Settings, Total};
pub use score::{Verdict, Written, score};
pub use set::{BURIED_LENGTHS, EvalSet, SetOptions, Task};
