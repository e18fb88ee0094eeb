//! A safetensors file with one tensor `logits` F32 `[tokens, vocab]`, written row by row.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

/// A file in the making, under a temporary name until it is whole.
pub(crate) struct LogitsFile {
    out: Option<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
    vocab: usize,
    rows_left: usize,
}

impl LogitsFile {
    /// Begin a file for `tokens` rows of `vocab` logits.
    pub(crate) fn create(path: &Path, tokens: usize, vocab: usize) -> anyhow::Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| anyhow!("{} names no file to write logits to", path.display()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let create = || -> io::Result<BufWriter<File>> {
            let mut out = BufWriter::new(File::create(&temporary)?);
            let bytes = tokens as u64 * vocab as u64 * 4;
            let mut header = format!(
                r#"{{"logits":{{"dtype":"F32","shape":[{tokens},{vocab}],"data_offsets":[0,{bytes}]}}}}"#
            );
            // The data begins at a multiple of eight, as safetensors' own writer has it.
            while !header.len().is_multiple_of(8) {
                header.push(' ');
            }
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(header.as_bytes())?;
            Ok(out)
        };
        let out = create().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(LogitsFile {
            out: Some(out),
            temporary,
            path: path.to_owned(),
            vocab,
            rows_left: tokens,
        })
    }

    /// Append one row.
    pub(crate) fn row(&mut self, logits: &[f32]) -> anyhow::Result<()> {
        if logits.len() != self.vocab || self.rows_left == 0 {
            return Err(anyhow!(
                "a row of {} logits does not belong into {}, which has {} rows of {} left",
                logits.len(),
                self.path.display(),
                self.rows_left,
                self.vocab
            ));
        }
        self.rows_left -= 1;
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        logits
            .iter()
            .try_for_each(|x| out.write_all(&x.to_le_bytes()))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Give the whole file its name.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if self.rows_left > 0 {
            return Err(anyhow!("{} rows of logits are missing", self.rows_left));
        }
        let close = |out: Option<BufWriter<File>>| -> io::Result<()> {
            if let Some(out) = out {
                out.into_inner()?.sync_all()?;
            }
            fs::rename(&self.temporary, &self.path)
        };
        close(self.out.take()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for LogitsFile {
    fn drop(&mut self) {
        // After `finish` there is nothing of that name any more.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a header that safetensors' own reader refuses, or rows in another order.
    #[test]
    fn safetensors_reads_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logits.safetensors");
        let mut file = LogitsFile::create(&path, 2, 3).unwrap();
        assert!(!path.exists());
        file.row(&[1.0, 2.0, 3.0]).unwrap();
        assert!(file.row(&[1.0]).is_err());
        file.row(&[4.0, 5.0, f32::NEG_INFINITY]).unwrap();
        file.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let logits = tensors.tensor("logits").unwrap();
        assert_eq!(logits.shape(), [2, 3]);
        assert_eq!(&logits.data()[12..16], &4f32.to_le_bytes());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Breaks with: half a file left behind under the name that was asked for, or at all.
    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logits.safetensors");
        let mut file = LogitsFile::create(&path, 2, 1).unwrap();
        file.row(&[1.0]).unwrap();
        assert!(file.finish().is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
