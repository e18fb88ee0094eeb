//! `dsv3 doctor`

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use dsv3_kernels::DeviceSpec;
use dsv3_weights::{Checkpoint, human_bytes};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::output::{say, say_json};

/// Bytes of the buffer that memory bandwidth is measured on: past any cache.
const PROBE_BYTES: usize = 1 << 29;
/// Bytes read from the disk at most.
const DISK_BYTES: u64 = 1 << 28;

/// Say what there is.
pub(crate) fn run(global: &Global) -> anyhow::Result<()> {
    let value = examine(global)?;
    match global.json {
        true => say_json(&value),
        false => say(&text(&value)),
    }
}

fn examine(global: &Global) -> anyhow::Result<Value> {
    // A missing driver's panic is an answer here, not an accident.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let devices: Vec<Value> = [
        DeviceSpec::Cpu,
        DeviceSpec::Wgpu(None),
        DeviceSpec::Cuda(None),
    ]
    .into_iter()
    .map(|spec| match spec.open() {
        Ok(_) => json!({ "device": spec.to_string(), "usable": true }),
        Err(error) => {
            json!({ "device": spec.to_string(), "usable": false, "why": error.to_string() })
        }
    })
    .collect();
    std::panic::set_hook(hook);
    let (total, available) = memory();
    let mut value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "architecture": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "threads": rayon::current_num_threads(),
        "simd": simd(),
        "memory_bytes": total,
        "memory_available_bytes": available,
        "memory_read_gb_s": memory_bandwidth(),
        "devices": devices,
    });
    if let Some(dir) = &global.model {
        let checkpoint = Checkpoint::open(dir)?;
        let bytes = checkpoint.data_bytes();
        value["model"] = json!({
            "weight_bytes": bytes,
            "fits_in_available_memory": available.map(|a| bytes <= a),
            "disk_read_gb_s": checkpoint.files().first().and_then(|f| disk_bandwidth(f.path())),
        });
    }
    Ok(value)
}

/// Instruction sets that kernels may come to use.
fn simd() -> Vec<&'static str> {
    #[allow(unused_mut)]
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt)*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
        }
        detect!("sse4.2" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vbmi" "avx512vnni" "avx512bf16");
    }
    #[cfg(target_arch = "aarch64")]
    found.push("neon");
    found
}

/// Bytes in all and available, where Linux says so.
fn memory() -> (Option<u64>, Option<u64>) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// GB/s that all threads read together: the best of five passes.
fn memory_bandwidth() -> f64 {
    let words = vec![1u64; PROBE_BYTES / 8];
    let part = words.len().div_ceil(rayon::current_num_threads());
    let passes = (0..5).map(|_| {
        let start = Instant::now();
        let sum: u64 = words
            .par_chunks(part)
            .map(|words| words.iter().fold(0u64, |sum, w| sum.wrapping_add(*w)))
            .sum();
        std::hint::black_box(sum);
        PROBE_BYTES as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    passes.fold(0.0, f64::max)
}

/// GB/s of reading the file's beginning once. The system may have it in memory already.
fn disk_bandwidth(path: &Path) -> Option<f64> {
    let mut file = File::open(path).ok()?.take(DISK_BYTES);
    let (mut buffer, mut total, start) = (vec![0u8; 1 << 22], 0usize, Instant::now());
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            n => total += n,
        }
    }
    (total > 0).then(|| total as f64 / start.elapsed().as_secs_f64() / 1e9)
}

fn text(value: &Value) -> String {
    let number = |v: &Value| v.as_f64().map_or("unknown".into(), |x| format!("{x:.1}"));
    let bytes = |v: &Value| v.as_u64().map_or("unknown".into(), human_bytes);
    let simd: Vec<&str> = value["simd"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut text = format!(
        "dsv3 {} on {}\ncores    {} ({} threads used)\nSIMD     {}\nmemory   {} in all, {} available, {} GB/s read\n",
        value["version"].as_str().unwrap_or_default(),
        value["architecture"].as_str().unwrap_or_default(),
        value["cores"],
        value["threads"],
        simd.join(" "),
        bytes(&value["memory_bytes"]),
        bytes(&value["memory_available_bytes"]),
        number(&value["memory_read_gb_s"]),
    );
    for device in value["devices"].as_array().into_iter().flatten() {
        let name = device["device"].as_str().unwrap_or_default();
        let state = device["why"].as_str().unwrap_or("usable");
        text.push_str(&format!("{name:<8} {state}\n"));
    }
    if let Some(model) = value.get("model") {
        let fits = match model["fits_in_available_memory"].as_bool() {
            Some(true) => "fits in the memory available",
            Some(false) => {
                "is more than the memory available: it will be read from disk again and again"
            }
            None => "can't be compared with the memory available",
        };
        text.push_str(&format!(
            "model    {} of weights, which {fits}; disk {} GB/s (from the system's cache if it was read before)\n",
            bytes(&model["weight_bytes"]), number(&model["disk_read_gb_s"]),
        ));
    }
    text
}
