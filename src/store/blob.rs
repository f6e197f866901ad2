//! Immutable bytes named by their SHA-256.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::content::{Content, ContentReader};
use super::map::{Pages, WINDOW_BYTES, Windows};
use super::seal::Sealer;
use super::{Error, Pieces};
use crate::format::upload::Readable;
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
    /// It was evicted, or found to be damaged: whoever reads it may go on, and nobody begins.
    is_let_go: AtomicBool,
}

enum Place {
    /// Plain on the disk.
    File(Pages),
    Sealed(Content),
    Memory(Bytes),
}

/// The file of a blob, `ab/abcd…`, where it lies plain.
pub fn path(blobs: &Path, id: BlobId) -> PathBuf {
    let name = id.to_hex();
    blobs.join(name.get(..2).unwrap_or_default()).join(name)
}

/// The suffix of a sealed file's name.
pub const SEALED: &str = "sealed";

/// The file of a blob, where it lies sealed.
pub fn sealed_path(blobs: &Path, id: BlobId) -> PathBuf {
    path(blobs, id).with_extension(SEALED)
}

/// The blob's sealed content, and how many bytes it has; without a sealer, the plain one.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub fn content(
    id: BlobId,
    blobs: &Path,
    sealer: Option<&Sealer>,
) -> std::io::Result<Option<(Content, u64)>> {
    let path = match sealer {
        Some(_) => sealed_path(blobs, id),
        None => path(blobs, id),
    };
    let file = match File::open(path) {
        Ok(file) => Arc::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(match sealer {
        Some(sealer) => {
            let (seal, size) = sealer.seal_of(&file, id)?;
            (Content::new(file, Some(seal), Some(size)), size)
        }
        None => {
            let size = file.metadata()?.len();
            (Content::Plain(file), size)
        }
    }))
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes", self.id(), self.size())
    }
}

impl WeakBlob {
    /// The blob, where it is still open and was not let go of.
    #[must_use]
    pub fn upgrade(&self) -> Option<Blob> {
        let blob = Blob(self.0.upgrade()?);
        blob.is_to_be_read().then_some(blob)
    }
}

impl Blob {
    /// Opens the file; `None` where there is none. Blocks.
    pub(super) fn open(
        id: BlobId,
        blobs: &Path,
        windows: &Windows,
        sealer: Option<&Sealer>,
    ) -> Result<Option<Self>, Error> {
        let found = match sealer.map(|sealer| content(id, blobs, Some(sealer))) {
            Some(Ok(Some(found))) => Some(found),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(None)) | None => content(id, blobs, None)?,
        };
        Ok(found.map(|(content, size)| Self::of(id, size, content, windows)))
    }

    pub(super) fn of(id: BlobId, size: u64, content: Content, windows: &Windows) -> Self {
        let place = match content {
            Content::Plain(file) => Place::File(Pages::of(file, size, WINDOW_BYTES, windows)),
            sealed @ Content::Sealed(_) => Place::Sealed(sealed),
        };
        Self::held(id, size, place)
    }

    fn held(id: BlobId, size: u64, place: Place) -> Self {
        Self(Arc::new(Held {
            id,
            size,
            place,
            is_let_go: AtomicBool::default(),
        }))
    }

    /// Whether somebody may begin to read it: it was not let go of, and its file has not become shorter.
    /// That would show only when an answer breaks off, for each request again.
    pub(super) fn is_to_be_read(&self) -> bool {
        if self.0.is_let_go.load(Ordering::Acquire) {
            return false;
        }
        let Place::File(pages) = &self.0.place else {
            return true;
        };
        // The cheaper of the two calls: this is asked for each answer.
        let found = rustix::fs::fstat(pages.file());
        let is_whole = found.is_ok_and(|it| u64::try_from(it.st_size).unwrap_or(0) >= self.0.size);
        if !is_whole {
            self.let_go();
        }
        is_whole
    }

    /// Marks the blob as one that nobody begins to read any more.
    pub(super) fn let_go(&self) {
        self.0.is_let_go.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn in_memory(id: BlobId, bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        let place = Place::Memory(bytes);
        Self::held(id, size, place)
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
            Place::File(_) | Place::Sealed(_) => None,
        }
    }

    /// Whether it can be sent without our reading it: what is sealed cannot.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        !matches!(self.0.place, Place::Sealed(_))
    }

    fn content(&self) -> Option<Content> {
        match &self.0.place {
            Place::File(pages) => Some(Content::Plain(Arc::clone(pages.file()))),
            Place::Sealed(content) => Some(content.clone()),
            Place::Memory(_) => None,
        }
    }

    /// Up to `limit` bytes from `offset`, which nobody but the kernel should touch; none at the
    /// end.
    ///
    /// # Errors
    /// Where the file cannot be mapped, or has no pages.
    pub fn pages_at(&self, offset: u64, limit: u64) -> std::io::Result<Bytes> {
        match &self.0.place {
            Place::File(pages) => pages.at(offset, limit),
            Place::Sealed(_) => Err(std::io::ErrorKind::Unsupported.into()),
            Place::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(place(offset)..place(offset.saturating_add(limit))))
            }
        }
    }

    /// The file, to be read in pieces; none where the bytes are in memory.
    #[must_use]
    pub fn pieces(&self) -> Option<Pieces> {
        self.content().map(Pieces::of)
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
            Place::File(_) | Place::Sealed(_) => {
                let left = self.size().saturating_sub(offset);
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                let mut piece = vec![0; length.min(left)];
                let filled = match self.content() {
                    Some(content) => content.fill(&mut piece, offset)?,
                    None => 0,
                };
                piece.truncate(filled);
                Ok(piece.into())
            }
        }
    }

    /// The whole blob in memory, held against its name: for documents, which are bounded.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the file is not what it was; else where the disk fails.
    pub async fn read_all(&self, tasks: &Tasks) -> Result<Bytes, Error> {
        if let Some(bytes) = self.in_hand() {
            return Ok(bytes.clone());
        }
        let blob = self.clone();
        tasks
            .spawn_blocking(move || {
                let length = usize::try_from(blob.size()).unwrap_or(usize::MAX);
                let bytes = match blob.read_at(0, length) {
                    // A seal that does not fit.
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
                    bytes => Some(bytes?),
                };
                bytes
                    .filter(|bytes| BlobId::of(bytes) == blob.id())
                    .ok_or(Error::Damaged(blob.id()))
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
    pub fn reader(&self) -> Box<dyn Readable> {
        match (&self.0.place, self.content()) {
            (Place::Memory(bytes), _) => Box::new(std::io::Cursor::new(bytes.clone())),
            (_, Some(content)) => Box::new(ContentReader::new(content, self.size())),
            (_, None) => Box::new(std::io::empty()),
        }
    }
}
