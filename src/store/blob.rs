//! Immutable bytes named by their SHA-256.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::map::{Pages, Windows};
use super::{Error, Pieces};
use crate::package::{Algorithm, BlobId, Digester, Digests};
use crate::task::Tasks;

/// How much is read from a file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A stored blob, open: it can be read to its end even if it is evicted meanwhile. Clones share
/// it.
#[derive(Clone)]
pub struct Blob(Arc<Held>);

/// A blob that is open for as long as somebody else holds it.
#[derive(Clone)]
pub struct WeakBlob(Weak<Held>);

struct Held {
    id: BlobId,
    size: u64,
    place: Place,
}

enum Place {
    File(Pages),
    Memory(Bytes),
}

/// The file of a blob, `ab/abcd…`.
pub fn path(blobs: &Path, id: BlobId) -> PathBuf {
    let name = id.to_hex();
    blobs.join(name.get(..2).unwrap_or_default()).join(name)
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes", self.id(), self.size())
    }
}

impl WeakBlob {
    #[must_use]
    pub fn upgrade(&self) -> Option<Blob> {
        self.0.upgrade().map(Blob)
    }
}

impl Blob {
    /// Opens the file; `None` where there is none. Blocks.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub(super) fn open(id: BlobId, path: &Path, windows: &Windows) -> Result<Option<Self>, Error> {
        match File::open(path) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some(Self::of_file(id, size, Arc::new(file), windows)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn of_file(id: BlobId, size: u64, file: Arc<File>, windows: &Windows) -> Self {
        let place = Place::File(Pages::of(file, size, windows));
        Self(Arc::new(Held { id, size, place }))
    }

    #[must_use]
    pub fn in_memory(id: BlobId, bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        let place = Place::Memory(bytes);
        Self(Arc::new(Held { id, size, place }))
    }

    #[must_use]
    pub fn downgrade(&self) -> WeakBlob {
        WeakBlob(Arc::downgrade(&self.0))
    }

    #[must_use]
    pub fn id(&self) -> BlobId {
        self.0.id
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The bytes, where they are in memory already.
    #[must_use]
    pub fn in_hand(&self) -> Option<&Bytes> {
        match &self.0.place {
            Place::Memory(bytes) => Some(bytes),
            Place::File(_) => None,
        }
    }

    /// Up to `limit` bytes from `offset`, which nobody but the kernel should touch; none at the
    /// end.
    ///
    /// # Errors
    /// Where the file cannot be mapped.
    pub fn pages_at(&self, offset: u64, limit: u64) -> std::io::Result<Bytes> {
        match &self.0.place {
            Place::File(pages) => pages.at(offset, limit),
            Place::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(place(offset)..place(offset.saturating_add(limit))))
            }
        }
    }

    /// The file, to be read in pieces; none where the bytes are in memory.
    #[must_use]
    pub fn pieces(&self) -> Option<Pieces> {
        match &self.0.place {
            Place::File(pages) => Some(Pieces::of(Arc::clone(pages.file()))),
            Place::Memory(_) => None,
        }
    }

    /// Up to `length` bytes from `offset`; fewer at the end. Blocks.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        match &self.0.place {
            Place::Memory(bytes) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = start.saturating_add(length).min(bytes.len());
                Ok(bytes.slice(start..end))
            }
            Place::File(pages) => read_at(pages.file(), offset, length),
        }
    }

    /// The whole blob in memory: for documents, which are bounded.
    ///
    /// # Errors
    /// Where the disk fails or the file is shorter than it was.
    pub async fn read_all(&self, tasks: &Tasks) -> Result<Bytes, Error> {
        if let Some(bytes) = self.in_hand() {
            return Ok(bytes.clone());
        }
        let blob = self.clone();
        tasks
            .spawn_blocking(move || {
                let length = usize::try_from(blob.size()).unwrap_or(usize::MAX);
                let bytes = blob.read_at(0, length)?;
                if bytes.len() as u64 == blob.size() {
                    Ok(bytes)
                } else {
                    Err(Error::Length {
                        promised: blob.size(),
                        got: bytes.len() as u64,
                    })
                }
            })
            .await
            .map_err(|_| Error::Stopped)?
    }

    /// Computes digests by reading the blob through.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn digests(&self, tasks: &Tasks, algorithms: &[Algorithm]) -> Result<Digests, Error> {
        let (blob, algorithms) = (self.clone(), algorithms.to_vec());
        tasks
            .spawn_blocking(move || {
                let mut digester = Digester::new(&algorithms);
                let mut offset = 0;
                loop {
                    let piece = blob.read_at(offset, PIECE_BYTES)?;
                    if piece.is_empty() {
                        return Ok(digester.finish());
                    }
                    digester.update(&piece);
                    offset += piece.len() as u64;
                }
            })
            .await
            .map_err(|_| Error::Stopped)?
    }

    /// The blob as a reader that can go anywhere. Blocks.
    #[must_use]
    pub fn seekable(&self) -> impl std::io::Read + std::io::Seek + Send + 'static {
        Reader {
            blob: self.clone(),
            offset: 0,
        }
    }

    /// The blob as a reader. Blocks.
    #[must_use]
    pub fn reader(&self) -> impl std::io::Read + Send + 'static {
        Reader {
            blob: self.clone(),
            offset: 0,
        }
    }
}

struct Reader {
    blob: Blob,
    offset: u64,
}

impl std::io::Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.blob.read_at(self.offset, into.len())?;
        if let Some(into) = into.get_mut(..piece.len()) {
            into.copy_from_slice(&piece);
        }
        self.offset += piece.len() as u64;
        Ok(piece.len())
    }
}

impl std::io::Seek for Reader {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.offset = super::incoming::sought(to, self.offset, self.blob.size())?;
        Ok(self.offset)
    }
}

fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Bytes> {
    let mut piece = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(filled);
    Ok(piece.into())
}
