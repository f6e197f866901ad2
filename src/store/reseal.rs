//! Blobs that lie plain are sealed, and the other way round, one by one: what is done stays done
//! wherever it ends.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::content::ContentWriter;
use super::incoming::{keep_file, sync_folders};
use super::seal::Sealer;
use super::{CopyProgress, Error, Store, blob, private};
use crate::package::{BlobId, Digester};

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Counts of the files that were encrypted or decrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    pub blobs: u64,
    pub bytes: u64,
    /// Files that are not what their name says; they stay as they are.
    pub damaged: Vec<String>,
}

impl Store {
    /// Seals all blobs that lie plain; with `plain`, lays plain those that are sealed, and forgets
    /// the data key. Nothing else may use the store meanwhile.
    ///
    /// # Errors
    /// Where there is no key, or the disk fails.
    pub async fn reseal(
        &self,
        plain: bool,
        progress: &Arc<CopyProgress>,
    ) -> Result<Resealed, Error> {
        let Some(sealer) = self.files.sealer().cloned() else {
            return Err(Error::Sealed(
                "[encryption] in the configuration has no key",
            ));
        };
        let blobs = self.files.folder().to_owned();
        let partial = self.directory.partial().join("resealed");
        let progress = Arc::clone(progress);
        let work = move || reseal(&sealer, &blobs, &partial, plain, &progress);
        let done = self.tasks.spawn_blocking(work).await;
        let done = done.map_err(|_| Error::Stopped)??;
        if plain && done.damaged.is_empty() {
            Sealer::forget(self.directory.path())?;
        }
        Ok(done)
    }
}

fn reseal(
    sealer: &Sealer,
    blobs: &Path,
    partial: &Path,
    plain: bool,
    progress: &CopyProgress,
) -> Result<Resealed, Error> {
    let waiting = waiting(blobs, plain)?;
    let all = waiting.iter().map(|(_, size)| size).sum();
    progress.all.store(all, Ordering::Relaxed);
    let mut done = Resealed::default();
    for (id, size) in waiting {
        let (from, to) = (blob::path(blobs, id), blob::sealed_path(blobs, id));
        let (from, to) = if plain { (to, from) } else { (from, to) };
        if to.exists() || rewrite(sealer, blobs, id, partial, &to, plain)? {
            unlink(&from)?;
            done.blobs += 1;
            done.bytes += size;
        } else {
            done.damaged.push(from.display().to_string());
        }
        progress.done.fetch_add(size, Ordering::Relaxed);
    }
    Ok(done)
}

/// The blobs that are to be rewritten, and the sizes of their files.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn waiting(blobs: &Path, plain: bool) -> std::io::Result<Vec<(BlobId, u64)>> {
    let mut waiting = Vec::new();
    for folder in std::fs::read_dir(blobs)? {
        for file in std::fs::read_dir(folder?.path())? {
            let file = file?;
            let path = PathBuf::from(file.file_name());
            let is_sealed = path.extension().is_some_and(|it| it == blob::SEALED);
            let name = path.file_stem().and_then(|name| name.to_str());
            let bytes = name.and_then(|name| hex::decode(name).ok());
            if let Some(id) = bytes.and_then(|bytes| BlobId::from_slice(&bytes))
                && is_sealed == plain
            {
                waiting.push((id, file.metadata()?.len()));
            }
        }
    }
    Ok(waiting)
}

/// Writes the blob the other way; says whether its bytes are what its name says.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn rewrite(
    sealer: &Sealer,
    blobs: &Path,
    id: BlobId,
    partial: &Path,
    to: &Path,
    plain: bool,
) -> Result<bool, Error> {
    let source = blob::content(id, blobs, plain.then_some(sealer));
    let (content, size) = match source {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let file = private::create(partial)?;
    let seal = if plain {
        None
    } else {
        Some(sealer.begin(&file)?)
    };
    let mut writer = ContentWriter::new(&file, seal.as_deref());
    let mut reader = super::ContentReader::new(content, size);
    let mut digester = Digester::new(&[]);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = match reader.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let piece = piece.get(..count).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        digester.update(piece);
        writer.write(piece)?;
    }
    writer.finish()?;
    if digester.finish().blob != id {
        return Ok(false);
    }
    if let Some(seal) = &seal {
        seal.name(&file, id)?;
    }
    keep_file(&file, partial, to)?;
    sync_folders(to)?;
    Ok(true)
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn unlink(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)
}
