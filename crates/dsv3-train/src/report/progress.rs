//! A run's progress on the terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::report::StepReport;
use crate::report::load::{picture, worst};

/// Shows each step on stderr: a bar with what is left, the losses, the speed, and how evenly the
/// experts are used. Where stderr is no terminal, one plain line every so many steps.
pub struct Progress {
    sink: Sink,
}

enum Sink {
    Bar(ProgressBar),
    Plain {
        out: Box<dyn Write + Send>,
        every: u64,
        /// The first report is always shown, so that a log shows at once that all is well.
        begun: bool,
    },
}

impl Progress {
    /// For a run of `total_steps` that has done `done` of them. `plain_every` counts the steps from
    /// one plain line to the next.
    pub fn new(total_steps: u64, done: u64, plain_every: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self::plain(Box::new(io::stderr()), plain_every);
        }
        let bar = ProgressBar::new(total_steps)
            .with_position(done)
            .with_finish(ProgressFinish::Abandon);
        // What was done before a resumption says nothing about how long the rest takes.
        bar.reset_eta();
        let template = "{bar:20} {human_pos}/{human_len} steps, {eta} left, {prefix}\n{msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress {
            sink: Sink::Bar(bar),
        }
    }

    /// Plain lines on `out`, one every so many steps.
    pub fn plain(out: Box<dyn Write + Send>, every: u64) -> Self {
        Progress {
            sink: Sink::Plain {
                out,
                every: every.max(1),
                begun: false,
            },
        }
    }

    /// Shows a step.
    pub fn step(&mut self, report: &StepReport) {
        match &mut self.sink {
            Sink::Bar(bar) => {
                let mut lines = vec![losses(report)];
                lines.extend(picture(&report.expert_load));
                bar.set_prefix(speed(report));
                bar.set_message(lines.join("\n"));
                bar.set_position(report.step);
                // Evaluations are rare and stay readable above the bar.
                if let Some(loss) = report.eval_loss {
                    bar.println(format!("step {}: eval loss {loss:.4}", report.step));
                }
            }
            Sink::Plain { out, every, begun } => {
                let due = report.step.is_multiple_of(*every)
                    || !*begun
                    || report.step == report.total_steps
                    || report.eval_loss.is_some();
                *begun = true;
                if due {
                    let (step, total) = (report.step, report.total_steps);
                    // A log that can't be written to must not end a training of days.
                    let _ = writeln!(out, "step {step}/{total}  {}", summary(report));
                }
            }
        }
    }

    /// Shows a line of text, such as that a checkpoint was written.
    pub fn note(&mut self, text: &str) {
        match &mut self.sink {
            Sink::Bar(bar) => bar.println(text),
            Sink::Plain { out, .. } => {
                let _ = writeln!(out, "{text}");
            }
        }
    }

    /// Leaves the last state on the terminal.
    pub fn finish(&mut self) {
        match &mut self.sink {
            Sink::Bar(bar) => bar.abandon(),
            Sink::Plain { out, .. } => {
                let _ = out.flush();
            }
        }
    }
}

/// All numbers in one line.
fn summary(report: &StepReport) -> String {
    if report.step == 0 {
        return losses(report);
    }
    let mut line = format!("{}  {}", losses(report), speed(report));
    if let Some(ratio) = worst(&report.expert_load) {
        let _ = write!(line, "  load {ratio:.2}x");
    }
    line
}

/// How well it learns. Short enough for 80 columns. Before the first step there is nothing but the
/// evaluation.
fn losses(report: &StepReport) -> String {
    if let (0, Some(eval)) = (report.step, report.eval_loss) {
        return format!("eval {eval:.4}");
    }
    let mut line = format!("loss {:.4}", report.loss);
    let optional = [
        ("mtp", report.mtp_loss),
        ("balance", report.balance_loss),
        ("eval", report.eval_loss),
    ];
    for (name, loss) in optional {
        if let Some(loss) = loss {
            let _ = write!(line, "  {name} {loss:.4}");
        }
    }
    let _ = write!(line, "  lr {:.2e}  grad {:.3}", report.lr, report.grad_norm);
    line
}

/// How fast it goes.
fn speed(report: &StepReport) -> String {
    let tokens = grouped(report.tokens_seen);
    format!("{:.0} tok/s  {tokens} tokens", report.tokens_per_s)
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn report(step: u64) -> StepReport {
        StepReport {
            step,
            total_steps: 25,
            tokens_seen: 1_234_567,
            loss: 2.5,
            lr: 0.00022,
            grad_norm: 0.8125,
            tokens_per_s: 2431.4,
            expert_load: vec![vec![0.5, 0.25, 0.25, 0.0]],
            ..StepReport::default()
        }
    }

    // Breaks with: a log that drowns in lines, or one that misses the first step, the last one or
    // an evaluation.
    #[test]
    fn plain_lines_are_few() {
        let out = Shared::default();
        let mut progress = Progress::plain(Box::new(out.clone()), 10);
        for step in 3..=25 {
            let mut report = report(step);
            report.eval_loss = (step == 14).then_some(2.25);
            progress.step(&report);
        }
        progress.note("saved");
        progress.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let steps: Vec<&str> = text.lines().filter_map(|l| l.split("  ").next()).collect();
        let expected = [
            "step 3/25",
            "step 10/25",
            "step 14/25",
            "step 20/25",
            "step 25/25",
            "saved",
        ];
        assert_eq!(steps, expected);
        assert!(text.contains("eval 2.2500"));
    }

    // Breaks with: a number of the report that isn't shown.
    #[test]
    fn a_line_has_all_numbers() {
        let line = summary(&report(7));
        let expected =
            "loss 2.5000  lr 2.20e-4  grad 0.812  2431 tok/s  1,234,567 tokens  load 2.00x";
        assert_eq!(line, expected);
        let mut full = report(7);
        full.mtp_loss = Some(3.0);
        full.balance_loss = Some(1.0);
        full.eval_loss = Some(2.0);
        let losses = losses(&full);
        assert!(losses.contains("mtp 3.0000  balance 1.0000  eval 2.0000"));
        assert!(losses.len() < 80, "{losses}");
    }

    // Breaks with: a loss of no step that looks like a run gone wrong, or a real NaN that is hidden.
    #[test]
    fn before_the_first_step_there_is_only_the_evaluation() {
        let mut first = StepReport {
            loss: f64::NAN,
            eval_loss: Some(3.5),
            ..StepReport::default()
        };
        assert_eq!(summary(&first), "eval 3.5000");
        first.step = 20;
        assert!(summary(&first).starts_with("loss NaN  eval 3.5000"));
    }

    // Breaks with: a comma in the wrong place, which makes a number another one.
    #[test]
    fn thousands_are_grouped_from_the_right() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
