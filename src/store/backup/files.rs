//! Stored files on their way into a backup and out of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use crate::package::{BlobId, Digester};
use crate::store::incoming::keep_file;
use crate::store::seal::{HEADER_BYTES, Sealer};
use crate::store::{ContentReader, blob, private};

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// How far copying is, in bytes as they lie on the disk, or in rows.
#[derive(Debug, Default)]
pub struct CopyProgress {
    pub all: AtomicU64,
    pub done: AtomicU64,
}

/// How a file lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lying {
    Plain,
    Sealed,
}

impl Lying {
    pub fn path(self, blobs: &Path, id: BlobId) -> PathBuf {
        match self {
            Self::Plain => blob::path(blobs, id),
            Self::Sealed => blob::sealed_path(blobs, id),
        }
    }

    /// How the blob's file lies there, and its length; none where it is not there.
    pub fn find(blobs: &Path, id: BlobId) -> io::Result<Option<(Self, u64)>> {
        for lying in [Self::Sealed, Self::Plain] {
            match lying.path(blobs, id).metadata() {
                Ok(metadata) => return Ok(Some((lying, metadata.len()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Whether the file that is there already is a copy of the other one: of the same length, and, where it
/// is sealed, sealed in the same way. Its name, which it got when it was on the disk, says the rest.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn is_copy(copy: &Path, of: &Path, lying: Lying) -> io::Result<bool> {
    let (copy, of) = match (File::open(copy), File::open(of)) {
        (Ok(copy), Ok(of)) => (copy, of),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    if copy.metadata()?.len() != of.metadata()?.len() {
        return Ok(false);
    }
    if lying == Lying::Plain {
        return Ok(true);
    }
    let head = |file: &File| {
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, 0).map(|()| head)
    };
    Ok(matches!((head(&copy), head(&of)), (Ok(copy), Ok(of)) if copy == of))
}

/// Copies a file by way of another name, which is in the same file system as the new one; says how many
/// bytes it has.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn copy(from: &Path, partial: &Path, to: &Path) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut file = private::create(partial)?;
    let bytes = io::copy(&mut source, &mut file)?;
    keep_file(&file, partial, to)?;
    Ok(bytes)
}

/// Whether the file is there, and is what its name says: read through, and opened where it is sealed.
pub(super) fn is_whole(
    blobs: &Path,
    id: BlobId,
    lying: Lying,
    sealer: Option<&Sealer>,
) -> io::Result<bool> {
    let opened = match (lying, sealer) {
        (Lying::Plain, _) => blob::content(id, blobs, None),
        (Lying::Sealed, Some(sealer)) => blob::content(id, blobs, Some(sealer)),
        (Lying::Sealed, None) => Ok(None),
    };
    let is_damage = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    let (content, size) = match opened {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(false),
        Err(error) if is_damage(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut reader = ContentReader::new(content, size);
    let mut digester = Digester::new(&[]);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(digester.finish().blob == id),
            Ok(count) => digester.update(piece.get(..count).unwrap_or_default()),
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Makes the names in the folder of files survive a loss of power.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn sync_below(blobs: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(blobs)? {
        let folder = entry?.path();
        if folder.is_dir() {
            File::open(folder)?.sync_all()?;
        }
    }
    for folder in blobs.ancestors().take(2) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
