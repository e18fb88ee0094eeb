//! `dsv3 bench`

mod limits;
mod measure;
mod operations;
mod part;
mod projection;
mod report;
mod shown;
mod size;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use dsv3_kernels::DeviceSpec;

use self::limits::Gauge;
use self::projection::{Target, check_bandwidth};
use self::report::{Machine, Report, Subject};
use self::workload::Workload;
use crate::cli::{CacheFormat, Dtype, Global, LoadArgs};
use crate::error::{INTERRUPTED, usage};
use crate::output::{say, say_json};
use crate::{interrupt, machine, model};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dsv3 bench --model DeepSeek-V3.1 --prompt 512,2048 --depth 0,4096 --batch 1,8\n\
    The share of bandwidth is that of the bytes that the measured tokens must read, experts counted\n\
    as they were chosen, in what the memory gives to a plain loop just before or after.\n\
    docs/benchmarks.md says how everything is counted. Ctrl-C ends with what was measured so far."
)]
pub(crate) struct BenchArgs {
    /// Lengths of prompts; 0 for none
    #[arg(
        long,
        value_name = "N[,N]",
        value_delimiter = ',',
        default_value = "512"
    )]
    pub(crate) prompt: Vec<u32>,
    /// Tokens to decode in one measurement; 0 for none
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) decode: u32,
    /// Tokens that are in the cache before decoding begins
    #[arg(long, value_name = "D[,D]", value_delimiter = ',', default_value = "0")]
    pub(crate) depth: Vec<u32>,
    /// Sequences that run at once
    #[arg(long, value_name = "B[,B]", value_delimiter = ',', default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: Vec<u32>,
    /// Measurements of each kind, of which median, slowest and fastest are shown
    #[arg(long, value_name = "R", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// How to show it [default: text]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Price of an hour of this machine in dollars: adds dollars for a million tokens
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) cost_per_hour: Option<f64>,
    /// A config.json: what the model of that configuration would reach here
    #[arg(long, value_name = "CONFIG")]
    pub(crate) project: Option<PathBuf>,
    /// With --project: on a machine whose memory is read at N GB/s
    #[arg(
        long,
        value_name = "N",
        requires = "project",
        allow_negative_numbers = true
    )]
    pub(crate) bandwidth: Option<f64>,
    /// Tokens of one pass over prompts, of all sequences together
    #[arg(long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_tokens: u32,
    /// Format of activations
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// How the cache keeps its tokens [default: as --dtype]
    #[arg(long, value_enum)]
    pub(crate) cache: Option<CacheFormat>,
    /// Round activations to 8 bits in front of packed weights: fp8 in front of fp8, int8 in front of
    /// int8 and int4
    #[arg(long)]
    pub(crate) w8a8: bool,
    /// An adapter to apply: a folder that dsv3 finetune or PEFT wrote
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Markdown,
}

/// Measure a model's speed.
pub(crate) fn run(global: &Global, args: BenchArgs) -> anyhow::Result<ExitCode> {
    check_flags(global, &args)?;
    let workload = Workload::new(&args)?;
    let opened = model::open(global)?;
    let on_cpu = global.device == DeviceSpec::Cpu;
    let available = machine::memory().1;
    let load = LoadArgs {
        dtype: args.dtype,
        cache: args.cache,
        w8a8: args.w8a8,
        context: None,
        batch_tokens: Some(args.batch_tokens),
        adapter: args.adapter.clone(),
    };
    let cache = load.cache_format();
    workload.check_positions(opened.args(), &opened.dir)?;
    if let (true, Some(available)) = (on_cpu, available) {
        workload.check_memory(opened.args(), cache, available)?;
    }
    let target = args.project.as_ref();
    let target = target.map(|config| Target::open(config, opened.checkpoint(), cache));
    let target = target.transpose()?;
    if let Some(target) = &target {
        workload.check_projection(target)?;
    }

    // What a GPU reads is not this memory.
    let mut gauge = Gauge::new(on_cpu);
    check_bandwidth(args.bandwidth, gauge.best().bandwidth_gb_s)?;
    let weight_bytes = opened.checkpoint().data_bytes();
    let loaded = opened.load_model(global, &load)?;
    interrupt::install()?;
    let listening = interrupt::listen();
    let needed = weight_bytes.saturating_add(workload.cache_bytes(opened.args(), cache));
    if available.is_some_and(|bytes| needed.saturating_add(gauge.bytes()) > bytes) {
        gauge.stop();
    }
    let mut measured = Vec::new();
    let done = measure::run(&loaded, &workload, &listening, &mut gauge, &mut measured);
    let done = match done {
        Err(error) if measured.is_empty() => return Err(error),
        done => done,
    };
    let interrupted = listening.pressed();
    let subject = Subject {
        model: opened.dir.display().to_string(),
        adapter: args.adapter.map(|dir| dir.display().to_string()),
        device: global.device.to_string(),
        dtype: args.dtype.precision().name(),
        cache: cache.name(),
        w8a8: args.w8a8,
        batch_tokens: args.batch_tokens,
        weight_bytes,
        fits_memory: available.filter(|_| on_cpu).map(|bytes| needed <= bytes),
    };
    let mut report = Report::new(Machine::here(), subject, &gauge, &measured);
    report.interrupted = interrupted;
    report.failed = done.as_ref().err().map(|error| format!("{error:#}"));
    if let Some(target) = target {
        let here = gauge.best().bandwidth_gb_s;
        report.projection = Some(target.project(&measured, here, args.bandwidth, available));
    }
    if let Some(per_hour) = args.cost_per_hour {
        report.add_cost(per_hour);
    }
    match (global.json, args.format) {
        (true, _) => say_json(&report)?,
        (false, None | Some(Format::Text)) => say(&shown::text(&report))?,
        (false, Some(Format::Markdown)) => say(&shown::markdown(&report))?,
    }
    done?;
    Ok(match interrupted {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    })
}

/// What is wrong whatever the model.
fn check_flags(global: &Global, args: &BenchArgs) -> anyhow::Result<()> {
    if global.json && args.format.is_some() {
        return Err(usage(
            "--json and --format both say how to show it: leave one of them out",
        ));
    }
    for (flag, value) in [
        ("--cost-per-hour", args.cost_per_hour),
        ("--bandwidth", args.bandwidth),
    ] {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            return Err(usage(format!("{flag} is {value}: give a number above 0")));
        }
    }
    if args.project.is_some() && global.device != DeviceSpec::Cpu {
        return Err(usage(format!(
            "--project reckons with the processor's memory, which {} does not read: leave it out, \
             or measure with --device cpu",
            global.device
        )));
    }
    Ok(())
}
