//! Mapping a file into memory: the only unsafe code of this crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::WeightsError;

/// Maps a whole file read-only. The bytes keep the map alive; nothing is copied.
///
/// Pipes, devices and directories are refused before they are opened (opening a pipe would wait
/// for a writer). A symbolic link to a file is followed: download caches are made of them.
pub(crate) fn map_file(path: &Path) -> Result<Bytes, WeightsError> {
    let metadata = std::fs::metadata(path).map_err(WeightsError::io("open", path))?;
    if !metadata.is_file() {
        return Err(WeightsError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let len = file
        .metadata()
        .map_err(WeightsError::io("open", path))?
        .len();
    if len == 0 {
        return Ok(Bytes::new()); // An empty map is an error on some systems.
    }
    // SAFETY: the map is read-only and private to this process, and is handed out only as shared
    // `u8` slices, for which any bit pattern is valid. What remains is that another process may
    // change or truncate the file while it is mapped: changed bytes are still bytes, and every
    // value read out of them is range-checked by its reader; truncation raises SIGBUS, which no
    // check here can prevent and which `Checkpoint::open` documents.
    let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::io("map", path))?;
    Ok(Bytes::from_owner(map))
}
