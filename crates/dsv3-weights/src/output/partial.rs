//! The directory of an unfinished checkpoint.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::WeightsError;

use super::Shard;
use super::shard::noted;

/// Says what a partial directory will be; locked while it is written.
const JOURNAL: &str = ".dsv3-partial.json";

#[derive(serde::Serialize, serde::Deserialize, PartialEq)]
struct Journal {
    version: u32,
    fingerprint: String,
}

/// `OUT.partial`, claimed by this process.
#[derive(Debug)]
pub(crate) struct Partial {
    dir: PathBuf,
    journal: File,
}

impl Partial {
    /// Makes `OUT.partial`, or takes up the one that the same command left behind.
    pub(crate) fn claim(out_dir: &Path, fingerprint: String) -> Result<Self, WeightsError> {
        if fs::symlink_metadata(out_dir).is_ok() {
            return Err(WeightsError::OutputExists {
                path: out_dir.into(),
            });
        }
        let Some(name) = out_dir.file_name() else {
            let problem = format!("is {}, which names no directory to make", out_dir.display());
            return Err(WeightsError::BadOption {
                option: "output",
                problem,
            });
        };
        let mut name = name.to_os_string();
        name.push(".partial");
        let dir = out_dir.with_file_name(name);
        let wanted = Journal {
            version: 1,
            fingerprint,
        };
        let path = dir.join(JOURNAL);
        let fresh = fs::symlink_metadata(&dir).is_err();
        if fresh {
            fs::create_dir_all(&dir).map_err(WeightsError::io("create", &dir))?;
            sync_dir(parent(&dir));
        }
        // A directory without a journal is somebody else's, unless there is nothing in it.
        let empty = || fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
        if !path.is_file() && !empty() {
            return Err(WeightsError::ForeignPartial { path: dir });
        }
        let mut journal = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(WeightsError::io("create", &path))?;
        match journal.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WeightsError::PartialInUse { path: dir }),
            // Some network file systems cannot lock; two writers there are the user's to avoid.
            Err(TryLockError::Error(_)) => {}
        }
        let mut text = String::new();
        let read = (&journal).take(4096).read_to_string(&mut text);
        read.map_err(WeightsError::io("read", &path))?;
        if text.is_empty() {
            let json = serde_json::to_string(&wanted).unwrap_or_default();
            journal
                .write_all(json.as_bytes())
                .map_err(WeightsError::io("write", &path))?;
            journal
                .sync_all()
                .map_err(WeightsError::io("flush", &path))?;
        } else if serde_json::from_str::<Journal>(&text)
            .ok()
            .is_none_or(|found| found != wanted)
        {
            return Err(WeightsError::ForeignPartial { path: dir });
        }
        Ok(Self { dir, journal })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the file system that it lies on has left for this user.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.dir)
    }

    /// Whether an earlier run finished this shard: its length and its whole header are right.
    pub(crate) fn holds<T>(&self, shard: &Shard<T>) -> bool {
        let path = self.dir.join(&shard.file_name);
        if !fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == shard.file_bytes())
        {
            return false;
        }
        let mut header = vec![0; shard.header.len()];
        File::open(path).is_ok_and(|mut f| f.read_exact(&mut header).is_ok())
            && header == shard.header
    }

    /// A new file under the shard's temporary name; what an interrupted run left there is removed.
    pub(crate) fn create_temporary<T>(
        &self,
        shard: &Shard<T>,
    ) -> Result<(PathBuf, File), WeightsError> {
        let path = self.temporary(shard);
        let file = create_anew(&path)?;
        Ok((path, file))
    }

    /// Gives a fully written shard its name.
    pub(crate) fn complete<T>(&self, shard: &Shard<T>) -> Result<(), WeightsError> {
        let path = self.dir.join(&shard.file_name);
        fs::rename(self.temporary(shard), &path).map_err(WeightsError::io("rename", &path))?;
        sync_dir(&self.dir);
        Ok(())
    }

    /// Writes a note into the room that a finished shard's header has for it.
    ///
    /// A shard that is torn here no longer has the header that [`Partial::holds`] looks for, and
    /// is written again.
    pub(crate) fn note(
        &self,
        file_name: &str,
        header: &[u8],
        text: &str,
    ) -> Result<(), WeightsError> {
        let path = self.dir.join(file_name);
        let Some((at, bytes)) = noted(header, text) else {
            return Err(WeightsError::BadOption {
                option: "note",
                problem: format!("has {} bytes, more than a header has room for", text.len()),
            });
        };
        let mut file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(WeightsError::io("open", &path))?;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.write_all(&bytes))
            .and_then(|()| file.sync_all())
            .map_err(WeightsError::write(&path, bytes.len() as u64))
    }

    /// Gives the whole directory its name. The journal goes last, so that a crash in between
    /// leaves either a partial that can be gone on with or a finished output.
    pub(crate) fn finish(self, out_dir: &Path) -> Result<(), WeightsError> {
        sync_dir(&self.dir);
        if fs::symlink_metadata(out_dir).is_ok() {
            return Err(WeightsError::OutputExists {
                path: out_dir.into(),
            });
        }
        fs::rename(&self.dir, out_dir).map_err(WeightsError::io("rename", &self.dir))?;
        let _ = fs::remove_file(out_dir.join(JOURNAL));
        sync_dir(parent(out_dir));
        drop(self.journal);
        Ok(())
    }

    fn temporary<T>(&self, shard: &Shard<T>) -> PathBuf {
        self.dir.join(format!("{}.tmp", shard.file_name))
    }
}

/// A new file, of ordinary permissions, in place of what an interrupted run left under this name.
pub(super) fn create_anew(path: &Path) -> Result<File, WeightsError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(WeightsError::io("remove", path)(e));
        }
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(WeightsError::io("create", path))
}

/// The directory that a name stands in: for a bare name the current one, which `Path` calls "" and
/// no system opens.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path, // a root
    }
}

#[cfg(target_os = "linux")]
fn free_bytes(dir: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(target_os = "linux"))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Makes renames durable where the system lets a directory be flushed; elsewhere does nothing.
pub(super) fn sync_dir(dir: &Path) {
    let _ = File::open(dir).and_then(|d| d.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a bare `--out NAME` whose last rename a crash may undo, since no directory of
    /// the name "" can be flushed.
    #[test]
    fn a_bare_name_stands_in_the_current_directory() {
        for (path, directory) in [
            ("out", "."),
            ("./out", "."),
            ("models/out", "models"),
            ("/out", "/"),
            ("/", "/"),
        ] {
            assert_eq!(parent(Path::new(path)), Path::new(directory), "{path}");
            assert!(directory == "models" || File::open(directory).is_ok());
        }
    }
}
