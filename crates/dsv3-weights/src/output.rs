//! Writing a checkpoint whose every tensor is known beforehand, whatever its values come from.
//!
//! Files are laid out first ([`plan`]) and filled then ([`fill`]), a few megabytes at a time, under
//! temporary names in `OUT.partial`, which gets its name when all is there.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use crate::WeightsError;
use crate::checkpoint::INDEX_FILE;
use crate::error::shown;
use crate::human_bytes;

mod beside;
mod partial;
mod shard;
mod writer;

pub(crate) use partial::Partial;
pub(crate) use shard::{Job, Note, ROUNDING_KEY, Shard, Wanted, plan};

/// The largest file by default, as those of the published checkpoint.
pub(crate) const SHARD_BYTES: u64 = 5_000_000_000;

/// Takes bytes of one of a job's outputs (0 the weight, 1 its scales) at an offset into it.
pub(crate) type Sink<'a> = dyn FnMut(usize, u64, Vec<u8>) -> Result<(), WeightsError> + 'a;

/// Hands all bytes of a job to a sink, each once.
pub(crate) type Values<'a, T> = dyn FnMut(&Job<T>, &mut Sink<'_>) -> Result<(), WeightsError> + 'a;

/// How far the writing of a checkpoint has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The weight in hand, as a file names it; [`Progress::shown_tensor`] is for a terminal.
    pub tensor: &'a str,
    /// Weights finished (a weight and its scales count as one).
    pub tensors_done: u64,
    /// Weights in all.
    pub tensors_total: u64,
    /// Bytes of output written or kept from an earlier run.
    pub bytes_done: u64,
    /// Bytes of output in all.
    pub bytes_total: u64,
    /// The shard in hand, from 1.
    pub shard: usize,
    /// Shards in all.
    pub shards: usize,
    /// Bytes that the disk lacked for all that was left when the shard in hand was begun; 0 where
    /// there is room, or where the system doesn't say.
    pub bytes_short: u64,
}

impl Progress<'_> {
    /// That the disk will be full before the end, if that can be foreseen. No more than a note: a
    /// file system may compress, and hours are left to make room.
    pub fn shortage(&self) -> Option<String> {
        let short = Some(self.bytes_short).filter(|bytes| *bytes > 0)?;
        Some(format!(
            "the disk lacks {} for all that is to be written. Free that much meanwhile; where it \
             is full this stops, and the same command goes on from there",
            human_bytes(short)
        ))
    }

    /// The weight's name fit for a terminal: a name out of a file, so shortened and escaped.
    pub fn shown_tensor(&self) -> String {
        shown(self.tensor)
    }
}

/// Writes the shards that an earlier run has not finished; returns how many it had.
///
/// `progress` is called for every piece that `values` gives; [`ControlFlow::Break`] stops.
pub(crate) fn fill<T>(
    shards: &[Shard<T>],
    partial: &Partial,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    values: &mut Values<'_, T>,
) -> Result<usize, WeightsError> {
    let mut run = Run {
        partial,
        progress,
        tensors_done: 0,
        tensors_total: shards.iter().map(|s| s.jobs.len() as u64).sum(),
        bytes_done: 0,
        bytes_total: data_bytes(shards),
        shard: 0,
        shards: shards.len(),
        bytes_short: 0,
    };
    let mut kept = 0;
    for shard in shards {
        run.shard += 1;
        if partial.holds(shard) {
            kept += 1;
            run.tensors_done += shard.jobs.len() as u64;
            run.bytes_done += shard.data_bytes;
        } else {
            run.write(shard, values)?;
        }
    }
    Ok(kept)
}

/// Bytes of tensor data in all of them.
pub(crate) fn data_bytes<T>(shards: &[Shard<T>]) -> u64 {
    shards.iter().map(|s| s.data_bytes).sum()
}

/// Tensors in all of them, scale tensors too.
pub(crate) fn num_tensors<T>(shards: &[Shard<T>]) -> u64 {
    shards.iter().map(|s| s.tensors.len() as u64).sum()
}

/// `model.safetensors.index.json`, where there is more than one file.
pub(crate) fn write_index<T>(dir: &Path, shards: &[Shard<T>]) -> Result<(), WeightsError> {
    if shards.len() < 2 {
        return Ok(());
    }
    let mut weight_map = serde_json::Map::new();
    for shard in shards {
        for tensor in &shard.tensors {
            weight_map.insert(tensor.name.clone(), Value::from(shard.file_name.as_str()));
        }
    }
    let total_size = data_bytes(shards);
    let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    write_json(&dir.join(INDEX_FILE), &index)
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), WeightsError> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    let size = text.len() as u64;
    write_beside(path, size, |file| file.write_all(&text))
}

