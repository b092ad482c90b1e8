//! The lock of a state folder: one worker at a time, and it dies with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ottla_api::{Error, ErrorKind, Result, error::ResultExt};

/// How long a folder that is in use is waited for: `ottla topics` takes it for a moment where no worker runs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Held for as long as the folder is ours. The operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock, or says who has it.
    pub(super) fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join("ottla.lock");
        let failed = || format!("open lock file {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .or_error(ErrorKind::Config, failed())?;
        let asked = Instant::now();
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if asked.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => break other,
            }
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The owner may be about to write its number; the message then does without.
                let _ = file.read_to_string(&mut text);
                let owner = text.trim().parse::<u32>().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                return Err(Error::config(format!(
                    "state folder {} is in use by another worker{owner}; stop it, or give this one another --state-dir",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).or_error(ErrorKind::Config, format!("lock {}", path.display()));
            }
        }
        // The number only serves the message above, so a full disk must not keep a worker from its own folder.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
