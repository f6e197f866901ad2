//! The folder of the stored blobs: a file each, plain or sealed, and those of late open or in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moka::sync::Cache;
use tracing::warn;

use super::map::Windows;
use super::seal::Sealer;
use super::{Blob, Error, blob};
use crate::config;
use crate::package::BlobId;
use crate::task::Tasks;

/// Files that stay open for the next request.
const OPEN_MAX: u64 = 1024;

/// The suffix of a file that was laid aside.
const DAMAGED: &str = "damaged";

/// Whether a file failed to be read because it is not what it was: a seal that does not fit is one
/// more way to see that.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged(_) => true,
        Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The result of checking a stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Whole,
    /// Its bytes are not what its name says.
    Damaged,
    /// Its row is here, and its file is not.
    Gone,
}

/// A file below the blobs' folder.
pub(super) struct FoundFile {
    pub path: PathBuf,
    /// The blob that its name begins with, also where it was laid aside.
    pub named: Option<BlobId>,
    /// Whether it is that blob.
    pub is_blob: bool,
    pub size: u64,
    pub modified: Option<std::time::SystemTime>,
}

/// The stored blobs' files; clones share what is open.
#[derive(Clone)]
pub struct BlobFiles {
    folder: PathBuf,
    sealer: Option<Arc<Sealer>>,
    windows: Windows,
    /// Small blobs, in memory.
    small: Cache<BlobId, Blob>,
    small_bytes_max: u64,
    /// Larger ones: open, and their pages mapped.
    open: Cache<BlobId, Blob>,
    tasks: Tasks,
}

