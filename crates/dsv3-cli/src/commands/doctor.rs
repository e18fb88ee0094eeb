//! `dsv3 doctor`

use dsv3_kernels::DeviceSpec;
use dsv3_weights::{Checkpoint, Inventory, Plan, PlanFormat, PlanOptions, human_bytes};
use serde::Serialize;

use crate::cli::Global;
use crate::machine::MemoryRead;
use crate::output::{say, say_json};
use crate::{device, machine};

/// What there is, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    architecture: &'static str,
    /// Timings of a build without optimisation say little of the machine.
    optimised_build: bool,
    cores: usize,
    threads: usize,
    simd: Vec<&'static str>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    memory_read_gb_s: Option<f64>,
    devices: Vec<DeviceReport>,
    model: Option<ModelReport>,
}

#[derive(Debug, Serialize)]
struct DeviceReport {
    device: String,
    usable: bool,
    problem: Option<String>,
}

/// What a checkpoint would need here.
#[derive(Debug, Serialize)]
struct ModelReport {
    weight_bytes: u64,
    /// Weights, workspace and the cache of 4096 tokens.
    required_bytes: u64,
    fits_in_available_memory: Option<bool>,
    weight_bytes_read_per_token: u64,
    /// The memory's speed divided by those bytes: no decoder is faster at one sequence.
    decode_tok_s_at_most: Option<f64>,
    disk_read_gb_s: Option<f64>,
    disk_read_bytes: Option<u64>,
    /// Whether the operating system may have had the file in memory already.
    disk_read_may_be_cached: bool,
}

/// Say what there is.
pub(crate) fn run(global: &Global) -> anyhow::Result<()> {
    let (memory_bytes, available) = machine::memory();
    let memory_read = machine::memory_read(available);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        architecture: std::env::consts::ARCH,
        optimised_build: !cfg!(debug_assertions),
        cores: machine::cores(),
        threads: rayon::current_num_threads(),
        simd: machine::simd(),
        memory_bytes,
        memory_available_bytes: available,
        devices: devices(),
        model: match &global.model {
            Some(dir) => Some(model(&Checkpoint::open(dir)?, available, memory_read)?),
            None => None,
        },
        memory_read_gb_s: memory_read.map(|read| read.best_gb_s),
    };
    match global.json {
        true => say_json(&report),
        false => say(&text(&report)),
    }
}

fn devices() -> Vec<DeviceReport> {
    let found = device::survey().into_iter();
    found
        .map(|(spec, problem): (DeviceSpec, _)| DeviceReport {
            device: spec.to_string(),
            usable: problem.is_none(),
            problem,
        })
        .collect()
}

fn model(
    checkpoint: &Checkpoint,
    available: Option<u64>,
    memory: Option<MemoryRead>,
) -> anyhow::Result<ModelReport> {
    // Of cache and workspace alone: how the weights are packed stands in the files.
    let options = PlanOptions {
        format: PlanFormat::Bf16,
        ..PlanOptions::default()
    };
    let plan = Plan::new(checkpoint.args(), &options)?;
    let weight_bytes = checkpoint.data_bytes();
    let required_bytes = weight_bytes
        .saturating_add(plan.cache.bytes)
        .saturating_add(plan.activation_bytes);
    let per_token = Inventory::of(checkpoint).weight_bytes_read(checkpoint.args());
    let largest = checkpoint.files().iter().max_by_key(|file| file.byte_len());
    let disk = largest.and_then(|file| machine::disk_read(file.path()));
    Ok(ModelReport {
        weight_bytes,
        required_bytes,
        fits_in_available_memory: available.map(|bytes| required_bytes <= bytes),
        weight_bytes_read_per_token: per_token,
        decode_tok_s_at_most: memory.map(|m| m.best_gb_s * 1e9 / per_token.max(1) as f64),
        disk_read_gb_s: disk.map(|read| read.gb_s),
        disk_read_bytes: disk.map(|read| read.bytes),
        disk_read_may_be_cached: true,
    })
}

fn text(report: &Report) -> String {
    let bytes = |n: Option<u64>| n.map_or("unknown".into(), human_bytes);
    let speed = |gb_s: Option<f64>| match gb_s {
        Some(gb_s) => format!("{gb_s:.1} GB/s"),
        None => "not measured".into(),
    };
    let simd = match report.simd.is_empty() {
        true => "none known".into(),
        false => report.simd.join(" "),
    };
    let rows = [
        [
            "version",
            &format!("{} for {}", report.version, report.architecture),
        ],
        [
            "cores",
            &format!("{} ({} threads used)", report.cores, report.threads),
        ],
        ["SIMD", &simd],
        [
            "memory",
            &format!(
                "{} in all, {} available",
                bytes(report.memory_bytes),
                bytes(report.memory_available_bytes)
            ),
        ],
        ["memory read", &speed(report.memory_read_gb_s)],
    ];
    let mut text = String::new();
    for [name, value] in rows {
        text.push_str(&format!("{name:<12} {value}\n"));
    }
    if !report.optimised_build {
        text.push_str(
            "             (measured by a debug build: build with --release for real speeds)\n",
        );
    }
    text.push_str("\nDevices\n");
    for device in &report.devices {
        let state = device.problem.as_deref().unwrap_or("usable");
        text.push_str(&format!("  {:<10} {state}\n", device.device));
    }
    let Some(model) = &report.model else {
        return text;
    };
    let verdict = match model.fits_in_available_memory {
        Some(true) => "fits into the memory available: --device cpu will run it from there",
        Some(false) => {
            "is more than the memory available: --device cpu will run it, reading weights from \
             disk again and again"
        }
        None => "can't be compared with the memory available, which is unknown",
    };
    text.push_str(&format!(
        "\nModel\n  {} of weights, {} with cache (4096 tokens) and workspace: {verdict}\n",
        human_bytes(model.weight_bytes),
        human_bytes(model.required_bytes),
    ));
    text.push_str(&format!(
        "  {} of weights are read for each token{}\n",
        human_bytes(model.weight_bytes_read_per_token),
        match model.decode_tok_s_at_most {
            Some(rate) => format!(": at most {rate:.1} tokens a second from memory"),
            None => String::new(),
        }
    ));
    text.push_str(&format!(
        "  disk read {} over {} (the system's cache was not emptied: this may be memory's speed)\n",
        speed(model.disk_read_gb_s),
        bytes(model.disk_read_bytes)
    ));
    text
}
