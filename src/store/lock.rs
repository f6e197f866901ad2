//! A data directory belongs to one process at a time.
//!
//! The lock is on the directory itself, so that nobody gets a second one by deleting a file in it.
//! The lock file says who holds it, and is locked too, for file systems that lock no folders.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::packages::random_name;
use super::{Error, private};
use crate::secret::Secret;

/// The process that holds a data directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// Where it serves, `http://127.0.0.1:5273`, once it does.
    pub address: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, self.pid) {
            (_, 0) => f.write_str("another Larder"),
            (Some(address), pid) => {
                write!(f, "another Larder, process {pid}, which serves {address}")
            }
            (None, pid) => write!(f, "another Larder, process {pid}"),
        }
    }
}

/// The lock; the operating system frees it with the process.
pub struct Lock {
    file: Mutex<File>,
    /// None where the file system locks no folders.
    _directory: Option<File>,
}

fn file(directory: &Path) -> PathBuf {
    directory.join("larder.lock")
}

/// Reads who holds the directory; `None` where nobody does.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub fn holder(directory: &Path) -> Option<Holder> {
    let is_locked = |path: &Path| {
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    };
    (is_locked(directory) || is_locked(&file(directory))).then(|| read(directory))
}

/// Locks a file or folder; one who only asks who holds it has it locked for a moment.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..ASKED_MAX {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(ASKING),
            locked => return locked,
        }
    }
    file.try_lock()
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn read(directory: &Path) -> Holder {
    std::fs::read(file(directory))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// How long one who asks who holds the directory is waited for.
const ASKED_MAX: u32 = 3;
const ASKING: std::time::Duration = std::time::Duration::from_millis(1);

/// The name of the directory's own, where it has one.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn identity_of(directory: &Path) -> Option<String> {
    let name = std::fs::read_to_string(directory.join("larder.id")).ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// A name of the directory's own, given once.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn identity(directory: &Path) -> std::io::Result<String> {
    let path = directory.join("larder.id");
    match identity_of(directory) {
        Some(name) => Ok(name),
        None => {
            let name = random_name();
            let beside = directory.join("larder.id.new");
            private::create(&beside)?.write_all(name.as_bytes())?;
            std::fs::rename(&beside, &path)?;
            Ok(name)
        }
    }
}

/// The key that bundles are signed by, for its owner's eyes alone; made where there is none.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn bundle_key(
    directory: &Path,
    make: impl FnOnce() -> Option<Secret>,
) -> std::io::Result<Secret> {
    let path = directory.join("bundle.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => return Ok(Secret::new(text.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = make().ok_or(std::io::ErrorKind::Other)?;
    let beside = directory.join("bundle.key.new");
    let mut file = private::create(&beside)?;
    file.write_all(key.expose().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    Ok(key)
}

impl Lock {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::Directory {
            path: directory.to_owned(),
            what: "cannot be written",
            cause,
        };
        let held = || Error::Held {
            path: directory.to_owned(),
            holder: read(directory),
        };
        let folder = File::open(directory).map_err(failed)?;
        let folder = match try_lock(&folder) {
            Ok(()) => Some(folder),
            Err(TryLockError::WouldBlock) => return Err(held()),
            Err(TryLockError::Error(_)) => None,
        };
        let lock = private::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(file(directory))
            .map_err(failed)?;
        match try_lock(&lock) {
            Ok(()) => {
                let lock = Self {
                    file: Mutex::new(lock),
                    _directory: folder,
                };
                lock.write(None).map_err(failed)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(held()),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    pub fn announce(&self, address: &str) {
        if let Err(error) = self.write(Some(address.to_owned())) {
            tracing::warn!(%error, "Writing this Larder's address to the lock file failed; commands cannot find it");
        }
    }

    fn write(&self, address: Option<String>) -> std::io::Result<()> {
        let holder = Holder {
            pid: std::process::id(),
            address,
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(serde_json::to_string(&holder)?.as_bytes())
    }
}
