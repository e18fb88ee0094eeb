//! What a half-finished conversion is known by again.

use std::fmt::Write as _;

use crate::fnv::Fnv;
use crate::{Adapter, Checkpoint};

use super::Importance;
use super::outputs::Outputs;

/// Counts the changes of what a source's values become: the bytes of a half-finished checkpoint of
/// an older program must not be mixed with others. Raise it with any change that gives other codes,
/// scales or roundings for the same source and options (`group`, `fp8`, `transcode`), and put the
/// new hashes into the test below. Headers need no raise: all of them are in the fingerprint.
const VERSION: u32 = 2;

/// How many pieces of a source file's data are looked at, from its first byte to its last.
const PIECES: u64 = 8;
/// Bytes of a piece. Together 4 KiB a file: 1,304 reads for the 163 files of DeepSeek-V3.1.
const PIECE_BYTES: u64 = 512;

/// Changes with the way of rounding, the source's files, the importance, the adapter and everything
/// about the output: a half-finished conversion is only gone on with if all are the same.
///
/// Of the source it takes what the bytes say, and no times or folders, so that a copy on another
/// machine is the same source. It is a sample: a value changed between the pieces, in a file whose
/// header stays as it was, goes unseen.
pub(super) fn of(checkpoint: &Checkpoint, outputs: &Outputs<'_>) -> String {
    let mut hash = Fnv::default();
    let _ = writeln!(hash, "conversion {VERSION}");
    for file in checkpoint.files() {
        let _ = writeln!(hash, "{:?} {}", file.path().file_name(), file.byte_len());
        sample(&mut hash, file.raw(), file.header().data_start);
    }
    let _ = writeln!(hash, "{:?} {:?}", outputs.block, outputs.scale_fmt);
    let importance = outputs.importance.into_iter();
    for (name, values) in importance.flat_map(Importance::iter) {
        let _ = writeln!(hash, "{name}");
        for value in values {
            let _ = write!(hash, "{:x} ", value.to_bits());
        }
    }
    for (name, factors) in outputs.adapter.into_iter().flat_map(Adapter::factors) {
        let _ = writeln!(hash, "{name} {}", factors.scale);
        for value in factors.a.iter().chain(&factors.b) {
            hash.update(&value.to_le_bytes());
        }
    }
    for shard in &outputs.shards {
        let _ = writeln!(hash, "{}", shard.file_name);
        hash.update(&shard.header);
        for job in &shard.jobs {
            let _ = writeln!(hash, "{} {:?} {:?}", job.name, job.task.action, job.slots);
        }
    }
    format!("{:016x}", hash.finish())
}

/// A file's header, and pieces of its data at equal distances, the first and the last bytes among
/// them; all of it where it is short.
fn sample(hash: &mut Fnv, file: &[u8], data_start: u64) {
    let (header, data) = file.split_at(file.len().min(data_start as usize));
    hash.update(header);
    let room = (data.len() as u64).saturating_sub(PIECE_BYTES);
    for i in 0..PIECES {
        let at = (room * i / (PIECES - 1)) as usize;
        let end = data.len().min(at + PIECE_BYTES as usize);
        hash.update(data.get(at..end).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::ControlFlow;

    use super::*;
    use crate::{ConvertFormat, ConvertOptions, Layout, convert};

    /// What the last raise of [`VERSION`] was for: hashes of all data that the conversions below
    /// write.
    const GOLDEN: (u32, [(&str, u64); 6]) = (
        2,
        [
            ("int8", 0x16cf_9a7c_f182_b58b),
            ("int4", 0xf5da_a558_f4b0_6833),
            ("int4, weighed", 0xb90e_cb8c_f7e5_84b3),
            ("fp8, ue8m0", 0xf75c_365e_71bb_0429),
            ("fp8, f32", 0xe8ae_3dcf_2846_5415),
            ("bf16", 0x8968_3c99_ff3d_6470),
        ],
    );

    fn golden(set: &str) -> Checkpoint {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden");
        Checkpoint::open(format!("{root}/{set}/model")).unwrap()
    }

    /// A hash of the tensors' bytes, headers left out.
    fn converted(source: &Checkpoint, format: ConvertFormat, weighed: bool) -> u64 {
        let tmp = tempfile::tempdir().unwrap();
        let out = tmp.path().join("out");
        let layout = Layout::new(source.args());
        let matrices = layout.tensors().filter(|s| s.shape.len() == 2);
        // Another weight for each column of a unit, and none for some.
        let columns = |n: usize| (0..n).map(|i| (i * 7 % 13) as f32).collect();
        let importance: BTreeMap<String, Vec<f32>> =
            matrices.map(|s| (s.name, columns(s.shape[1]))).collect();
        let options = ConvertOptions {
            format,
            importance: weighed.then(|| Importance::new(importance).unwrap()),
            ..ConvertOptions::default()
        };
        convert(source, &out, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let mut hash = Fnv::default();
        for tensor in Checkpoint::open(&out).unwrap().tensors() {
            hash.update(tensor.as_slice());
        }
        hash.finish()
    }

    /// Breaks with: another rounding under the same version, which would go on with an older
    /// program's half-finished conversion and give a checkpoint that is partly of each.
    #[test]
    fn other_bytes_have_another_version() {
        let (base, fp8) = (golden("base"), golden("fp8_f32odd"));
        let int4 = ConvertFormat::Int4 { group: 32 };
        let cases = [
            (&base, ConvertFormat::Int8 { group: 64 }, false),
            (&base, int4.clone(), false),
            (&base, int4, true),
            (&base, ConvertFormat::Fp8 { ue8m0: true }, false),
            (&base, ConvertFormat::Fp8 { ue8m0: false }, false),
            (&fp8, ConvertFormat::Bf16, false),
        ];
        let mut found = GOLDEN;
        found.0 = VERSION;
        for ((_, hash), (source, format, weighed)) in found.1.iter_mut().zip(cases) {
            *hash = converted(source, format, weighed);
        }
        assert!(
            found == GOLDEN,
            "conversions give other bytes, or VERSION was raised: if the change is meant, raise \
             VERSION in convert/fingerprint.rs (once for a release), and let GOLDEN be {found:#x?}"
        );
    }

    /// Breaks with: a sample that leaves out the end, runs over it, or reads more than it says.
    #[test]
    fn a_sample_reaches_from_the_first_byte_to_the_last() {
        let hash = |file: &[u8]| {
            let mut hash = Fnv::default();
            sample(&mut hash, file, 8);
            hash.finish()
        };
        for data in [0usize, 1, 511, 512, 513, 4095, 4096, 4097, 100_000] {
            let file = vec![0u8; 8 + data];
            let seen = |at: usize| {
                let mut other = file.clone();
                other[at] = 1;
                hash(&other) != hash(&file)
            };
            assert!(seen(0) && seen(7), "the header of {data} bytes");
            if data > 0 {
                assert!(seen(8) && seen(7 + data), "the ends of {data} bytes");
            }
            if data <= 4096 {
                assert!((8..8 + data).step_by(61).all(seen), "all of {data} bytes");
            }
        }
        let file = vec![0u8; 100_008];
        let mut other = file.clone();
        other[8 + 5000] = 1;
        assert!(hash(&other) == hash(&file), "a sample is not the whole");
    }
}
