//! What this machine is, and how fast it reads.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use dsv3_kernels::{DenseProduct, Elements};
use rayon::prelude::*;

/// Memory that is read: past the caches of a machine. A build without optimisation takes minutes
/// for it and measures itself.
const MEMORY_BYTES: u64 = if cfg!(debug_assertions) {
    64 << 20
} else {
    1 << 30
};
/// Of what is available, at most this part is taken.
const SPARE: u64 = 4;
/// Less than this may lie in a cache: nothing is measured.
const LEAST_MEMORY_BYTES: u64 = 64 << 20;
/// Passes over it.
const PASSES: usize = 7;
/// Words that a thread reads at once: 1 MiB.
const PART: usize = 1 << 17;
/// Rows and columns of the matrices whose product is timed.
pub(crate) const PRODUCT: usize = if cfg!(debug_assertions) { 128 } else { 1536 };
/// Bytes that are read from disk at most.
const DISK_BYTES: u64 = 1 << 30;

/// A measured speed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// 10^9 bytes a second.
    pub(crate) gb_s: f64,
    /// Bytes that were read.
    pub(crate) bytes: u64,
}

/// How fast memory was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryRead {
    /// 10^9 bytes a second in the best pass: what disturbed the others was not the memory.
    pub(crate) best_gb_s: f64,
    /// In the median one.
    pub(crate) median_gb_s: f64,
    /// Bytes of a pass.
    pub(crate) bytes: u64,
}

/// The processor's name; only Linux says it, and not on every architecture.
pub(crate) fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

/// Cores that this process may use, however often it is asked: once a thread is pinned it sees its
/// own alone, so whoever pins asks first.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Instruction sets that kernels make use of, or may come to.
pub(crate) fn simd() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! present {
            ($($name:tt)*) => {
                [$(($name, std::arch::is_x86_feature_detected!($name))),*]
            };
        }
        let all = present!(
            "sse4.2" "avx" "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl"
            "avx512vbmi" "avx512vnni" "avx512bf16" "avx512fp16" "gfni"
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
pub(crate) fn memory() -> (Option<u64>, Option<u64>) {
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
pub(crate) fn memory_read(available: Option<u64>) -> Option<MemoryRead> {
    let bytes = MEMORY_BYTES.min(available.map_or(MEMORY_BYTES, |bytes| bytes / SPARE));
    if bytes < LEAST_MEMORY_BYTES {
        return None;
    }
    let words = usize::try_from(bytes / 8).ok()?;
    // Written by all threads, so that each memory controller of a machine with several has a part.
    let words: Vec<u64> = (0..words).into_par_iter().map(|i| i as u64).collect();
    let pass = || {
        let start = Instant::now();
        let sums = words.par_chunks(PART).map(sum);
        std::hint::black_box(sums.reduce(|| 0, u64::wrapping_add));
        start.elapsed().as_secs_f64()
    };
    let mut seconds: Vec<f64> = (0..PASSES).map(|_| pass()).collect();
    seconds.sort_by(f64::total_cmp);
    let bytes = 8 * words.len() as u64;
    let gb_s = |at: usize| Some(bytes as f64 / seconds.get(at)? / 1e9);
    Some(MemoryRead {
        best_gb_s: gb_s(0)?,
        median_gb_s: gb_s(PASSES / 2)?,
        bytes,
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

/// How fast all threads together multiply two f32 matrices, in 10^9 multiplications and additions a
/// second: Burn's own dense product, the best of a few.
pub(crate) fn product() -> f64 {
    let device = Device::flex();
    let side = PRODUCT;
    let matrix = || Tensor::<2>::ones([side, side], &device);
    let (a, b) = (matrix(), matrix());
    let pass = || {
        let start = Instant::now();
        std::hint::black_box(a.clone().matmul(b.clone()).into_data());
        start.elapsed().as_secs_f64()
    };
    speed_of_product(side, pass)
}

/// The same of two matrices of these elements: what the dot instructions of the processor reach in a
/// plain loop. None where it has none for them, or none that are faster than f32's.
pub(crate) fn dot_product(elements: Elements) -> Option<f64> {
    elements.are_native().then(|| {
        let mut product = DenseProduct::new(elements, PRODUCT);
        let side = product.side();
        speed_of_product(side, || {
            let start = Instant::now();
            product.run();
            std::hint::black_box(product.at(0, 0));
            start.elapsed().as_secs_f64()
        })
    })
}

/// 10^9 operations a second in the best pass, each of which gives its seconds.
fn speed_of_product(side: usize, mut pass: impl FnMut() -> f64) -> f64 {
    let best = (0..PASSES).map(|_| pass()).fold(f64::INFINITY, f64::min);
    2.0 * (side as f64).powi(3) / best / 1e9
}

/// How fast the beginning of a file is read, once. The system may have it in memory already:
/// emptying its cache takes rights that this program doesn't ask for.
pub(crate) fn disk_read(path: &Path) -> Option<Read> {
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
