//! Having the disk read what a conversion will come to.
//!
//! A mapped file is read where it is touched, a little at a time, and each time behind whatever is
//! being written. So a thread of its own asks the system for what comes next, some megabytes ahead.
//! It is a hint: nothing depends on it but time.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::scope;

use crate::output::Shard;
use crate::{Checkpoint, TensorView, WeightsError};

use super::outputs::Task;
use super::transcode;

/// How much is asked for and not yet come to.
const WINDOW: u64 = 64 << 20;
/// How much is asked for at once.
const PIECE: u64 = 8 << 20;

/// A stretch of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece<'a> {
    file: &'a Path,
    offset: u64,
    bytes: u64,
    /// How many bytes of output there are when it has been read.
    due: u64,
}

/// What will be read, in order, and how far that has come.
#[derive(Debug, Default)]
pub(super) struct Ahead<'a> {
    pieces: Vec<Piece<'a>>,
    /// Pieces asked for, and their bytes.
    asked: (usize, u64),
    /// Pieces read, and their bytes.
    read: (usize, u64),
}

impl<'a> Ahead<'a> {
    /// What these shards are made of.
    pub(super) fn of<'s>(
        checkpoint: &'a Checkpoint,
        shards: impl Iterator<Item = &'s Shard<Task>>,
    ) -> Result<Self, WeightsError> {
        let mut ahead = Self::default();
        let mut made = 0;
        for shard in shards {
            for job in &shard.jobs {
                let sources = transcode::sources(checkpoint, job);
                let sources = sources.iter().map(|name| checkpoint.tensor(name));
                let sources = sources.collect::<Result<Vec<_>, _>>()?;
                let output = shard.bytes_of(job);
                ahead.add(&sources, made, output);
                made += output;
            }
        }
        Ok(ahead)
    }

    /// Tensors that are read one after the other for `output` bytes behind `made` others.
    fn add(&mut self, sources: &[TensorView<'a>], made: u64, output: u64) {
        let all: u64 = sources.iter().map(TensorView::byte_len).sum();
        let mut before = 0; // bytes of these tensors
        for tensor in sources {
            let Some(range) = tensor.range() else {
                continue;
            };
            let (mut offset, end) = (range.start as u64, range.end as u64);
            while offset < end {
                let bytes = PIECE.min(end - offset);
                before += bytes;
                let part = u128::from(output) * u128::from(before) / u128::from(all.max(1));
                self.pieces.push(Piece {
                    file: tensor.file(),
                    offset,
                    bytes,
                    due: made + part as u64,
                });
                offset += bytes;
            }
        }
    }

    /// Does `work`, which says how many bytes of output there are whenever there are more, and asks
    /// beside it for what it will read.
    pub(super) fn beside<T>(self, work: impl FnOnce(&Sender<u64>) -> T) -> T {
        let (made, incoming) = channel();
        scope(|scope| {
            scope.spawn(move || self.run(&incoming));
            let result = work(&made);
            drop(made);
            result
        })
    }

    fn run(mut self, made: &Receiver<u64>) {
        let mut files = HashMap::new();
        let mut latest = Some(0);
        while let Some(made_now) = latest {
            for piece in self.next(made_now) {
                let file = files.entry(piece.file);
                if let Some(file) = file.or_insert_with(|| File::open(piece.file).ok()) {
                    will_need(file, piece.offset, piece.bytes);
                }
            }
            // What came meanwhile is one step.
            latest = made
                .recv()
                .ok()
                .map(|n| made.try_iter().last().unwrap_or(n));
        }
    }

    /// The pieces to ask for once there are so many bytes of output.
    fn next(&mut self, made: u64) -> Vec<Piece<'a>> {
        while let Some(piece) = self.pieces.get(self.read.0)
            && piece.due <= made
        {
            self.read.0 += 1;
            self.read.1 += piece.bytes;
        }
        let mut next = Vec::new();
        while let Some(piece) = self.pieces.get(self.asked.0)
            && self.asked.1 < self.read.1 + WINDOW
        {
            self.asked.0 += 1;
            self.asked.1 += piece.bytes;
            if self.asked.0 > self.read.0 {
                next.push(*piece);
            }
        }
        next
    }
}

/// Has the system begin to read; returns before it has.
#[cfg(target_os = "linux")]
fn will_need(file: &File, offset: u64, bytes: u64) {
    use rustix::fs::{Advice, fadvise};
    let _ = fadvise(
        file,
        offset,
        std::num::NonZeroU64::new(bytes),
        Advice::WillNeed,
    );
}

#[cfg(not(target_os = "linux"))]
fn will_need(_: &File, _: u64, _: u64) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(pieces: &[(u64, u64)]) -> Ahead<'static> {
        let piece = |(bytes, due): &(u64, u64)| Piece {
            file: Path::new("a"),
            offset: 0,
            bytes: *bytes,
            due: *due,
        };
        Ahead {
            pieces: pieces.iter().map(piece).collect(),
            ..Ahead::default()
        }
    }

    /// Breaks with: a window that stands still, grows with the model, or asks for what was read.
    #[test]
    fn what_is_asked_for_keeps_its_distance() {
        let pieces: Vec<(u64, u64)> = (1..=100).map(|i| (PIECE, i * 10)).collect();
        let (mut steady, mut asked) = (ahead(&pieces), 0);
        for made in 0..=1000 {
            asked += steady.next(made).len() as u64;
            let read = made / 10;
            assert_eq!(asked, (read + WINDOW / PIECE).min(100), "{made}");
        }
        // A step over more than the window: what was passed is not asked for.
        let mut leaping = ahead(&pieces);
        assert_eq!(leaping.next(0).len(), 8);
        assert_eq!(leaping.next(500).len(), 8);
        assert_eq!(leaping.next(1000).len(), 0);
    }

    /// Breaks with: a tensor that nobody asks for, a stretch of another one, work that waits for
    /// files which are gone.
    #[test]
    fn all_of_a_checkpoint_is_asked_for() {
        use crate::convert::outputs::Outputs;
        use crate::convert::{ConvertFormat, ConvertOptions};
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden");
        let checkpoint = Checkpoint::open(format!("{root}/base/model")).unwrap();
        for format in [
            ConvertFormat::Bf16,
            ConvertFormat::Int4 { group: 32 }, // stacks of experts
        ] {
            let options = ConvertOptions {
                format,
                ..ConvertOptions::default()
            };
            let outputs = Outputs::plan(&checkpoint, None, &options).unwrap();
            let mut ahead = Ahead::of(&checkpoint, outputs.shards.iter()).unwrap();
            let mut ranges: Vec<_> = checkpoint.tensors().filter_map(|t| t.range()).collect();
            let mut asked: Vec<_> = ahead
                .pieces
                .iter()
                .map(|p| p.offset as usize..(p.offset + p.bytes) as usize)
                .collect();
            ranges.sort_by_key(|r| r.start);
            asked.sort_by_key(|r| r.start);
            assert_eq!(asked, ranges);
            let output: u64 = outputs.shards.iter().map(|s| s.data_bytes).sum();
            assert!(ahead.pieces.iter().all(|p| p.due <= output));
            let gone = Path::new("not-there");
            ahead.pieces.iter_mut().for_each(|p| p.file = gone);
            assert_eq!(ahead.beside(|made| made.send(output).is_ok() as u8), 1);
        }
    }
}
