//! One external command of a chore, shown before it runs and timed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A command with what it adds to the environment.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    program: OsString,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Step {
    /// A command of the cargo that runs this chore, written as on a command line. Arguments are
    /// split at spaces.
    pub(crate) fn cargo(line: &str) -> Self {
        Self::program(cargo(), line)
    }

    pub(crate) fn program(program: impl Into<OsString>, line: &str) -> Self {
        let args = line.split_whitespace().map(str::to_owned).collect();
        Self {
            program: program.into(),
            args,
            env: Vec::new(),
        }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// An argument that may hold spaces, a path for instance.
    pub(crate) fn arg(mut self, arg: impl AsRef<Path>) -> Self {
        self.args.push(arg.as_ref().display().to_string());
        self
    }

    /// The line that a person would type to run this step alone.
    pub(crate) fn line(&self) -> String {
        let quoted = |text: &str| match text.contains(' ') {
            true => format!("\"{text}\""),
            false => text.to_owned(),
        };
        let name = Path::new(&self.program).file_stem().unwrap_or_default();
        let env = self.env.iter().map(|(k, v)| format!("{k}={}", quoted(v)));
        let args = self.args.iter().map(|arg| quoted(arg));
        let words: Vec<String> = env
            .chain([name.to_string_lossy().into_owned()])
            .chain(args)
            .collect();
        words.join(" ")
    }

    /// Runs in the workspace's root, with this program's own output and input.
    pub(crate) fn run(&self) -> Result<Duration> {
        let start = Instant::now();
        let status = self
            .command()
            .status()
            .with_context(|| format!("cannot start `{}`", self.line()))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.line());
        }
        Ok(start.elapsed())
    }

    /// Runs and returns what it wrote to standard output.
    pub(crate) fn output(&self) -> Result<Vec<u8>> {
        let output = self
            .command()
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{}`", self.line()))?;
        if !output.status.success() {
            bail!("`{}` failed ({})", self.line(), output.status);
        }
        Ok(output.stdout)
    }

    /// Whether it runs and succeeds, without a word.
    pub(crate) fn succeeds(&self) -> bool {
        self.command().output().is_ok_and(|o| o.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(root());
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }
}

/// Cargo says where it is to what it starts; outside of it the name must do.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The workspace's root if it is still where this program was built, else the current folder.
pub(crate) fn root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    match built {
        Some(root) if root.is_dir() => root.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A time as people read it.
pub(crate) fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    match tenths / 600 {
        0 => format!("{}.{} s", tenths / 10, tenths % 10),
        minutes => format!("{minutes} min {:02} s", tenths / 10 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Breaks when the printed line can't be pasted to run a failed step again.
    #[test]
    fn a_line_can_be_typed() {
        let step = Step::program("/opt/bin/cargo", "doc --no-deps")
            .env("RUSTDOCFLAGS", "-D warnings")
            .arg("two words");
        assert_eq!(
            step.line(),
            r#"RUSTDOCFLAGS="-D warnings" cargo doc --no-deps "two words""#
        );
    }

    // Breaks when a failing command passes for a success, or a missing one is not named.
    #[test]
    fn failures_are_told() {
        assert!(Step::program("true", "").run().is_ok());
        let error = Step::program("false", "now").run().unwrap_err();
        assert!(
            error.to_string().starts_with("`false now` failed"),
            "{error}"
        );
        let missing = Step::program("no-such-program-here", "").run().unwrap_err();
        assert_eq!(missing.to_string(), "cannot start `no-such-program-here`");
    }

    // Breaks when minutes and seconds are mixed up in the summary.
    #[test]
    fn times_are_readable() {
        let shown = |ms| seconds(Duration::from_millis(ms));
        assert_eq!(shown(0), "0.0 s");
        assert_eq!(shown(59_960), "59.9 s");
        assert_eq!(shown(60_000), "1 min 00 s");
        assert_eq!(shown(754_200), "12 min 34 s");
    }
}
