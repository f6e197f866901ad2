//! Bytes coming in: written and hashed on a thread of their own, kept only if they are what was
//! expected.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::catalog::Catalog;
use super::space::{NotKept, Space};
use super::{Blob, Error, Store, blob};
use crate::package::{Algorithm, Digester, Digests, Expected};
use crate::task::Tasks;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file under `partial/`, unlinked when it is dropped.
struct Partial {
    path: PathBuf,
    file: Arc<File>,
    renamed: bool,
}

impl Drop for Partial {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn drop(&mut self) {
        if !self.renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

struct Keeper {
    blobs: PathBuf,
    catalog: Catalog,
    space: Arc<Space>,
    tasks: Tasks,
}

/// Bytes under way into the store. Dropped before [`Incoming::verify`], they are gone.
pub struct Incoming {
    pieces: mpsc::Sender<Bytes>,
    worker: JoinHandle<Result<Digests, Error>>,
    partial: Partial,
    written: watch::Receiver<u64>,
    sent: u64,
    size: Option<u64>,
    keeper: Keeper,
}

/// Bytes that are whole and what was expected, not yet under their name.
pub struct Verified {
    digests: Digests,
    size: u64,
    partial: Partial,
    keeper: Keeper,
}

impl Incoming {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub(super) async fn start(
        store: &Store,
        size: Option<u64>,
        algorithms: &[Algorithm],
    ) -> Result<Self, Error> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = store.partial.join(number.to_string());
        let opened = store
            .tasks
            .spawn_blocking(move || {
                let file = File::options()
                    .create_new(true)
                    .read(true)
                    .write(true)
                    .open(&path)?;
                Ok::<_, std::io::Error>((path, Arc::new(file)))
            })
            .await
            .map_err(|_| Error::Stopped)?;
        let (path, file) = opened.map_err(full_or_broken)?;
        let partial = Partial {
            path,
            file,
            renamed: false,
        };
        let (pieces, received) = mpsc::channel(store.pieces_ahead_max);
        let (progress, written) = watch::channel(0);
        let digester = Digester::new(algorithms);
        let file = Arc::clone(&partial.file);
        let worker = store
            .tasks
            .spawn_blocking(move || take_in(&file, received, digester, &progress));
        Ok(Self {
            pieces,
            worker,
            partial,
            written,
            sent: 0,
            size,
            keeper: Keeper {
                blobs: store.blobs.clone(),
                catalog: store.catalog.clone(),
                space: Arc::clone(&store.space),
                tasks: store.tasks.clone(),
            },
        })
    }

    /// The file as it grows, and how much of it can be read.
    #[must_use]
    pub fn watch(&self) -> (Arc<File>, watch::Receiver<u64>) {
        (Arc::clone(&self.partial.file), self.written.clone())
    }

    /// Bytes taken in so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes a piece, waiting while the disk is behind.
    ///
    /// # Errors
    /// Where more comes than was promised, or the disk fails.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.sent += piece.len() as u64;
        if let Some(promised) = self.size
            && self.sent > promised
        {
            return Err(Error::Length {
                promised,
                got: self.sent,
            });
        }
        if self.pieces.send(piece).await.is_err() {
            // The worker ends early for a reason of its own.
            return Err(match (&mut self.worker).await {
                Ok(Err(error)) => error,
                _ => Error::Stopped,
            });
        }
        Ok(())
    }

    /// Waits for the disk and holds the bytes against what was promised.
    ///
    /// # Errors
    /// [`Error::Unverified`] or [`Error::Length`] where they are not that; nothing is kept then.
    pub async fn verify(self, expected: &Expected) -> Result<Verified, Error> {
        let Self {
            pieces,
            worker,
            partial,
            sent,
            size,
            keeper,
            ..
        } = self;
        drop(pieces);
        let digests = worker.await.map_err(|_| Error::Stopped)??;
        if let Some(promised) = size
            && promised != sent
        {
            return Err(Error::Length {
                promised,
                got: sent,
            });
        }
        if let Some((promised, found)) = expected.broken_by(&digests) {
            return Err(Error::Unverified {
                promised,
                found: found.map_or_else(|| "no such digest".to_owned(), |found| found.to_string()),
            });
        }
        Ok(Verified {
            digests,
            size: sent,
            partial,
            keeper,
        })
    }
}

impl Verified {
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Syncs the bytes and gives them their name: the only way to a stored [`Blob`].
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn keep(self) -> Result<Blob, Error> {
        let Self {
            digests,
            size,
            mut partial,
            keeper,
        } = self;
        let id = digests.blob;
        let path = blob::path(&keeper.blobs, id);
        let kept = keeper
            .tasks
            .spawn_blocking(move || {
                keep_file(&partial.file, &partial.path, &path)?;
                partial.renamed = true;
                Ok::<_, std::io::Error>(Arc::clone(&partial.file))
            })
            .await
            .map_err(|_| Error::Stopped)?;
        let file = kept.map_err(full_or_broken)?;
        if keeper.catalog.add_blob(id, size).await? {
            keeper.space.add(size);
        }
        Ok(Blob::of_file(id, size, file))
    }
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn keep_file(file: &File, partial: &Path, path: &Path) -> std::io::Result<()> {
    // Sync before rename: a crash in between must not leave the name on an empty file.
    file.sync_data()?;
    match std::fs::rename(partial, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::rename(partial, path)
        }
        result => result,
    }
}

fn take_in(
    mut file: &File,
    mut pieces: mpsc::Receiver<Bytes>,
    mut digester: Digester,
    progress: &watch::Sender<u64>,
) -> Result<Digests, Error> {
    let mut written = 0;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece).map_err(full_or_broken)?;
        digester.update(&piece);
        written += piece.len() as u64;
        progress.send_replace(written);
    }
    Ok(digester.finish())
}

fn full_or_broken(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::NotKept(NotKept::DiskFull)
        }
        _ => Error::Io(error),
    }
}
