//! Immutable bytes named by their SHA-256.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use crate::package::{Algorithm, BlobId, Digester, Digests};
use crate::task::Tasks;

/// How much is read from a file at once.
pub const PIECE_BYTES: usize = 256 * 1024;

/// A stored blob, open: it can be read to its end even if it is evicted meanwhile.
#[derive(Clone, Debug)]
pub struct Blob {
    id: BlobId,
    size: u64,
    bytes: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File(Arc<File>),
    Memory(Bytes),
}

/// The file of a blob, `ab/abcd…`.
pub fn path(blobs: &Path, id: BlobId) -> PathBuf {
    let name = id.to_hex();
    blobs.join(name.get(..2).unwrap_or_default()).join(name)
}

impl Blob {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub(super) fn open(id: BlobId, path: &Path) -> Result<Option<Self>, Error> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self {
                id,
                size: file.metadata()?.len(),
                bytes: Place::File(Arc::new(file)),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn of_file(id: BlobId, size: u64, file: Arc<File>) -> Self {
        Self {
            id,
            size,
            bytes: Place::File(file),
        }
    }

    #[must_use]
    pub fn in_memory(id: BlobId, bytes: Bytes) -> Self {
        Self {
            id,
            size: bytes.len() as u64,
            bytes: Place::Memory(bytes),
        }
    }

    #[must_use]
    pub fn id(&self) -> BlobId {
        self.id
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes, where they are in memory already.
    #[must_use]
    pub fn in_hand(&self) -> Option<&Bytes> {
        match &self.bytes {
            Place::Memory(bytes) => Some(bytes),
            Place::File(_) => None,
        }
    }

    /// Up to `length` bytes from `offset`; fewer at the end. Blocks.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        match &self.bytes {
            Place::Memory(bytes) => {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = start.saturating_add(length).min(bytes.len());
                Ok(bytes.slice(start..end))
            }
            Place::File(file) => read_at(file, offset, length),
        }
    }

    /// The whole blob in memory: for documents, which are bounded.
    ///
    /// # Errors
    /// Where the disk fails or the file is shorter than it was.
    pub async fn read_all(&self, tasks: &Tasks) -> Result<Bytes, Error> {
        if let Place::Memory(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let blob = self.clone();
        tasks
            .spawn_blocking(move || {
                let length = usize::try_from(blob.size).unwrap_or(usize::MAX);
                let bytes = blob.read_at(0, length)?;
                if bytes.len() as u64 == blob.size {
                    Ok(bytes)
                } else {
                    Err(Error::Length {
                        promised: blob.size,
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

pub fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Bytes> {
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
