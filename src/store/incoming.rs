//! Bytes coming in: written and hashed on a thread of their own, kept only if they are what was
//! expected.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::catalog::Catalog;
use super::content::{Content, ContentReader, ContentWriter};
use super::files::BlobFiles;
use super::map::Windows;
use super::seal::Seal;
use super::space::{NotKept, Space};
use super::{Blob, Error, Store, blob, private};
use crate::package::{Algorithm, BlobId, Digester, Digests, Expected};
use crate::task::Tasks;

/// How much further room is asked for, where nobody says how long the bytes are.
const ROOM_BYTES: u64 = 8 * 1024 * 1024;

/// From here on, digests are computed on two threads.
const PARTED_BYTES_MIN: u64 = 1024 * 1024;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file under `partial/`, unlinked when it is dropped.
struct Partial {
    path: PathBuf,
    file: Arc<File>,
    seal: Option<Arc<Seal>>,
    renamed: bool,
}

impl Partial {
    fn content(&self, size: Option<u64>) -> Content {
        Content::new(Arc::clone(&self.file), self.seal.clone(), size)
    }
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
    files: BlobFiles,
    catalog: Catalog,
    space: Arc<Space>,
    tasks: Tasks,
}

impl Keeper {
    /// A failure of the disk, in the words of who keeps for so long.
    fn refused(&self, error: Error, keeping: Keeping) -> Error {
        match error {
            Error::Io(error) => self.space.failed(error, keeping),
            error => error,
        }
    }
}

impl Space {
    /// How a disk that did not take something fails what came in. The cache does without; of what is
    /// published, a full disk is told apart from one that is broken.
    fn failed(&self, error: std::io::Error, keeping: Keeping) -> Error {
        let why = match error.kind() {
            // A limit on the size of files is one on the disk that they may take.
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => NotKept::DiskFull,
            _ => NotKept::Unwritable,
        };
        self.note_failure(why, &error);
        match (why, keeping) {
            (NotKept::Unwritable, Keeping::Published | Keeping::Staged) => Error::Io(error),
            (why, _) => Error::NotKept(why),
        }
    }
}

/// A file that grows, and how much of it can be read.
pub struct Growing {
    pub(super) content: Content,
    pub(super) written: watch::Receiver<u64>,
    pub(super) windows: Windows,
}

/// Bytes under way into the store. Dropped before [`Incoming::verify`], they are gone.
pub struct Incoming {
    pieces: mpsc::Sender<Bytes>,
    worker: JoinHandle<Result<Digester, Error>>,
    partial: Partial,
    written: watch::Receiver<u64>,
    sent: u64,
    size: Option<u64>,
    /// Bytes for which there is room; all of them where their number was known from the start.
    room: u64,
    keeping: Keeping,
    keeper: Keeper,
}

/// For how long bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Until their room is needed.
    Cached,
    /// For good: never evicted, and durable when they have their name.
    Published,
    /// Never evicted while a bundle comes in of which nothing is visible yet.
    Staged,
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
        keeping: Keeping,
    ) -> Result<Self, Error> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = store.directory.partial().join(number.to_string());
        let sealer = store.files.sealer().cloned();
        let opened = store
            .tasks
            .spawn_blocking(move || {
                let file = private::options()
                    .create_new(true)
                    .read(true)
                    .write(true)
                    .open(&path)?;
                let seal = sealer.map(|sealer| sealer.begin(&file)).transpose()?;
                Ok::<_, std::io::Error>((path, Arc::new(file), seal))
            })
            .await
            .map_err(|_| Error::Stopped)?;
        let (path, file, seal) = opened.map_err(|error| store.space.failed(error, keeping))?;
        let partial = Partial {
            path,
            file,
            seal,
            renamed: false,
        };
        let pieces_ahead_max = store.pieces_ahead_max;
        let (pieces, received) = mpsc::channel(pieces_ahead_max);
        let (progress, written) = watch::channel(0);
        let digester = Digester::new(algorithms);
        let (file, seal) = (Arc::clone(&partial.file), partial.seal.clone());
        let worker = store.tasks.spawn_blocking(move || {
            let writer = ContentWriter::new(&file, seal.as_deref());
            match size {
                Some(size) if size < PARTED_BYTES_MIN => {
                    take_in(writer, received, digester, &progress)
                }
                _ => take_in_parted(writer, received, digester, &progress, pieces_ahead_max),
            }
        });
        Ok(Self {
            pieces,
            worker,
            partial,
            written,
            sent: 0,
            size,
            room: size.unwrap_or(0),
            keeping,
            keeper: Keeper {
                files: store.files.clone(),
                catalog: store.catalog.clone(),
                space: Arc::clone(&store.space),
                tasks: store.tasks.clone(),
            },
        })
    }

    /// The file as it grows, and how much of it can be read.
    #[must_use]
    pub fn watch(&self) -> Growing {
        Growing {
            content: self.partial.content(None),
            written: self.written.clone(),
            windows: self.keeper.files.windows().clone(),
        }
    }

    /// Bytes taken in so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sees to it that there is room for the piece, where nobody said how long the bytes are.
    ///
    /// # Errors
    /// Where they may not become so many, or the disk is full. [`Incoming::stop`] may follow.
    pub fn make_room(&mut self, piece: &Bytes) -> Result<(), NotKept> {
        let needed = self.sent + piece.len() as u64;
        if self.size.is_none() && needed > self.room {
            let space = &self.keeper.space;
            let room = space.max().min(self.room + ROOM_BYTES).max(needed);
            space.admit_more(room, room - self.room, self.keeping)?;
            self.room = room;
        }
        Ok(())
    }

    /// Ends before the bytes do: what has come is in the file until its last reader leaves, and nothing is
    /// kept.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn stop(self) -> Result<Digester, Error> {
        drop(self.pieces);
        let stopped = self.worker.await.map_err(|_| Error::Stopped)?;
        stopped.map_err(|error| self.keeper.refused(error, self.keeping))
    }

    /// Takes a piece, waiting while the disk is behind.
    ///
    /// # Errors
    /// Where more comes than was promised, or the disk fails.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.make_room(&piece).map_err(Error::NotKept)?;
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
                Ok(Err(error)) => self.keeper.refused(error, self.keeping),
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
            keeping,
            ..
        } = self;
        drop(pieces);
        let digests = worker.await.map_err(|_| Error::Stopped)?;
        let digests = digests.map_err(|error| keeper.refused(error, keeping))?;
        let digests = digests.finish();
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
    pub fn reader(&self) -> ContentReader {
        ContentReader::new(self.partial.content(Some(self.size)), self.size)
    }

    /// Syncs the bytes and gives them their name: the only way to a stored [`Blob`]. What is only
    /// cached is a blob without a name where the disk or the catalog fails: it can be read to its end,
    /// and is a miss for the next who asks.
    ///
    /// # Errors
    /// Where the disk or the catalog fails, of what is to stay.
    pub async fn keep(self, keeping: Keeping) -> Result<Blob, Error> {
        let Self {
            digests,
            size,
            mut partial,
            keeper,
        } = self;
        let id = digests.blob;
        let content = partial.content(Some(size));
        let path = match &partial.seal {
            None => blob::path(keeper.files.folder(), id),
            Some(_) => blob::sealed_path(keeper.files.folder(), id),
        };
        let named = keeper
            .tasks
            .spawn_blocking(move || {
                // The whole of it, which unlinks its file when it is dropped without a name.
                let partial = &mut partial;
                if let Some(seal) = &partial.seal {
                    seal.name(&partial.file, id)?;
                }
                keep_file(&partial.file, &partial.path, &path)?;
                partial.renamed = true;
                if keeping == Keeping::Published {
                    sync_folders(&path)?;
                }
                Ok::<_, std::io::Error>(())
            })
            .await
            .map_err(|_| Error::Stopped)?;
        let named = named.map_err(|error| keeper.space.failed(error, keeping));
        match keeping {
            Keeping::Cached => {
                let is_here = match named {
                    Ok(()) => keeper.note_cached(id, size).await,
                    Err(_) => false,
                };
                if is_here {
                    keeper.space.note_success();
                }
            }
            Keeping::Published | Keeping::Staged => {
                named?;
                if keeper.catalog.blobs().keep(id, size).await? {
                    keeper.space.remove(size);
                }
                keeper.space.note_success();
            }
        }
        Ok(Blob::of(id, size, content, keeper.files.windows()))
    }
}

