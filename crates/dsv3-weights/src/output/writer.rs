//! Writing one safetensors file whose layout is known beforehand.

use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::{TensorEntry, WeightsError};

use super::Shard;

/// A file whose header is written and whose tensors are being filled in.
#[derive(Debug)]
pub(super) struct ShardWriter<'a, W> {
    file: W,
    path: PathBuf,
    /// Where the data starts.
    data: u64,
    tensors: &'a [TensorEntry],
    /// Bytes still to be written, here and in the shards that follow.
    needed: u64,
}

impl<'a, W: Write + Seek> ShardWriter<'a, W> {
    pub(super) fn new<T>(
        mut file: W,
        path: PathBuf,
        shard: &'a Shard<T>,
        needed: u64,
    ) -> Result<Self, WeightsError> {
        let written = file.write_all(&shard.header);
        written.map_err(WeightsError::write(
            &path,
            needed + shard.header.len() as u64,
        ))?;
        Ok(Self {
            file,
            path,
            data: shard.header.len() as u64,
            tensors: &shard.tensors,
            needed,
        })
    }

    /// Writes bytes of the output at `slot`, `offset` bytes into it.
    pub(super) fn write_at(
        &mut self,
        slot: usize,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), WeightsError> {
        let Some(tensor) = self.tensors.get(slot) else {
            return Err(WeightsError::WrongLength {
                what: "output tensors of a shard",
                expected: slot.saturating_add(1),
                given: self.tensors.len(),
            });
        };
        debug_assert!(tensor.begin + offset + bytes.len() as u64 <= tensor.end);
        let at = self.data + tensor.begin + offset;
        let written = self
            .file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.write_all(bytes));
        written.map_err(WeightsError::write(&self.path, self.needed))?;
        self.needed = self.needed.saturating_sub(bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;
    use crate::output::Job;

    /// A disk with room for so many bytes.
    #[derive(Debug)]
    struct SmallDisk(std::io::Cursor<Vec<u8>>, usize);

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.1.saturating_sub(self.0.position() as usize);
            match room.min(bytes.len()) {
                0 if !bytes.is_empty() => Err(std::io::Error::from_raw_os_error(28)), // ENOSPC
                n => self.0.write(&bytes[..n]),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Seek for SmallDisk {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    /// "No such file" or a bare number would not tell a user to free 300 GB.
    #[test]
    fn a_full_disk_is_named_with_what_is_missing() {
        let entry = |name: &str, begin, end| TensorEntry {
            name: name.into(),
            dtype: Dtype::U8,
            shape: vec![8],
            begin,
            end,
        };
        let shard = Shard {
            file_name: "model.safetensors".into(),
            tensors: vec![entry("a", 0, 8), entry("b", 8, 16)],
            jobs: Vec::<Job<()>>::new(),
            data_bytes: 16,
            header: vec![1; 4],
            packed: false,
        };
        let path = PathBuf::from("out.partial/model.safetensors.tmp");
        let disk = SmallDisk(std::io::Cursor::new(Vec::new()), 14);
        let mut writer = ShardWriter::new(disk, path.clone(), &shard, 116).unwrap();
        writer.write_at(0, 0, &[2; 8]).unwrap();
        let e = writer.write_at(1, 0, &[3; 8]).unwrap_err();
        assert!(
            matches!(&e, WeightsError::DiskFull { path: p, needed: 108 } if *p == path),
            "{e}"
        );
        let disk = SmallDisk(std::io::Cursor::new(Vec::new()), 0);
        let e = ShardWriter::new(disk, path, &shard, 116).unwrap_err();
        assert!(
            matches!(e, WeightsError::DiskFull { needed: 120, .. }),
            "{e}"
        );
    }
}
