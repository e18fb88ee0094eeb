//! The log of a run: a [`StepReport`] as JSON on each line.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::TrainError;
use crate::lines::{Line, Lines};
use crate::report::StepReport;

/// A line is some kilobytes, for the largest model perhaps a hundred.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// A log that is being written. Each line is with the operating system once it is written.
#[derive(Debug)]
pub struct JsonLog {
    path: PathBuf,
    file: File,
}

impl JsonLog {
    /// A new log.
    ///
    /// # Errors
    /// [`TrainError::LogExists`] where there is a file already, [`TrainError::Write`].
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        match File::create_new(&path) {
            Ok(file) => Ok(JsonLog { path, file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(TrainError::LogExists { path })
            }
            Err(source) => Err(TrainError::Write { path, source }),
        }
    }

    /// The log of a run that goes on after `step` steps, and what it holds up to there. Later lines
    /// and one that was torn while it was written are taken off: the run makes them again. A log
    /// that isn't there is begun.
    ///
    /// # Errors
    /// [`TrainError::Log`] for a line that is no report, [`TrainError::Read`],
    /// [`TrainError::Write`].
    pub fn resume(
        path: impl Into<PathBuf>,
        step: u64,
    ) -> Result<(Self, Vec<StepReport>), TrainError> {
        let path = path.into();
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let failed = |source| TrainError::Write {
            path: path.clone(),
            source,
        };
        let mut file = opened.map_err(failed)?;
        let (reports, end) = read(&file, &path, step)?;
        file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::Start(end)).map_err(failed)?;
        Ok((JsonLog { path, file }, reports))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`TrainError::Write`].
    pub fn write(&mut self, report: &StepReport) -> Result<(), TrainError> {
        let mut write = || -> io::Result<()> {
            let mut line = serde_json::to_vec(report)?;
            line.push(b'\n');
            // In one piece: whoever follows the file sees whole lines.
            self.file.write_all(&line)?;
            self.file.flush()
        };
        write().map_err(|source| TrainError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// Reads a log. A last line that was torn while it was written is left out.
///
/// # Errors
/// [`TrainError::Log`] for a line that is no report, [`TrainError::Read`].
pub fn read_log(path: impl AsRef<Path>) -> Result<Vec<StepReport>, TrainError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| TrainError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(read(&file, path, u64::MAX)?.0)
}

/// The reports up to `step`, and the byte at which they end.
fn read(file: &File, path: &Path, step: u64) -> Result<(Vec<StepReport>, u64), TrainError> {
    let unreadable = |source| TrainError::Read {
        path: path.to_owned(),
        source,
    };
    let mut lines = Lines::new(BufReader::new(file), MAX_LINE_BYTES);
    let mut reports: Vec<StepReport> = Vec::new();
    let mut end = 0;
    while let Some(line) = lines.next_line().map_err(unreadable)? {
        let parsed = match line {
            Line::Bytes(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            Line::TooLong { bytes } => Err(format!("it has {bytes} bytes")),
        };
        if !lines.ended() {
            break;
        }
        let wrong = |problem: String| TrainError::Log {
            path: path.to_owned(),
            line: lines.number(),
            problem,
        };
        let report: StepReport = parsed.map_err(|problem| {
            wrong(format!(
                "no report of a step: {problem}. Move the file away to begin a new log"
            ))
        })?;
        if report.step > step {
            break;
        }
        if reports.last().is_some_and(|last| last.step >= report.step) {
            return Err(wrong(format!(
                "step {} comes after a later one. Did two runs write this file? Move it away to begin a new log",
                report.step
            )));
        }
        reports.push(report);
        end = lines.offset();
    }
    Ok((reports, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64) -> StepReport {
        StepReport {
            step,
            total_steps: 9,
            loss: 1.5,
            mtp_loss: Some(2.5),
            expert_load: vec![vec![0.25, 0.75]],
            ..StepReport::default()
        }
    }

    fn write(path: &Path, steps: std::ops::RangeInclusive<u64>) {
        let mut log = JsonLog::create(path).unwrap();
        steps.for_each(|step| log.write(&report(step)).unwrap());
    }

    // Breaks with: a resumed run whose log holds some steps twice, or lost some.
    #[test]
    fn resuming_cuts_what_will_be_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        write(&path, 1..=8);
        let (mut log, before) = JsonLog::resume(&path, 5).unwrap();
        assert_eq!(before, (1..=5).map(report).collect::<Vec<_>>());
        log.write(&report(6)).unwrap();
        assert_eq!(
            read_log(&path).unwrap(),
            (1..=6).map(report).collect::<Vec<_>>()
        );
        // Where it was killed before it logged, nothing is cut.
        let (_, before) = JsonLog::resume(&path, 100).unwrap();
        assert_eq!(before.len(), 6);
        let (_, before) = JsonLog::resume(dir.path().join("none"), 5).unwrap();
        assert!(before.is_empty());
    }

    // Breaks with: a run that can't be resumed because it was killed while it wrote a line, or a
    // new line glued to the torn one.
    #[test]
    fn a_torn_last_line_is_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        write(&path, 1..=3);
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, 2, 40] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(read_log(&path).unwrap().len(), 2);
            let (mut log, before) = JsonLog::resume(&path, 3).unwrap();
            assert_eq!(before.len(), 2);
            log.write(&report(3)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    // Breaks with: an earlier run's log overwritten without a word.
    #[test]
    fn an_earlier_log_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        write(&path, 1..=3);
        let error = JsonLog::create(&path).unwrap_err().to_string();
        assert!(
            error.contains("log.jsonl") && error.contains("Resume"),
            "{error}"
        );
        assert_eq!(read_log(&path).unwrap().len(), 3);
    }

    // Breaks with: a diverged run whose log can't be read any more.
    #[test]
    fn numbers_that_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = JsonLog::create(&path).unwrap();
        let mut bad = report(1);
        (bad.loss, bad.grad_norm) = (f64::NAN, f64::INFINITY);
        bad.mtp_loss = Some(f64::NAN);
        bad.expert_load = vec![vec![f32::NAN, 0.123_456]];
        log.write(&bad).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\"loss\":null") && text.contains("[[null,0.1235]]"),
            "{text}"
        );
        let read = &read_log(&path).unwrap()[0];
        assert!(read.loss.is_nan() && read.grad_norm.is_nan() && read.expert_load[0][0].is_nan());
    }

    // Breaks with: a file of another kind continued as if it were a log.
    #[test]
    fn attack_a_log_that_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let line = |step| serde_json::to_string(&report(step)).unwrap() + "\n";
        for (text, at) in [
            (line(1) + "{}\n", ":2: no report"),
            (line(1) + "\u{0}\n" + &line(2), ":2: no report"),
            ("[".repeat(1 << 20) + "\n", ":1: no report"),
            (line(2) + &line(1), ":2: step 1 comes after"),
            (line(2) + &line(2), ":2: step 2 comes after"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = JsonLog::resume(&path, 9).unwrap_err().to_string();
            assert!(error.contains(at), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
