//! The folder that a fine-tuning writes: who it belongs to, and what stands in it when.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use dsv3_weights::adapter::ADAPTER_CONFIG;

use crate::error::TrainError;
use crate::run::RunDir;

/// The state of an unfinished run, inside of the folder.
const RUN: &str = ".run";
/// Held locked by the process that trains.
const LOCK: &str = "lock";

/// A folder for one adapter, claimed by this process.
#[derive(Debug)]
pub(super) struct Out {
    dir: PathBuf,
    /// Whether an earlier run left its state here.
    begun: bool,
    lock: Option<File>,
}

impl Out {
    /// Checks that `dir` is free, or holds an unfinished run; nothing is written yet.
    pub(super) fn check(dir: &Path) -> Result<Self, TrainError> {
        let wrong = |problem: &str| TrainError::Output {
            path: dir.to_owned(),
            problem: problem.to_owned(),
        };
        let begun = dir.join(RUN).is_dir();
        let out = Out {
            dir: dir.to_owned(),
            begun,
            lock: None,
        };
        if begun {
            return Ok(out);
        }
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(out),
            Ok(false) if dir.join(ADAPTER_CONFIG).exists() => Err(wrong(
                "it holds a finished adapter. Name another folder, or move this one away",
            )),
            Ok(false) => Err(wrong(
                "it holds something else. Name a folder that does not exist yet",
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(out),
            Err(_) if dir.exists() && !dir.is_dir() => {
                Err(wrong("it is no folder. Name one that does not exist yet"))
            }
            Err(source) => Err(TrainError::Read {
                path: dir.to_owned(),
                source,
            }),
        }
    }

    /// Whether a run is to be gone on with.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the folder and keeps other processes out.
    pub(super) fn claim(&mut self) -> Result<RunDir, TrainError> {
        let state = self.dir.join(RUN);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TrainError::Write { path, source }
        };
        fs::create_dir_all(&state).map_err(failed(&state))?;
        let path = state.join(LOCK);
        let lock = File::create(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(TrainError::Output {
                    path: self.dir.clone(),
                    problem: "another process is training into it. Wait for it to end".into(),
                });
            }
            // Some network file systems can't lock; two writers there are the user's to avoid.
            Err(TryLockError::Error(_)) => {}
        }
        self.lock = Some(lock);
        Ok(RunDir::with_state(&self.dir, state))
    }

    /// The adapter is written: nothing is left to go on with.
    pub(super) fn finish(&mut self) -> Result<(), TrainError> {
        self.lock = None;
        let state = self.dir.join(RUN);
        fs::remove_dir_all(&state).map_err(|source| TrainError::Write {
            path: state,
            source,
        })
    }
}
