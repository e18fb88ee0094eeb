//! The report for people: as text, and as Markdown for where results are kept.

use dsv3_weights::human_bytes;

use super::measure::Kind;
use super::projection::{ProjectedRow, Projection};
use super::report::{Report, Row};
use crate::error::one_line;
use crate::machine;
use crate::output::table;

/// Columns that line up.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for [name, value] in about(report) {
        text += &format!("{name:<8} {value}\n");
    }
    if !report.rows.is_empty() {
        text += &format!("\n{}", table(&measured(report)));
    }
    if let Some(projection) = &report.projection {
        text += &format!("\n{}\n", title(projection));
        text += &table(&projected(report, projection));
    }
    for note in notes(report) {
        text += &format!("note: {note}\n");
    }
    text
}

/// Tables of Markdown.
pub(super) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    for [name, value] in about(report) {
        text += &format!("- {name}: {value}\n");
    }
    if !report.rows.is_empty() {
        text += &format!("\n{}", markdown_table(&measured(report)));
    }
    if let Some(projection) = &report.projection {
        text += &format!("\n{}\n\n", title(projection));
        text += &markdown_table(&projected(report, projection));
    }
    for note in notes(report) {
        text += &format!("\nNote: {note}\n");
    }
    text
}

fn markdown_table(rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text += &line(row);
        if number == 0 {
            let right = vec!["---:".to_owned(); row.len().saturating_sub(1)];
            text += &line(&[vec!["---".to_owned()], right].concat());
        }
    }
    text
}

/// Names and values of what the numbers belong to.
fn about(report: &Report) -> [[String; 2]; 4] {
    let (machine, subject) = (&report.machine, &report.subject);
    let cpu = machine.cpu.as_deref().unwrap_or(machine.architecture);
    let simd = machine.simd.join(" ");
    let limits = report.limits;
    let memory = match (limits.bandwidth_gb_s, report.bandwidth_median_gb_s) {
        (Some(best), Some(median)) => format!(
            "read at {best:.1} GB/s (median {median:.1}, {} a pass), measured {}",
            human_bytes(report.bandwidth_bytes.unwrap_or(0)),
            match report.limits_measured {
                1 => "once".into(),
                times => format!("{times} times"),
            }
        ),
        _ => "not measured".into(),
    };
    let halves = limits.bf16_product_gflop_s;
    let halves = halves.map_or(String::new(), |halves| format!(", {halves:.0} in bf16"));
    let product = match (limits.product_gflop_s, limits.integer_product_gop_s) {
        (Some(floats), Some(integers)) => format!(
            "{floats:.0} GFLOP/s in f32{halves}, {integers:.0} in int8, {} rows and columns",
            machine::PRODUCT
        ),
        _ => "not measured".into(),
    };
    let adapter = subject.adapter.as_ref();
    let adapter = adapter.map_or(String::new(), |dir| format!(" + {dir}"));
    let w8a8 = if subject.w8a8 { ", W8A8" } else { "" };
    let rows = [
        (
            "machine",
            format!(
                "{}, {} threads on {} cores, {simd}",
                one_line(cpu),
                machine.threads,
                machine.cores
            ),
        ),
        ("memory", memory),
        ("product", product),
        (
            "model",
            format!(
                "{}{adapter}, {} of weights on {}, {} activations{w8a8}, {} cache, prompts in passes of {}",
                subject.model,
                human_bytes(subject.weight_bytes),
                subject.device,
                subject.dtype,
                subject.cache,
                subject.batch_tokens
            ),
        ),
    ];
    rows.map(|(name, value)| [name.to_owned(), value])
}

fn header(cells: &[&str], priced: bool) -> Vec<String> {
    let price = priced.then_some("$ a million");
    let cells = cells.iter().copied().chain(price);
    cells.map(str::to_owned).collect()
}

fn measured(report: &Report) -> Vec<Vec<String>> {
    let columns = [
        "kind",
        "tokens",
        "depth",
        "batch",
        "tokens/s",
        "slowest",
        "fastest",
        "read a token",
        "GB/s",
        "of memory's",
        "GFLOP/s",
        "of f32's",
        "of bf16's",
        "of int8's",
    ];
    let mut rows = vec![header(&columns, report.cost.is_some())];
    for (number, row) in report.rows.iter().enumerate() {
        let cost = report.cost.as_ref().and_then(|cost| cost.rows.get(number));
        let cost = cost.map(|cost| dollars(cost.per_million_tokens));
        rows.push(cells(row).into_iter().chain(cost).collect());
    }
    rows
}

fn cells(row: &Row) -> Vec<String> {
    let speed = row.tokens_per_s;
    let share = |share: Option<f64>| match share {
        Some(share) => format!("{:.0} %", 100.0 * share),
        None => "-".into(),
    };
    vec![
        row.kind.name().to_owned(),
        row.tokens.to_string(),
        row.depth.to_string(),
        row.batch.to_string(),
        significant(speed.median),
        significant(speed.min),
        significant(speed.max),
        human_bytes(row.bytes_per_token as u64),
        significant(row.gb_per_s),
        share(row.bandwidth_share),
        significant(row.gflop_per_s),
        share(row.product_share),
        share(row.bf16_product_share),
        share(row.integer_product_share),
    ]
}

