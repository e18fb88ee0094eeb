//! What this machine is, and how fast it reads.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

/// Memory that is read: past any cache of one socket.
const MEMORY_BYTES: u64 = 512 << 20;
/// Where less is available than this many times [`MEMORY_BYTES`], nothing is measured.
const SPARE: u64 = 4;
/// Passes over it; the best counts, since others were disturbed.
const PASSES: usize = 4;
/// Bytes that are read from disk at most.
const DISK_BYTES: u64 = 1 << 30;

/// A measured speed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    /// 10^9 bytes a second.
    pub(super) gb_s: f64,
    /// Bytes that were read.
    pub(super) bytes: u64,
}

/// Instruction sets that kernels make use of, or may come to.
pub(super) fn simd() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! present {
            ($($name:tt)*) => {
                [$(($name, std::arch::is_x86_feature_detected!($name))),*]
            };
        }
        let all = present!(
            "sse4.2" "avx" "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl"
            "avx512vbmi" "avx512vnni" "avx512bf16" "avx512fp16"
        );
        let present = all.into_iter().filter(|(_, present)| *present);
        present.map(|(name, _)| name).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! present {
            ($($name:tt)*) => {
                [$(($name, std::arch::is_aarch64_feature_detected!($name))),*]
            };
        }
        let all = present!("neon" "fp16" "bf16" "dotprod" "i8mm" "sve" "sve2");
        let present = all.into_iter().filter(|(_, present)| *present);
        present.map(|(name, _)| name).collect()
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

/// Bytes of memory in all and available; only Linux says so.
pub(super) fn memory() -> (Option<u64>, Option<u64>) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (field(&text, "MemTotal:"), field(&text, "MemAvailable:"))
}

/// A line such as `MemTotal:  24640000 kB`.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// How fast all threads together read memory. Not measured where little is available.
pub(super) fn memory_read(available: Option<u64>) -> Option<Read> {
    if available.is_some_and(|bytes| bytes < SPARE * MEMORY_BYTES) {
        return None;
    }
    let words = vec![1u64; usize::try_from(MEMORY_BYTES / 8).ok()?];
    let part = words.len().div_ceil(rayon::current_num_threads());
    let pass = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for words in words.chunks(part) {
                scope.spawn(move || std::hint::black_box(sum(words)));
            }
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..PASSES).map(|_| pass()).fold(f64::INFINITY, f64::min);
    Some(Read {
        gb_s: MEMORY_BYTES as f64 / best / 1e9,
        bytes: MEMORY_BYTES,
    })
}

/// Eight sums side by side, so that additions don't wait for one another.
fn sum(words: &[u64]) -> u64 {
    let (eights, rest) = words.as_chunks::<8>();
    let mut sums = [0u64; 8];
    for eight in eights {
        for (sum, word) in sums.iter_mut().zip(eight) {
            *sum = sum.wrapping_add(*word);
        }
    }
    let all = sums.iter().chain(rest);
    all.fold(0, |sum, word| sum.wrapping_add(*word))
}

/// How fast the beginning of a file is read, once. The system may have it in memory already:
/// emptying its cache takes rights that this program doesn't ask for.
pub(super) fn disk_read(path: &Path) -> Option<Read> {
    let mut file = File::open(path).ok()?.take(DISK_BYTES);
    let (mut buffer, mut bytes, start) = (vec![0u8; 4 << 20], 0u64, Instant::now());
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            n => bytes += n as u64,
        }
    }
    (bytes > 0).then(|| Read {
        gb_s: bytes as f64 / start.elapsed().as_secs_f64() / 1e9,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: kB taken for bytes, or one line read for another.
    #[test]
    fn meminfo_is_read_in_kib() {
        let text = "MemTotal:       24640000 kB\nMemFree: 1 kB\nMemAvailable:   123 kB\n";
        assert_eq!(field(text, "MemTotal:"), Some(24_640_000 * 1024));
        assert_eq!(field(text, "MemAvailable:"), Some(123 * 1024));
        assert_eq!(field("", "MemTotal:"), None);
    }

    /// Breaks with: words left out, so that less is read than the speed is computed from.
    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..1003).collect();
        assert_eq!(sum(&words), 1002 * 1003 / 2);
    }
}