/// Copies the bytes of a file that stands beside the weights, not its permissions: a source that
/// nobody may write to gives a copy that its owner may.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<(), WeightsError> {
    let mut source = File::open(from).map_err(WeightsError::io("read", from))?;
    let size = source
        .metadata()
        .map_err(WeightsError::io("read", from))?
        .len();
    write_beside(to, size, |file| {
        std::io::copy(&mut source, file).map(|_| ())
    })
}

/// A file beside the weights, in place of what an earlier run left; on the disk when this returns,
/// as the weights are.
fn write_beside(
    path: &Path,
    size: u64,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), WeightsError> {
    let mut file = partial::create_anew(path)?;
    write(&mut file)
        .and_then(|()| file.sync_all())
        .map_err(WeightsError::write(path, size))?;
    partial::sync_dir(partial::parent(path));
    Ok(())
}

/// The filling of all shards.
struct Run<'a> {
    partial: &'a Partial,
    progress: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    tensors_done: u64,
    tensors_total: u64,
    bytes_done: u64,
    bytes_total: u64,
    shard: usize,
    shards: usize,
    bytes_short: u64,
}

impl Run<'_> {
    fn write<T>(
        &mut self,
        shard: &Shard<T>,
        values: &mut Values<'_, T>,
    ) -> Result<(), WeightsError> {
        let (path, file) = self.partial.create_temporary(shard)?;
        let left = self.bytes_total - self.bytes_done;
        // Asked now, when what an interrupted run had begun is gone.
        let free = self.partial.free_bytes();
        self.bytes_short = free.map_or(0, |free| left.saturating_sub(free));
        beside::write(&file, path, shard, left, |pieces| {
            for job in &shard.jobs {
                let first = self.bytes_done;
                self.tick(&job.name, 0)?;
                values(job, &mut |output, at, bytes| {
                    let slot = job.slots.get(output).copied().unwrap_or(usize::MAX);
                    let count = bytes.len() as u64;
                    pieces(slot, at, bytes)?;
                    self.tick(&job.name, count)
                })?;
                debug_assert_eq!(self.bytes_done - first, shard.bytes_of(job));
                self.tensors_done += 1;
            }
            Ok(())
        })?;
        drop(file);
        self.partial.complete(shard)
    }

    fn tick(&mut self, tensor: &str, bytes: u64) -> Result<(), WeightsError> {
        self.bytes_done += bytes;
        let progress = Progress {
            tensor,
            tensors_done: self.tensors_done,
            tensors_total: self.tensors_total,
            bytes_done: self.bytes_done,
            bytes_total: self.bytes_total,
            shard: self.shard,
            shards: self.shards,
            bytes_short: self.bytes_short,
        };
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(WeightsError::Interrupted {
                partial: self.partial.dir().into(),
            }),
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    /// Breaks with: a disk that is found to be too small when it is full, after hours; a note where
    /// there is room, or about what an earlier run has finished already.
    #[test]
    fn a_disk_without_room_is_noted_at_the_start() {
        let noted = |bytes: usize, done: bool| {
            let dir = tempfile::tempdir().unwrap();
            let partial = Partial::claim(&dir.path().join("out"), "it".into()).unwrap();
            let draft = |name: &str, bytes: usize| {
                let wanted = vec![Wanted::plain(name, Dtype::U8, &[bytes])];
                Ok((name.to_owned(), (), wanted))
            };
            let shards = plan([draft("a", bytes), draft("b", 8)], 8, Note::None).unwrap();
            if done {
                let (_, mut file) = partial.create_temporary(&shards[0]).unwrap();
                file.write_all(&shards[0].header).unwrap();
                file.set_len(shards[0].file_bytes()).unwrap(); // takes no room
                partial.complete(&shards[0]).unwrap();
            }
            let mut note = None;
            let mut look = |progress: Progress<'_>| {
                note = progress.shortage();
                ControlFlow::Break(())
            };
            let stopped = fill(&shards, &partial, &mut look, &mut |_, _| Ok(()));
            assert!(matches!(stopped, Err(WeightsError::Interrupted { .. })));
            note
        };
        let note = noted(1 << 61, false).unwrap();
        assert!(note.starts_with("the disk lacks 2"), "{note}");
        assert_eq!(noted(8, false), None);
        assert_eq!(noted(8 << 40, true), None);
    }
}
