//! The data directory: this process's alone while it runs.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::lock::{self, Lock};
use super::{Error, door, private};
use crate::secret::Secret;

/// A data directory that this process holds.
pub struct DataDirectory {
    path: PathBuf,
    /// Stored blobs.
    blobs: PathBuf,
    /// Files under way, gone at the next start.
    partial: PathBuf,
    lock: Lock,
}

impl DataDirectory {
    /// Takes the directory, which is made where there is none.
    ///
    /// # Errors
    /// Where it cannot be written, or another process holds it.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |what| {
            move |cause| Error::Directory {
                path: path.to_owned(),
                what,
                cause,
            }
        };
        private::folder(path).map_err(failed("cannot be made"))?;
        let lock = Lock::take(path)?;
        private::narrow(path);
        let blobs = path.join("blobs/sha256");
        let partial = path.join("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(failed("cannot be written"))?;
        }
        for folder in [&blobs, &partial] {
            private::folder(folder).map_err(failed("cannot be written"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            blobs,
            partial,
            lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn blobs(&self) -> &Path {
        &self.blobs
    }

    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// A name of the directory's own, given once.
    pub(super) fn identity(&self) -> Result<String, Error> {
        lock::identity(&self.path).map_err(|cause| Error::Directory {
            path: self.path.clone(),
            what: "cannot be written",
            cause,
        })
    }

    /// A file without a name, gone when it is closed.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn scratch(&self) -> std::io::Result<std::fs::File> {
        tempfile::tempfile_in(&self.partial)
    }

    /// The key that signs bundles of this data directory where the configuration names none; `make`
    /// is asked for one where there is none yet. Blocks.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn bundle_key(&self, make: impl FnOnce() -> Option<Secret>) -> std::io::Result<Secret> {
        lock::bundle_key(&self.path, make)
    }

    /// Opens the socket by which the operator's commands come.
    ///
    /// # Errors
    /// Where the disk takes none.
    pub fn listen(&self) -> std::io::Result<UnixListener> {
        door::listen(&self.path)
    }

    /// Takes the socket's name away: nobody listens there any more.
    pub fn shut(&self) {
        door::shut(&self.path);
    }

    /// Says in the lock file where this process listens, for those who find the directory held.
    pub fn announce(&self, address: &str) {
        self.lock.announce(address);
    }
}
