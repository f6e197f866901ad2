//! A data directory belongs to one process at a time.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Error;
use super::packages::random_name;
use crate::secret::Secret;

/// Who holds a data directory.
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
pub struct Lock(Mutex<File>);

fn file(directory: &Path) -> PathBuf {
    directory.join("larder.lock")
}

/// Who holds the directory; `None` where nobody does.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub fn holder(directory: &Path) -> Option<Holder> {
    let lock = File::open(file(directory)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read(directory)),
        _ => None,
    }
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn read(directory: &Path) -> Holder {
    std::fs::read(file(directory))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Opens the control interface of the Larder that holds the directory.
const SECRET_FILE: &str = "control.secret";

/// Writes another secret into the directory, for its owner's eyes alone.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn secret(directory: &Path) -> std::io::Result<Secret> {
    let path = directory.join(SECRET_FILE);
    let _ = std::fs::remove_file(&path);
    let secret = format!("{}{}", random_name(), random_name());
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(secret.as_bytes())?;
    Ok(Secret::new(&secret))
}

/// A name of the directory's own, given once.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn identity(directory: &Path) -> std::io::Result<String> {
    let path = directory.join("larder.id");
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.is_empty() => Ok(name),
        _ => {
            let name = random_name();
            let beside = directory.join("larder.id.new");
            std::fs::write(&beside, &name)?;
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
    let _ = std::fs::remove_file(&beside);
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(key.expose().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    Ok(key)
}

/// The secret of the Larder that holds the directory; `None` where it cannot be read.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub fn read_secret(directory: &Path) -> Option<Secret> {
    let text = std::fs::read_to_string(directory.join(SECRET_FILE)).ok()?;
    Some(Secret::new(text.trim()))
}

impl Lock {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::Directory {
            path: directory.to_owned(),
            what: "cannot be written",
            cause,
        };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(file(directory))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {
                let lock = Self(Mutex::new(lock));
                lock.write(None).map_err(failed)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(Error::Held {
                path: directory.to_owned(),
                holder: read(directory),
            }),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    pub fn announce(&self, address: &str) {
        if let Err(error) = self.write(Some(address.to_owned())) {
            tracing::warn!(%error, "The lock file does not say where this Larder serves");
        }
    }

    fn write(&self, address: Option<String>) -> std::io::Result<()> {
        let holder = Holder {
            pid: std::process::id(),
            address,
        };
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(serde_json::to_string(&holder)?.as_bytes())
    }
}
