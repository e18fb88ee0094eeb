//! The curves of a run as one SVG picture, for a model card or a browser.

use std::fmt::Write;

use crate::report::StepReport;
use crate::report::axis::{Axis, short};
use crate::report::load::worst;

/// Points of a curve. Longer runs are averaged: more than one a pixel only makes the file large.
const MAX_POINTS: usize = 600;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 534.0;
const LOSSES: Frame = Frame {
    left: 62.0,
    top: 40.0,
    width: 774.0,
    height: 282.0,
};
const RATE: Frame = Frame {
    left: 62.0,
    top: 394.0,
    width: 340.0,
    height: 94.0,
};
const LOAD: Frame = Frame {
    left: 496.0,
    top: 394.0,
    width: 340.0,
    height: 94.0,
};

/// Light, and dark where the reader's system is. Colours that stay apart for the colour-blind.
const STYLE: &str = "
text { font: 12px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 13px; }
.paper { fill: #ffffff; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.axis { stroke: #6e7781; stroke-width: 1; }
.curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.train { stroke: #0072b2; } .dot.train { fill: #0072b2; }
.mtp { stroke: #cc79a7; } .dot.mtp { fill: #cc79a7; }
.eval { stroke: #d55e00; } .dot.eval { fill: #d55e00; }
.rate { stroke: #009e73; } .dot.rate { fill: #009e73; }
.load { stroke: #8a6d00; } .dot.load { fill: #8a6d00; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.paper { fill: #0d1117; }
.grid { stroke: #2d333b; }
.axis { stroke: #8b949e; }
.train { stroke: #56b4e9; } .dot.train { fill: #56b4e9; }
.eval { stroke: #ff8c42; } .dot.eval { fill: #ff8c42; }
.rate { stroke: #2bc79a; } .dot.rate { fill: #2bc79a; }
.load { stroke: #f0e442; } .dot.load { fill: #f0e442; }
}
";

/// A place on the paper.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// Points `(tokens, value)` of one curve.
struct Curve {
    name: &'static str,
    class: &'static str,
    points: Vec<(f64, f64)>,
    /// Measured now and then: each point gets a dot.
    dots: bool,
}

/// Losses, learning rate and the busiest expert's load over the tokens seen. Takes reports of any
/// number, in order; numbers that are none are gaps.
pub fn curves_svg(reports: &[StepReport]) -> String {
    let curve = |name, class, dots, value: &dyn Fn(&StepReport) -> Option<f64>| Curve {
        name,
        class,
        points: thin(reports, value),
        dots,
    };
    let losses = [
        curve("training loss", "train", false, &|r| Some(r.loss)),
        curve("MTP loss", "mtp", false, &|r| r.mtp_loss),
        curve("held-out loss", "eval", true, &|r| r.eval_loss),
    ];
    let rate = curve("learning rate", "rate", false, &|r| Some(r.lr));
    let load = curve("load", "load", false, &|r| {
        worst(&r.expert_load).map(f64::from)
    });

    let end = reports.last().map_or(0, |report| report.tokens_seen) as f64;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n\
         <title>Training curves</title>\n<desc>{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
        description(reports),
    );
    let x = Axis::to_end(end, 8);
    let values = losses.iter().flat_map(|curve| curve.points.iter());
    let y = Axis::for_losses(values.map(|(_, value)| *value), 6);
    let title = match y.is_log() {
        true => "Loss (nats per token, logarithmic)",
        false => "Loss (nats per token)",
    };
    panel(&mut svg, LOSSES, &x, &y, title);
    for curve in &losses {
        draw(&mut svg, LOSSES, &x, &y, curve);
    }
    legend(&mut svg, &losses);

    let x = Axis::to_end(end, 4);
    for (frame, curve, title) in [
        (RATE, rate, "Learning rate"),
        (LOAD, load, "Busiest expert, times the mean"),
    ] {
        let y = Axis::from_zero(curve.points.iter().map(|(_, value)| *value), 3);
        panel(&mut svg, frame, &x, &y, title);
        draw(&mut svg, frame, &x, &y, &curve);
    }
    svg.push_str("</svg>\n");
    svg
}

fn description(reports: &[StepReport]) -> String {
    match reports.last() {
        Some(last) => format!(
            "Step {} of {}, {} tokens, training loss {:.4}.",
            last.step,
            last.total_steps,
            short(last.tokens_seen as f64),
            last.loss
        ),
        None => "No step has been done.".to_owned(),
    }
}

/// The points that a report has a value for. Neighbours are averaged where there are too many; a
/// stretch with a number that is none becomes none, so that it is seen.
fn thin(reports: &[StepReport], value: &dyn Fn(&StepReport) -> Option<f64>) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = reports
        .iter()
        .filter_map(|report| Some((report.tokens_seen as f64, value(report)?)))
        .collect();
    let size = all.len().div_ceil(MAX_POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let sum = points
            .iter()
            .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    all.chunks(size).map(mean).collect()
}

/// Title, grid, marks and their labels.
fn panel(svg: &mut String, frame: Frame, x: &Axis, y: &Axis, title: &str) {
    let Frame {
        left,
        top,
        width,
        height,
    } = frame;
    let (right, bottom) = (left + width, top + height);
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"{left}\" y=\"{}\">{title}</text>",
        top - 12.0
    );
    for tick in &y.ticks {
        let Some(place) = y.place(*tick) else {
            continue;
        };
        let at = bottom - place * height;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 7.0,
            at + 4.0,
            short(*tick)
        );
    }
    for tick in &x.ticks {
        let Some(place) = x.place(*tick) else {
            continue;
        };
        let at = left + place * width;
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 4.0,
            bottom + 18.0,
            short(*tick)
        );
    }
    let _ = writeln!(
        svg,
        "<line class=\"axis\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\
         <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">tokens seen</text>",
        left + width / 2.0,
        bottom + 36.0
    );
}

/// A curve, broken where a value is none.
fn draw(svg: &mut String, frame: Frame, x: &Axis, y: &Axis, curve: &Curve) {
    let class = curve.class;
    let mut path = String::new();
    let mut dots = String::new();
    let mut pen_down = false;
    for &(tokens, value) in &curve.points {
        let (Some(across), Some(up)) = (x.place(tokens), y.place(value)) else {
            pen_down = false;
            continue;
        };
        let px = frame.left + across * frame.width;
        let py = frame.top + (1.0 - up) * frame.height;
        let command = if pen_down { 'L' } else { 'M' };
        let _ = write!(path, "{command}{px:.1} {py:.1}");
        pen_down = true;
        // A single point has no line to be seen by.
        if curve.dots || curve.points.len() == 1 {
            let _ = write!(
                dots,
                "<circle class=\"dot {class}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"2.6\"/>"
            );
        }
    }
    if !path.is_empty() {
        let _ = writeln!(svg, "<path class=\"curve {class}\" d=\"{path}\"/>{dots}");
    }
}

/// The names of the curves that are there, at the upper right.
fn legend(svg: &mut String, curves: &[Curve]) {
    let shown: Vec<&Curve> = curves
        .iter()
        .filter(|curve| curve.points.iter().any(|(_, value)| value.is_finite()))
        .collect();
    let place = 128.0;
    let mut at = LOSSES.left + LOSSES.width - place * shown.len() as f64;
    let y = LOSSES.top - 16.0;
    for curve in shown {
        let _ = writeln!(
            svg,
            "<line class=\"curve {}\" x1=\"{at}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            curve.class,
            at + 22.0,
            at + 28.0,
            y + 4.0,
            curve.name
        );
        at += place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(steps: u64) -> Vec<StepReport> {
        (1..=steps)
            .map(|step| {
                let done = step as f64 / steps as f64;
                let loss = 0.1 + 8.2 * (-9.0 * done).exp();
                let wiggle = 1.0 + 0.06 * (step as f64 * 1.7).sin();
                let share = (0.06 + 0.2 * (-4.0 * done).exp()) as f32;
                let mut layer = vec![(1.0 - share) / 15.0; 15];
                layer.push(share);
                StepReport {
                    step,
                    total_steps: steps,
                    tokens_seen: step * 8192,
                    loss: loss * wiggle,
                    mtp_loss: Some(loss * 1.4 * wiggle),
                    lr: 3e-4 * (1.0 - done),
                    eval_loss: step
                        .is_multiple_of(steps.div_ceil(12))
                        .then_some(loss * 1.05),
                    expert_load: vec![vec![1.0 / 16.0; 16], layer],
                    ..StepReport::default()
                }
            })
            .collect()
    }

    /// Elements opened and closed in order, attributes quoted, text without stray marks: what an
    /// XML reader insists on. Returns the elements' names and the text between them.
    fn parse(xml: &str) -> (Vec<String>, String) {
        let (mut open, mut seen, mut text) = (Vec::new(), Vec::new(), String::new());
        let mut rest = xml;
        while let Some((before, after)) = rest.split_once('<') {
            assert!(!before.contains('>') && !before.contains('&'), "{before}");
            assert!(
                !open.is_empty() || before.trim().is_empty(),
                "text outside: {before}"
            );
            text.push_str(before);
            let (tag, after) = after.split_once('>').unwrap();
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            let (tag, empty) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            assert!(name.chars().all(|c| c.is_ascii_alphabetic()), "{name}");
            let mut names = std::collections::HashSet::new();
            while !attributes.is_empty() {
                let (key, value) = attributes.split_once("=\"").unwrap();
                assert!(names.insert(key.trim().to_owned()), "{key} twice in {name}");
                let (value, after) = value.split_once('"').unwrap();
                assert!(!value.contains(['<', '&']), "{value}");
                assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
                attributes = after;
            }
            seen.push(name.to_owned());
            if !empty {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        (seen, text)
    }

    // Breaks with: a picture that no browser opens, or a curve, legend or label that is missing.
    #[test]
    fn all_curves_are_drawn() {
        let svg = curves_svg(&run(5000));
        let (elements, text) = parse(&svg);
        assert_eq!(elements.iter().filter(|name| *name == "path").count(), 5);
        for label in [
            "training loss",
            "MTP loss",
            "held-out loss",
            "Learning rate",
            "Busiest expert",
            "logarithmic",
            "tokens seen",
            "10M",
            "0.5",
            "3e-4",
            "Step 5000 of 5000",
        ] {
            assert!(text.contains(label), "{label}");
        }
        assert!(svg.contains("prefers-color-scheme: dark"));
        assert!(svg.len() < 100_000, "{}", svg.len());
    }

    // Breaks with: a run without MTP, evaluation or a single step that can't be shown.
    #[test]
    fn little_is_drawn_too() {
        let (elements, text) = parse(&curves_svg(&[]));
        assert!(!elements.contains(&"path".to_owned()) && text.contains("No step"));
        let one = StepReport {
            step: 1,
            tokens_seen: 100,
            loss: 8.0,
            ..StepReport::default()
        };
        let (elements, text) = parse(&curves_svg(&[one]));
        assert!(elements.contains(&"circle".to_owned()));
        assert!(text.contains("training loss") && !text.contains("MTP loss"));
    }

    // Breaks with: a gap drawn as a straight line, so that a run seems never to have diverged.
    #[test]
    fn a_loss_that_is_no_number_is_a_gap() {
        let mut reports = run(9);
        reports[4].loss = f64::NAN;
        let svg = curves_svg(&reports);
        parse(&svg);
        let path = svg.split("curve train\" d=\"").nth(1).unwrap();
        assert_eq!(path.split('"').next().unwrap().matches('M').count(), 2);
    }

    proptest! {
        // Breaks with: numbers that lead to a malformed picture.
        #[test]
        fn attack_any_numbers(
            numbers in prop::collection::vec((any::<u64>(), any::<f64>(), any::<f64>(), any::<f32>()), 0..20),
        ) {
            let reports: Vec<StepReport> = numbers
                .into_iter()
                .map(|(tokens_seen, loss, other, share)| StepReport {
                    tokens_seen,
                    loss,
                    mtp_loss: Some(other),
                    eval_loss: Some(other),
                    lr: other,
                    expert_load: vec![vec![share, 1.0]],
                    ..StepReport::default()
                })
                .collect();
            parse(&curves_svg(&reports));
        }
    }
}