impl BlobFiles {
    pub(super) fn new(
        folder: &Path,
        sealer: Option<Arc<Sealer>>,
        config: &config::Cache,
        tasks: &Tasks,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            sealer,
            windows: Windows::new(config.blob_mapped),
            small: Cache::builder()
                .max_capacity(config.blob_memory)
                .weigher(|_: &BlobId, blob: &Blob| u32::try_from(blob.size()).unwrap_or(u32::MAX))
                .build(),
            small_bytes_max: config.small_blob,
            open: Cache::new(OPEN_MAX),
            tasks: tasks.clone(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Seals new files, where files are sealed.
    pub(super) fn sealer(&self) -> Option<&Arc<Sealer>> {
        self.sealer.as_ref()
    }

    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Opens the blob without holding it open for others; `None` where it is not here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn open(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        let files = self.clone();
        let open = move || Blob::open(id, &files.folder, &files.windows, files.sealer.as_deref());
        let opened = self.tasks.spawn_blocking(open).await;
        opened.map_err(|_| Error::Stopped)?
    }

    /// The blob as others hold it open, or opened for them; `None` where it is not here, or is damaged.
    pub(super) async fn share(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        if let Some(blob) = self.shared(id) {
            if blob.is_to_be_read() {
                return Ok(Some(blob));
            }
            self.close(id);
        }
        match self.open_to_share(id).await {
            Err(error) if is_damage(&error) => {
                self.set_aside(id).await;
                Ok(None)
            }
            opened => opened,
        }
    }

    async fn open_to_share(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        let Some(mut blob) = self.open(id).await? else {
            return Ok(None);
        };
        let is_small = blob.size() <= self.small_bytes_max;
        if is_small {
            blob = Blob::in_memory(id, blob.read_all(&self.tasks).await?);
        }
        let of_late = if is_small { &self.small } else { &self.open };
        // Somebody else may have opened it meanwhile: one file serves all.
        Ok(Some(of_late.entry(id).or_insert(blob).into_value()))
    }

    fn shared(&self, id: BlobId) -> Option<Blob> {
        self.small.get(&id).or_else(|| self.open.get(&id))
    }

    /// Lets go of a blob that was evicted or is damaged: its file's space is free, and no answer that
    /// was made of it is given again.
    fn close(&self, id: BlobId) {
        for of_late in [&self.small, &self.open] {
            if let Some(blob) = of_late.remove(&id) {
                blob.let_go();
            }
        }
    }

    /// Lays aside a file that was found to be damaged while it was read. One that the disk does not
    /// let be renamed is found again.
    pub async fn set_aside(&self, id: BlobId) {
        let laid = self.lay_aside(id).await;
        match laid {
            Ok(()) => {
                warn!(blob = %id.to_hex(), "A stored file is damaged; it is laid aside and not served any more");
            }
            Err(error) => {
                warn!(%error, blob = %id.to_hex(), "A stored file is damaged, and laying it aside failed; it is not served");
            }
        }
    }

    /// Returns those of the blobs that have a file.
    ///
    /// # Errors
    /// Where Larder stops.
    pub(super) async fn existing(&self, mut ids: Vec<BlobId>) -> Result<Vec<BlobId>, Error> {
        let files = self.clone();
        let looked = self.tasks.spawn_blocking(move || {
            ids.retain(|id| files.paths(*id).iter().any(|path| path.exists()));
            ids
        });
        looked.await.map_err(|_| Error::Stopped)
    }

    /// Unlinks the blobs' files. One that cannot be unlinked stays, and the log says so.
    pub(super) async fn unlink(&self, ids: impl IntoIterator<Item = BlobId>) {
        let ids: Vec<BlobId> = ids.into_iter().collect();
        let paths = ids.iter().flat_map(|id| self.paths(*id)).collect();
        self.unlink_paths(paths).await;
        for id in ids {
            self.close(id);
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub(super) async fn unlink_paths(&self, paths: Vec<PathBuf>) {
        let unlink = move || {
            for path in paths {
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    warn!(%error, path = %path.display(), "Deleting an evicted blob's file failed; it stays on the disk");
                }
            }
        };
        let _ = self.tasks.spawn_blocking(unlink).await;
    }

    /// Gives a damaged blob's file a name that nothing reads.
    ///
    /// # Errors
    /// Where the disk fails.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub async fn lay_aside(&self, id: BlobId) -> Result<(), Error> {
        let files = self.clone();
        let laid = self.tasks.spawn_blocking(move || {
            for path in files.paths(id) {
                match std::fs::rename(&path, path.with_extension(DAMAGED)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
            files.close(id);
            Ok(())
        });
        Ok(laid.await.map_err(|_| Error::Stopped)??)
    }

    /// Reads a stored file through. One that was laid aside is damaged until another has its name.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn examine(&self, id: BlobId) -> Result<Health, Error> {
        let digests = match self.open(id).await {
            Ok(Some(blob)) => blob.digests(&self.tasks, &[]).await,
            Ok(None) if self.laid_aside(id).exists() => return Ok(Health::Damaged),
            Ok(None) => return Ok(Health::Gone),
            Err(error) => Err(error),
        };
        match digests {
            Ok(digests) if digests.blob == id => Ok(Health::Whole),
            Ok(_) => Ok(Health::Damaged),
            Err(error) if is_damage(&error) => Ok(Health::Damaged),
            Err(error) => Err(error),
        }
    }

    fn laid_aside(&self, id: BlobId) -> PathBuf {
        blob::path(&self.folder, id).with_extension(DAMAGED)
    }

    /// All files below the folder.
    ///
    /// # Errors
    /// Where the disk fails.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub(super) async fn list(&self) -> Result<Vec<FoundFile>, Error> {
        let folder = self.folder.clone();
        let found = self.tasks.spawn_blocking(move || {
            let mut found = Vec::new();
            for folder in std::fs::read_dir(folder)? {
                for file in std::fs::read_dir(folder?.path())? {
                    let file = file?;
                    let metadata = file.metadata()?;
                    let path = file.path();
                    let name = path.file_stem().and_then(|name| name.to_str());
                    let bytes = name.and_then(|name| hex::decode(name).ok());
                    found.push(FoundFile {
                        named: bytes.and_then(|bytes| BlobId::from_slice(&bytes)),
                        is_blob: path.extension().is_none_or(|it| it == blob::SEALED),
                        size: metadata.len(),
                        modified: metadata.modified().ok(),
                        path,
                    });
                }
            }
            Ok::<_, std::io::Error>(found)
        });
        Ok(found.await.map_err(|_| Error::Stopped)??)
    }

    fn paths(&self, id: BlobId) -> [PathBuf; 2] {
        [
            blob::path(&self.folder, id),
            blob::sealed_path(&self.folder, id),
        ]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::{ConfigSource, Learned, load};
    use crate::package::Expected;
    use crate::store::{Keeping, Store};

    async fn open(folder: &tempfile::TempDir) -> Arc<Store> {
        let source = ConfigSource {
            text: "[cache]\nsmall_blob = 4\nblob_memory = 8\nmin_free = 0\n".to_owned(),
            ..ConfigSource::default()
        };
        let config = load(&source, &Learned::default()).unwrap();
        let tasks = Tasks::default();
        Store::open(folder.path(), &config, &tasks).await.unwrap()
    }

    /// Stores the text, and says whether it is served from memory.
    async fn is_in_memory(store: &Store, text: &'static str) -> bool {
        let incoming = store.incoming(None, &[], Keeping::Cached).await;
        let mut incoming = incoming.unwrap();
        incoming
            .write(Bytes::from_static(text.as_bytes()))
            .await
            .unwrap();
        let verified = incoming.verify(&Expected::none()).await.unwrap();
        let id = verified.keep(Keeping::Cached).await.unwrap().id();
        let blob = store.blob(id).await.unwrap().unwrap();
        assert_eq!(blob.read_all(&store.tasks).await.unwrap(), text);
        blob.in_hand().is_some()
    }

    #[tokio::test]
    async fn a_small_blob_is_served_from_memory_and_a_larger_one_from_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        assert!(is_in_memory(&store, "1234").await);
        assert!(!is_in_memory(&store, "12345").await);
    }

    #[tokio::test]
    async fn the_blobs_in_memory_have_one_bound_together() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let small = &store.files().small;
        let held = || {
            small.run_pending_tasks();
            small.weighted_size()
        };
        assert!(is_in_memory(&store, "1111").await);
        assert!(is_in_memory(&store, "2222").await);
        assert_eq!(held(), 8);
        assert!(is_in_memory(&store, "3333").await);
        assert_eq!(held(), 8);
    }
}
