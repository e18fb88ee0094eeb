//! Writing a shard beside the computing of it.
//!
//! One thread writes the pieces in the order in which they come, another has the disk take what was
//! written. So none of processors and disk waits for the other before a few pieces lie between them,
//! and little is left to be flushed at the end, or after Ctrl-C.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{ScopedJoinHandle, scope};

use crate::WeightsError;

use super::Shard;
use super::writer::ShardWriter;

/// Pieces that are computed and not yet written.
const PIECES: usize = 2;
/// After so many bytes the disk is asked to take them.
const FLUSHED_BYTES: usize = 64 << 20;
/// How often it may have been asked before it is waited for.
const FLUSHES: usize = 2;

/// Some bytes of a tensor.
struct Piece {
    slot: usize,
    offset: u64,
    bytes: Vec<u8>,
}

/// Writes what `fill` gives (slot, offset into it, bytes) to a shard's new file, header first, all
/// of it flushed at the end. `needed` is what this and the shards that follow will have.
///
/// The first error of writing or else `fill`'s own.
pub(super) fn write<T>(
    file: &File,
    path: PathBuf,
    shard: &Shard<T>,
    needed: u64,
    fill: impl FnOnce(
        &mut dyn FnMut(usize, u64, Vec<u8>) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let writer = ShardWriter::new(file, path.clone(), shard, needed)?;
    let flushed = |result: io::Result<()>| result.map_err(WeightsError::write(&path, needed));
    let stopped = || io::Error::from(io::ErrorKind::BrokenPipe);
    scope(|scope| {
        let (pieces, incoming) = sync_channel(PIECES);
        let (flushes, asked) = sync_channel(FLUSHES);
        let flusher = scope.spawn(move || flush_all(file, &asked));
        let writing = scope.spawn(move || write_all(writer, &incoming, &flushes));
        let filled = fill(&mut |slot, offset, bytes| {
            let piece = Piece {
                slot,
                offset,
                bytes,
            };
            // Nobody takes it if the writer found an error, which is told below.
            let sent = pieces.send(piece);
            sent.map_err(|_| WeightsError::write(&path, needed)(stopped()))
        });
        drop(pieces);
        let written = joined(writing);
        flushed(joined(flusher))?;
        written?;
        filled
    })?;
    flushed(file.sync_all())
}

fn write_all(
    mut writer: ShardWriter<'_, &File>,
    pieces: &Receiver<Piece>,
    flushes: &SyncSender<()>,
) -> Result<(), WeightsError> {
    let mut unflushed = 0;
    for piece in pieces {
        writer.write_at(piece.slot, piece.offset, &piece.bytes)?;
        unflushed += piece.bytes.len();
        if unflushed >= FLUSHED_BYTES {
            unflushed = 0;
            // The flusher stops at an error, and tells it.
            if flushes.send(()).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn flush_all(file: &File, asked: &Receiver<()>) -> io::Result<()> {
    asked.iter().try_for_each(|()| file.sync_data())
}

/// What a thread returned; its panic goes on here.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, TensorEntry};

    fn shard(bytes: u64) -> Shard<()> {
        let entry = TensorEntry {
            name: "a".into(),
            dtype: Dtype::U8,
            shape: vec![bytes as usize],
            begin: 0,
            end: bytes,
        };
        Shard {
            file_name: "model.safetensors".into(),
            tensors: vec![entry],
            jobs: Vec::new(),
            data_bytes: bytes,
            header: Vec::new(),
            packed: false,
        }
    }

    /// Breaks with: an error of the writing thread that is lost, or hidden behind that of the one
    /// that could no longer hand pieces over.
    #[test]
    fn a_disk_that_fills_up_is_what_is_told() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut sent = 0;
        let shard = shard(100);
        let e = write(&file, "/dev/full".into(), &shard, 100, |pieces| {
            for at in 0..100 {
                pieces(0, at, vec![1])?;
                sent += 1;
            }
            Ok(())
        });
        let e = e.unwrap_err();
        assert!(matches!(e, WeightsError::DiskFull { .. }), "{e}");
        assert!(sent < 100, "computing went on for nobody");
    }

    /// Breaks with: a break that waits for ever for a thread, or is told as something else.
    #[test]
    fn an_interruption_is_told_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors.tmp");
        let file = File::create(&path).unwrap();
        let e = write(&file, path.clone(), &shard(8), 8, |pieces| {
            pieces(0, 0, vec![1; 4])?;
            Err(WeightsError::Interrupted {
                partial: dir.path().into(),
            })
        });
        let e = e.unwrap_err();
        assert!(matches!(e, WeightsError::Interrupted { .. }), "{e}");
        assert_eq!(std::fs::read(&path).unwrap(), [1; 4]);
    }
}
