//! A converted checkpoint before it has its name.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::ahead::Ahead;
use super::outputs::{Action, Outputs};
use super::{ConvertOptions, ConvertReport, Progress, fingerprint, side_files, transcode};
use crate::output::{self, Partial};
use crate::{Adapter, Checkpoint, WeightsError};

/// A conversion that is done but for its name: the folder is whole and can be opened, and what was
/// found out of it can be written down in it. Dropped, it stays what an interrupted conversion
/// leaves, and the same command goes on from there.
#[derive(Debug)]
pub struct Written {
    partial: Partial,
    out_dir: PathBuf,
    report: ConvertReport,
    /// Name and header of the first file, which has room for a note.
    first: Option<(String, Vec<u8>)>,
}

/// As [`convert`](super::convert), or [`merge`](super::merge) where there is an adapter, up to the
/// last step. There is room for what rounding costs, in every conversion alike: what one of the
/// three left half-finished the others go on with.
///
/// # Errors
/// As theirs.
pub fn prepare(
    checkpoint: &Checkpoint,
    adapter: Option<&Adapter>,
    out_dir: impl AsRef<Path>,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Written, WeightsError> {
    let out_dir = out_dir.as_ref();
    if checkpoint.args().packed {
        return Err(WeightsError::PackedSource {
            dir: checkpoint.dir().into(),
        });
    }
    let warnings = checkpoint.verify()?;
    let outputs = Outputs::plan(checkpoint, adapter, options)?;
    let partial = Partial::claim(out_dir, fingerprint::of(checkpoint, &outputs))?;

    let shards = &outputs.shards;
    let ahead = Ahead::of(checkpoint, shards.iter().filter(|s| !partial.holds(s)))?;
    let shards_kept = ahead.beside(|made| {
        let mut bytes_made = 0;
        output::fill(shards, &partial, progress, &mut |job, sink| {
            transcode::run(checkpoint, job, &outputs, &mut |output, at, bytes| {
                bytes_made += bytes.len() as u64;
                sink(output, at, bytes)?;
                // Nobody listens where the hints ended early, which matters to nobody.
                let _ = made.send(bytes_made);
                Ok(())
            })
        })
    })?;
    let side_files = side_files::write(checkpoint, &outputs, partial.dir())?;
    let report = ConvertReport {
        out_dir: out_dir.into(),
        shards: shards.len(),
        shards_kept,
        tensors: output::num_tensors(shards),
        merged: outputs.merged(),
        dequantized: outputs.count(|a| matches!(a, Action::Dequantize(_))),
        quantized: outputs.count(|a| matches!(a, Action::Quantize | Action::Requantize)),
        packed: outputs.count(|a| matches!(a, Action::Pack(_) | Action::PackStack(..))),
        cast: outputs.count(|a| matches!(a, Action::Cast(_))),
        copied: outputs.count(|a| matches!(a, Action::Copy { .. } | Action::CopyQuantized)),
        source_bytes: checkpoint.data_bytes(),
        bytes: output::data_bytes(shards),
        side_files,
        warnings,
    };
    let first = shards.first();
    Ok(Written {
        partial,
        out_dir: out_dir.into(),
        report,
        first: first.map(|shard| (shard.file_name.clone(), shard.header.clone())),
    })
}

impl Written {
    /// Where it lies until it has its name.
    pub fn dir(&self) -> &Path {
        self.partial.dir()
    }

    /// Write down what rounding cost, as [`Checkpoint::rounding`] will find it: JSON.
    ///
    /// # Errors
    /// [`WeightsError::BadOption`] for more than 8 KiB; what can go wrong with a file.
    pub fn set_rounding(&self, text: &str) -> Result<(), WeightsError> {
        match &self.first {
            Some((file, header)) => self.partial.note(file, header, text),
            None => Ok(()),
        }
    }

    /// Give it its name.
    ///
    /// # Errors
    /// [`WeightsError::OutputExists`] where something of that name came up meanwhile.
    pub fn finish(self) -> Result<ConvertReport, WeightsError> {
        self.partial.finish(&self.out_dir)?;
        Ok(self.report)
    }
}
