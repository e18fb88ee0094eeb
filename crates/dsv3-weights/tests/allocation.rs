//! What refusing a hostile file, opening an honest one and converting it cost in memory.
//!
//! A binary of its own with one test: the allocator counts for the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may
#![allow(unsafe_code)] // an allocator is unsafe by nature; this one only counts

mod common;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Raw, file_bytes, golden_dir, safetensors_bytes, write_checkpoint};
use dsv3_weights::{
    Checkpoint, ConvertFormat, ConvertOptions, Dtype, Header, Inventory, Layout, ModelArgs, Plan,
    PlanOptions, WeightsError, convert,
};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        let now = NOW.fetch_add(memory.size(), SeqCst) + memory.size();
        PEAK.fetch_max(now, SeqCst);
        // SAFETY: the caller's promise about `memory` is passed on.
        unsafe { System.alloc(memory) }
    }
    unsafe fn dealloc(&self, at: *mut u8, memory: Memory) {
        NOW.fetch_sub(memory.size(), SeqCst);
        // SAFETY: `at` came from `alloc` above with this `memory`.
        unsafe { System.dealloc(at, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that was allocated at once during `f`, beyond what was before.
fn peak_of<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    let result = f();
    (PEAK.load(SeqCst) - before, result)
}

const MIB: usize = 1 << 20;

#[test]
fn memory_is_bounded_by_what_is_there_not_by_what_is_claimed() {
    claims_cost_nothing();
    long_files_cost_in_proportion();
    opening_and_planning_copy_nothing();
    converting_streams();
}

fn claims_cost_nothing() {
    let exa = 1u64 << 60;
    let shape = format!(r#"{{"w":{{"dtype":"U8","shape":[{exa}],"data_offsets":[0,{exa}]}}}}"#);
    let mut long_header = (1u64 << 63).to_le_bytes().to_vec();
    long_header.extend(b"{}");
    let mut cut_header = 99_999_999u64.to_le_bytes().to_vec();
    cut_header.extend(b"{}");
    for bytes in [file_bytes(&shape, &[0; 4]), long_header, cut_header] {
        let (peak, result) = peak_of(|| Header::parse(&bytes, bytes.len() as u64));
        assert!(
            result.is_err() && peak < MIB / 16,
            "{peak} bytes for {result:?}"
        );
        // A sparse file of a terabyte would believe the offsets: still nothing is allocated.
        let (peak, _) = peak_of(|| Header::parse(&bytes, 1 << 61));
        assert!(peak < MIB / 16, "{peak} bytes");
    }
    let config = std::fs::read_to_string(golden_dir("base").join("config.json")).unwrap();
    let absurd = config.replace(
        "\"n_routed_experts\": 16",
        "\"n_routed_experts\": 9000000000000000000",
    );
    assert_ne!(config, absurd);
    let (peak, result) = peak_of(|| ModelArgs::from_json_bytes(absurd.as_bytes()));
    assert!(result.is_err() && peak < MIB / 16, "{peak} bytes");
    let mut widest: serde_json::Value = serde_json::from_str(&config).unwrap();
    for (key, value) in [
        ("num_hidden_layers", 1 << 10),
        ("n_routed_experts", 1 << 13),
        ("hidden_size", 1 << 17),
    ] {
        widest[key] = (value as u64).into();
    }
    let args = ModelArgs::from_json_bytes(widest.to_string().as_bytes()).unwrap();
    let (peak, plan) = peak_of(|| Plan::new(&args, &PlanOptions::default()));
    assert!(
        plan.unwrap().total_tensors > 10_000_000 && peak < MIB / 2,
        "{peak} bytes"
    );
}

fn long_files_cost_in_proportion() {
    let ten = 10 * MIB;
    let nested = "[".repeat(ten);
    let in_unknown = format!(r#"{{"x":{}{}}}"#, "[".repeat(ten / 2), "]".repeat(ten / 2));
    let listed = format!(r#"{{"eos_token_id":[{}0]}}"#, "0,".repeat(ten / 2));
    let ignored = format!(r#"{{"x":[{}0]}}"#, "0,".repeat(ten / 2));
    for text in [nested, in_unknown, listed, ignored] {
        let (peak, result) = peak_of(|| ModelArgs::from_json_bytes(text.as_bytes()));
        assert!(result.is_err() && peak < MIB, "{peak} bytes");
    }
    // One tensor of five million dimensions, and half a million tensors.
    let shape = format!(r#"{{"w":{{"shape":[{}0]}}}}"#, "0,".repeat(ten / 2));
    let bytes = file_bytes(&shape, &[]);
    let (peak, result) = peak_of(|| Header::parse(&bytes, bytes.len() as u64));
    assert!(result.is_err() && peak < MIB, "{peak} bytes");
    let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let many: Vec<String> = (0..100_000).map(|i| format!("\"{i}\":{entry}")).collect();
    let bytes = file_bytes(&format!("{{{}}}", many.join(",")), &[]);
    let (peak, result) = peak_of(|| Header::parse(&bytes, bytes.len() as u64));
    assert_eq!(result.unwrap().tensors.len(), 100_000);
    assert!(
        peak < 12 * bytes.len(),
        "{peak} bytes for a header of {}",
        bytes.len()
    );
}

/// 64 MiB of embedding and head around one small layer.
fn large_checkpoint(dir: &std::path::Path) {
    let config = std::fs::read(golden_dir("base").join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in [
        ("vocab_size", 1u64 << 17),
        ("num_hidden_layers", 1),
        ("intermediate_size", 40_000),
    ] {
        config[key] = value.into();
    }
    let args = ModelArgs::from_json_bytes(config.to_string().as_bytes()).unwrap();
    let tensors: Vec<Raw> = Layout::new(&args)
        .tensors()
        .map(|spec| {
            let shape: Vec<u64> = spec.shape.iter().map(|d| *d as u64).collect();
            let bytes = spec.shape.iter().product::<usize>() * 2;
            Raw::new(&spec.name, Dtype::BF16, &shape, vec![0x3c; bytes])
        })
        .collect();
    write_checkpoint(dir, "base", &safetensors_bytes(&tensors));
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn opening_and_planning_copy_nothing() {
    let dir = tempfile::tempdir().unwrap();
    large_checkpoint(dir.path());
    let (peak, checkpoint) = peak_of(|| Checkpoint::open(dir.path()).unwrap());
    assert!(
        checkpoint.data_bytes() > 64 * MIB as u64 && peak < MIB / 2,
        "{peak} bytes"
    );
    let (peak, _) = peak_of(|| {
        checkpoint.verify().unwrap();
        let _ = Inventory::of(&checkpoint);
        checkpoint.linear("lm_head.weight", [1 << 17, 128]).unwrap()
    });
    assert!(peak < MIB / 2, "{peak} bytes");
}

fn converting_streams() {
    let dir = tempfile::tempdir().unwrap();
    large_checkpoint(&dir.path().join("source"));
    let source = Checkpoint::open(dir.path().join("source")).unwrap();
    let options = ConvertOptions {
        format: ConvertFormat::Fp8 { ue8m0: true },
        ..Default::default()
    };
    let mut go_on = |_: dsv3_weights::Progress<'_>| ControlFlow::Continue(());
    let (peak, report) =
        peak_of(|| convert(&source, dir.path().join("fp8"), &options, &mut go_on).unwrap());
    assert!(report.quantized > 5 && peak < 40 * MIB, "{peak} bytes");
    let fp8 = Checkpoint::open(dir.path().join("fp8")).unwrap();
    let options = ConvertOptions {
        format: ConvertFormat::Bf16,
        ..Default::default()
    };
    let (peak, report) =
        peak_of(|| convert(&fp8, dir.path().join("bf16"), &options, &mut go_on).unwrap());
    assert!(report.dequantized > 5 && peak < 40 * MIB, "{peak} bytes");
    let refused = convert(&fp8, dir.path().join("bf16"), &options, &mut go_on);
    assert!(matches!(refused, Err(WeightsError::OutputExists { .. })));
}
