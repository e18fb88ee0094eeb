//! Files that lie. Each attack has its own error, which names what is wrong and where; none may
//! panic. See `fixtures/hostile/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

#[path = "../common/mod.rs"]
mod common;

use common::file_bytes;
use dsv3_weights::{Header, WeightsError};

/// Parses a header text in front of so many zero bytes of data.
pub(crate) fn parse(header: &str, data: usize) -> Result<Header, WeightsError> {
    let bytes = file_bytes(header, &vec![0; data]);
    let header = Header::parse(&bytes, bytes.len() as u64);
    if let Err(e) = &header {
        let message = e.to_string();
        assert!(message.len() < 1000, "a message of {} bytes", message.len());
        assert!(
            !message.contains('\u{1b}'),
            "control characters pass through"
        );
    }
    header
}

/// Asserts the variant and that the message contains every one of these words.
macro_rules! refused {
    ($result:expr, $variant:pat $(if $guard:expr)?, $($word:expr),*) => {
        match $result {
            Err(e) => {
                let message = e.to_string();
                assert!(matches!(&e, $variant $(if $guard)?), "{e:?}");
                $(assert!(message.contains($word), "`{}` is not in: {message}", $word);)*
            }
            Ok(_) => panic!("accepted"),
        }
    };
}

mod anything;
mod folders;
mod headers;
mod names;
mod packed;
mod scales;
mod values;
