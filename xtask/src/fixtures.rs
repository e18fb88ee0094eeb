//! What ships in `fixtures/dsv3-tiny`, made again: the work is the binary `dsv3-tiny` of
//! dsv3-train, built for speed, which a chore's own build is not.

use anyhow::Result;
use clap::Args;

use crate::step::Step;

/// Make the small model's corpus, tokenizer and weights (`cargo xtask fixtures help` says how).
///
/// `corpus` writes examples as JSON lines, `tokenizer` trains the tokenizer, `train --run DIR`
/// trains the weights, or goes on with it, and writes them to fixtures/dsv3-tiny.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Fixtures {
    /// Handed on to the binary dsv3-tiny
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Fixtures {
    pub(crate) fn run(self) -> Result<()> {
        let mut step = Step::cargo("run --release --package dsv3-train --bin dsv3-tiny --");
        for arg in self.args {
            step = step.arg(arg);
        }
        step.run().map(drop)
    }
}
