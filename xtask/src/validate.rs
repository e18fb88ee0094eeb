//! Everything that a change must pass, the cheapest check first.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::step::{Step, seconds};

/// The release that CI uses; `.ci/run` names the same.
const DENY_VERSION: &str = "0.20.2";

/// Check everything that a change must pass; stops at the first failure.
///
/// The steps, cheapest first: fmt, clippy, deny, test (with the documentation's examples), doc.
/// CI runs the same and then the wgpu suite and a cuda check (`.ci/run`).
#[derive(Args)]
pub(crate) struct Validate {
    /// Run these steps alone (may be repeated or a list a,b)
    #[arg(
        long,
        value_name = "STEP",
        value_delimiter = ',',
        conflicts_with = "skip"
    )]
    only: Vec<Check>,
    /// Leave these steps out (may be repeated or a list a,b)
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    skip: Vec<Check>,
    /// Install cargo-deny where it is missing
    #[arg(long)]
    install: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Formatting, as rustfmt wants it
    Fmt,
    /// Lints, all targets, warnings are errors
    Clippy,
    /// Licences, bans and sources of all dependencies (deny.toml)
    Deny,
    /// Unit tests, integration tests, documentation examples
    Test,
    /// The documentation builds without a warning
    Doc,
}

impl Check {
    fn step(self) -> Step {
        match self {
            Self::Fmt => Step::cargo("fmt --check"),
            Self::Clippy => Step::cargo("clippy --workspace --all-targets -- -D warnings"),
            Self::Deny => Step::cargo("deny check --hide-inclusion-graph licenses bans sources"),
            Self::Test => Step::cargo("test --workspace"),
            Self::Doc => {
                Step::cargo("doc --no-deps --workspace").env("RUSTDOCFLAGS", "-D warnings")
            }
        }
    }

    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Validate {
    pub(crate) fn run(self) -> Result<()> {
        let checks = self.checks();
        if checks.is_empty() {
            bail!("nothing is left to check: --skip names every step");
        }
        // Before anything long: who lacks the tool should not learn it after ten minutes.
        if checks.contains(&Check::Deny) {
            self.provide_deny()?;
        }
        let mut times = Vec::new();
        for (index, check) in checks.iter().enumerate() {
            let step = check.step();
            println!(
                "[{}/{}] {}: {}",
                index + 1,
                checks.len(),
                check.name(),
                step.line()
            );
            let time = step.run().with_context(|| {
                summary(&times);
                format!(
                    "step {} did not pass; mend it and go on with `cargo xtask validate --only {}`",
                    check.name(),
                    names(&checks[index..]),
                )
            })?;
            times.push((*check, time));
        }
        summary(&times);
        println!("all {} steps passed", checks.len());
        Ok(())
    }

    /// The steps asked for, in their order whatever the order on the command line.
    fn checks(&self) -> Vec<Check> {
        let wanted = |check: &Check| match self.only.is_empty() {
            true => !self.skip.contains(check),
            false => self.only.contains(check),
        };
        Check::value_variants()
            .iter()
            .copied()
            .filter(wanted)
            .collect()
    }

    fn provide_deny(&self) -> Result<()> {
        if Step::cargo("deny --version").succeeds() {
            return Ok(());
        }
        // Unoptimised: building it takes longer than all it will ever do.
        let install = Step::cargo(&format!(
            "install cargo-deny --version {DENY_VERSION} --locked"
        ))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
        if !self.install {
            bail!(
                "cargo-deny is missing. Install it with `cargo xtask validate --install` or \
                 `{}`, or leave it out with `--skip deny`",
                install.line()
            );
        }
        println!("installing cargo-deny: {}", install.line());
        install.run().map(|_| ())
    }
}

fn names(checks: &[Check]) -> String {
    let names: Vec<String> = checks.iter().map(|check| check.name()).collect();
    names.join(",")
}

fn summary(times: &[(Check, Duration)]) {
    println!();
    for (check, time) in times {
        println!("{:<8} {:>14}", check.name(), seconds(*time));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        validate: Validate,
    }

    fn checks(line: &str) -> Vec<Check> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().validate.checks()
    }

    // Breaks when a step is lost, or a dear one comes before a cheap one.
    #[test]
    fn steps_come_cheapest_first() {
        use Check::{Clippy, Deny, Doc, Fmt, Test};
        assert_eq!(checks(""), [Fmt, Clippy, Deny, Test, Doc]);
        assert_eq!(checks("--only doc,fmt"), [Fmt, Doc]);
        assert_eq!(checks("--skip test --skip doc"), [Fmt, Clippy, Deny]);
    }

    // Breaks when a misspelt step is silently not run.
    #[test]
    fn unknown_steps_are_refused() {
        assert!(Line::try_parse_from(["x", "--only", "tests"]).is_err());
        assert!(Line::try_parse_from(["x", "--only", "fmt", "--skip", "doc"]).is_err());
    }

    // Breaks when CI and this chore check different things.
    #[test]
    fn ci_runs_the_same_commands() {
        let ci = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/run");
        let ci = std::fs::read_to_string(ci).unwrap();
        for check in Check::value_variants() {
            let line = check.step().line();
            assert!(ci.contains(&line), "{line} is not in .ci/run");
        }
        assert!(ci.contains(&format!("deny_version={DENY_VERSION}")));
    }
}
