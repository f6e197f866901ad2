//! Bytes coming in: written and hashed on a thread of their own, kept only if they are what was
//! expected.

use std::fs::File;
use std::io::{SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::catalog::Catalog;
use super::map::Windows;
use super::space::{NotKept, Space};
use super::{Blob, Error, Store, blob};
use crate::package::{Algorithm, Digester, Digests, Expected};
use crate::task::Tasks;

/// From here on, digests are computed on two threads.
const PARTED_BYTES_MIN: u64 = 1024 * 1024;

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
    windows: Windows,
    tasks: Tasks,
}

/// A file that grows, and how much of it can be read.
pub struct Growing {
    pub(super) file: Arc<File>,
    pub(super) written: watch::Receiver<u64>,
    pub(super) windows: Windows,
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

/// For how long bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Until their room is needed.
    Cached,
    /// For good: never evicted, and durable when they have their name.
    Published,
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
        let pieces_ahead_max = store.pieces_ahead_max;
        let (pieces, received) = mpsc::channel(pieces_ahead_max);
        let (progress, written) = watch::channel(0);
        let digester = Digester::new(algorithms);
        let file = Arc::clone(&partial.file);
        let worker = store.tasks.spawn_blocking(move || match size {
            Some(size) if size < PARTED_BYTES_MIN => take_in(&file, received, digester, &progress),
            _ => take_in_parted(&file, received, digester, &progress, pieces_ahead_max),
        });
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
                windows: store.held.windows.clone(),
                tasks: store.tasks.clone(),
            },
        })
    }

    /// The file as it grows, and how much of it can be read.
    #[must_use]
    pub fn watch(&self) -> Growing {
        Growing {
            file: Arc::clone(&self.partial.file),
            written: self.written.clone(),
            windows: self.keeper.windows.clone(),
        }
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

    /// The bytes, to be looked into before they are kept. Blocks.
    #[must_use]
    pub fn reader(&self) -> FileReader {
        FileReader {
            file: Arc::clone(&self.partial.file),
            size: self.size,
            at: 0,
        }
    }

    /// Syncs the bytes and gives them their name: the only way to a stored [`Blob`].
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn keep(self, keeping: Keeping) -> Result<Blob, Error> {
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
                if keeping == Keeping::Published {
                    sync_folders(&path)?;
                }
                Ok::<_, std::io::Error>(Arc::clone(&partial.file))
            })
            .await
            .map_err(|_| Error::Stopped)?;
        let file = kept.map_err(full_or_broken)?;
        match keeping {
            Keeping::Cached => {
                if keeper.catalog.add_blob(id, size).await? {
                    keeper.space.add(size);
                }
            }
            Keeping::Published => {
                if keeper.catalog.keep_blob(id, size).await? {
                    keeper.space.remove(size);
                }
            }
        }
        Ok(Blob::of_file(id, size, file, &keeper.windows))
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

/// Makes a new name in a folder survive a loss of power, and the folder's own name.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn sync_folders(path: &Path) -> std::io::Result<()> {
    for folder in path.ancestors().skip(1).take(2) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A file's bytes from the beginning, wherever others read it.
pub struct FileReader {
    file: Arc<File>,
    size: u64,
    at: u64,
}

impl std::io::Read for FileReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl std::io::Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = sought(to, self.at, self.size)?;
        Ok(self.at)
    }
}

/// The place that is sought in a file of that size.
pub(super) fn sought(to: SeekFrom, at: u64, size: u64) -> std::io::Result<u64> {
    let (base, offset) = match to {
        SeekFrom::Start(at) => (at, 0),
        SeekFrom::Current(offset) => (at, offset),
        SeekFrom::End(offset) => (size, offset),
    };
    base.checked_add_signed(offset)
        .ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
}

fn take_in(
    file: &File,
    pieces: mpsc::Receiver<Bytes>,
    mut digester: Digester,
    progress: &watch::Sender<u64>,
) -> Result<Digests, Error> {
    pour(file, pieces, progress, |piece| digester.update(piece))?;
    Ok(digester.finish())
}

fn pour(
    mut file: &File,
    mut pieces: mpsc::Receiver<Bytes>,
    progress: &watch::Sender<u64>,
    mut digest: impl FnMut(&Bytes),
) -> Result<(), Error> {
    let mut written = 0;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece).map_err(full_or_broken)?;
        written += piece.len() as u64;
        // Followers need not wait for the hash: the end is held back until it is right.
        progress.send_replace(written);
        digest(&piece);
    }
    Ok(())
}

/// The same with the digests beside SHA-256 on a thread of their own: SHA-512 takes twice the time
/// of SHA-256, and together they would be what a fast upstream waits for.
fn take_in_parted(
    file: &File,
    pieces: mpsc::Receiver<Bytes>,
    mut digester: Digester,
    progress: &watch::Sender<u64>,
    pieces_ahead_max: usize,
) -> Result<Digests, Error> {
    let Some(mut others) = digester.part() else {
        return take_in(file, pieces, digester, progress);
    };
    let (beside, taken) = std::sync::mpsc::sync_channel::<Bytes>(pieces_ahead_max);
    std::thread::scope(|scope| {
        let others = scope.spawn(move || {
            for piece in taken {
                others.update(&piece);
            }
            others
        });
        pour(file, pieces, progress, |piece| {
            // Taken until the end, or its thread panicked, which shows on joining.
            let _ = beside.send(piece.clone());
            digester.update(piece);
        })?;
        drop(beside);
        digester.join(others.join().map_err(|_| Error::Stopped)?);
        Ok(digester.finish())
    })
}

fn full_or_broken(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::NotKept(NotKept::DiskFull)
        }
        _ => Error::Io(error),
    }
}