fn title(projection: &Projection) -> String {
    let memory = match projection.bandwidth_gb_s {
        Some(gb_s) => format!(", memory read at {gb_s:.1} GB/s"),
        None => String::new(),
    };
    format!(
        "Projected: {} in {}, {} of weights{memory}",
        projection.config,
        projection.format,
        human_bytes(projection.weight_bytes)
    )
}

fn projected(report: &Report, projection: &Projection) -> Vec<Vec<String>> {
    let columns = ["kind", "tokens", "depth", "tokens/s", "read a token"];
    let mut rows = vec![header(&columns, report.cost.is_some())];
    let cells = |row: &ProjectedRow| {
        let bytes = row.bytes_per_token.map(|bytes| human_bytes(bytes as u64));
        let always = [
            row.kind.name().to_owned(),
            row.tokens.to_string(),
            row.depth.to_string(),
            significant(row.tokens_per_s),
            bytes.unwrap_or_else(|| "-".into()),
        ];
        let cost = row.per_million_tokens.map(dollars);
        always.into_iter().chain(cost).collect()
    };
    rows.extend(projection.rows.iter().map(cells));
    rows
}

/// What a reader of the numbers must know.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |holds: bool, text: &str| {
        if holds {
            notes.push(text.to_owned());
        }
    };
    note(
        report.interrupted,
        "stopped by Ctrl-C; only what was measured by then is shown",
    );
    note(
        report.failed.is_some(),
        "a pass failed; only what was measured by then is shown",
    );
    note(
        !report.optimised_build,
        "this build is not optimised: build with --release for real speeds",
    );
    note(
        report.subject.fits_memory == Some(false),
        "weights and cache are more than the memory available: this measures the disk",
    );
    let above = |row: &Row| row.kind == Kind::Decode && row.bandwidth_share > Some(1.0);
    note(
        report.rows.iter().any(above),
        "faster than memory: what is read lies in the processor's caches",
    );
    if let Some(projection) = &report.projection {
        note(
            !projection.same_shapes,
            "the measured layers have other shapes than the projected ones; a slice of that model \
             (cargo xtask bench-model --slice) tells more",
        );
        note(
            projection.fits_memory == Some(false),
            "the projected model is more than the memory available here: it would run at the \
             disk's speed",
        );
    }
    notes
}

/// Three digits, or all in front of the point.
fn significant(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

fn dollars(value: f64) -> String {
    format!("{value:.2}")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    /// Breaks with: a column under another one's name, a number that is left out, a note that is
    /// not given or given without reason.
    #[test]
    fn text_and_markdown_say_the_same() {
        let mut report = report();
        let rows = machine::PRODUCT.to_string();
        report.optimised_build = true;
        report.add_cost(3.6);
        assert_eq!(
            text(&report),
            "\
machine  a processor, 2 threads on 4 cores, avx2
memory   read at 10.0 GB/s (median 7.0, 1.00 GiB a pass), measured 3 times
product  50 GFLOP/s in f32, 100 in bf16, 200 in int8, {rows} rows and columns
model    MODEL, 5.00 GiB of weights on cpu, f32 activations, f32 cache, prompts in passes of 512

kind    tokens  depth  batch  tokens/s  slowest  fastest  read a token  GB/s  of memory's  GFLOP/s  of f32's  of bf16's  of int8's  $ a million
decode       4    100      2      2.00     1.00     4.00      1.86 GiB  4.00         50 %     20.0      50 %       25 %       12 %       500.00
"
            .replace("{rows}", &rows)
        );
        report.interrupted = true;
        report.subject.fits_memory = Some(false);
        assert_eq!(
            markdown(&report),
            "\
- machine: a processor, 2 threads on 4 cores, avx2
- memory: read at 10.0 GB/s (median 7.0, 1.00 GiB a pass), measured 3 times
- product: 50 GFLOP/s in f32, 100 in bf16, 200 in int8, {rows} rows and columns
- model: MODEL, 5.00 GiB of weights on cpu, f32 activations, f32 cache, prompts in passes of 512

| kind | tokens | depth | batch | tokens/s | slowest | fastest | read a token | GB/s | of memory's | GFLOP/s | of f32's | of bf16's | of int8's | $ a million |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| decode | 4 | 100 | 2 | 2.00 | 1.00 | 4.00 | 1.86 GiB | 4.00 | 50 % | 20.0 | 50 % | 25 % | 12 % | 500.00 |

Note: stopped by Ctrl-C; only what was measured by then is shown

Note: weights and cache are more than the memory available: this measures the disk
"
            .replace("{rows}", &rows)
        );
    }

    /// Breaks with: digits that the measurement does not have, or a speed shown as zero.
    #[test]
    fn numbers_have_three_digits() {
        for (value, shown) in [
            (1234.4, "1234"),
            (45.678, "45.7"),
            (4.5678, "4.57"),
            (0.123_45, "0.123"),
        ] {
            assert_eq!(significant(value), shown);
        }
    }
}