impl Keeper {
    /// Gives a cached blob its row; says whether it has one.
    async fn note_cached(&self, id: BlobId, size: u64) -> bool {
        match self.catalog.blobs().add(id, size).await {
            Ok(is_new) => {
                if is_new {
                    self.space.add(size);
                }
                true
            }
            Err(error) => {
                // Its file stays until garbage is collected: the bytes may be published as well.
                self.space
                    .note_failure(NotKept::Unwritable, &std::io::Error::other(error));
                false
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn keep_file(file: &File, partial: &Path, path: &Path) -> std::io::Result<()> {
    // Sync before rename: a crash in between must not leave the name on an empty file.
    file.sync_data()?;
    match std::fs::rename(partial, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                private::folder(folder)?;
            }
            std::fs::rename(partial, path)
        }
        result => result,
    }
}

/// Makes a new name in a folder survive a loss of power, and the folder's own name.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn sync_folders(path: &Path) -> std::io::Result<()> {
    for folder in path.ancestors().skip(1).take(2) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn take_in(
    writer: ContentWriter<'_>,
    pieces: mpsc::Receiver<Bytes>,
    mut digester: Digester,
    progress: &watch::Sender<u64>,
) -> Result<Digester, Error> {
    pour(writer, pieces, progress, |piece| digester.update(piece))?;
    Ok(digester)
}

fn pour(
    mut writer: ContentWriter<'_>,
    mut pieces: mpsc::Receiver<Bytes>,
    progress: &watch::Sender<u64>,
    mut digest: impl FnMut(&Bytes),
) -> Result<(), Error> {
    let mut written = 0;
    while let Some(piece) = pieces.blocking_recv() {
        written += writer.write(&piece)?;
        // Followers need not wait for the hash: the end is held back until it is right.
        progress.send_replace(written);
        digest(&piece);
    }
    written += writer.finish()?;
    progress.send_replace(written);
    Ok(())
}

/// Takes the bytes in with the digests beside SHA-256 on a thread of their own: SHA-512 takes twice
/// the time of SHA-256, and on one thread they would slow a fast upstream down.
fn take_in_parted(
    writer: ContentWriter<'_>,
    pieces: mpsc::Receiver<Bytes>,
    mut digester: Digester,
    progress: &watch::Sender<u64>,
    pieces_ahead_max: usize,
) -> Result<Digester, Error> {
    let Some(mut others) = digester.part() else {
        return take_in(writer, pieces, digester, progress);
    };
    let (beside, taken) = std::sync::mpsc::sync_channel::<Bytes>(pieces_ahead_max);
    std::thread::scope(|scope| {
        let others = scope.spawn(move || {
            for piece in taken {
                others.update(&piece);
            }
            others
        });
        pour(writer, pieces, progress, |piece| {
            // Taken until the end, or its thread panicked, which shows on joining.
            let _ = beside.send(piece.clone());
            digester.update(piece);
        })?;
        drop(beside);
        digester.join(others.join().map_err(|_| Error::Stopped)?);
        Ok(digester)
    })
}
