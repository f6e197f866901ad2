//! All that lies on disk or in SQL.

mod arrival;
mod blob;
pub mod catalog;
mod incoming;
mod lock;
mod reclaim;
pub mod rendered;
mod space;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;

pub use arrival::{Arrival, Arrivals, Follower, Head, Leader, Phase, Progress};
pub use blob::Blob;
pub use incoming::{Incoming, Verified};
pub use lock::{Holder, Lock, holder};
pub use space::NotKept;

use crate::config;
use crate::package::{Algorithm, BlobId, Digest};
use crate::task::Tasks;
use catalog::Catalog;
use catalog::usage::Usage;
use space::Space;

/// How the store can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the data directory {path} {what}: {cause}", path = path.display())]
    Directory {
        path: PathBuf,
        what: &'static str,
        cause: std::io::Error,
    },
    #[error("the data directory {path} is held by {holder}", path = path.display())]
    Held { path: PathBuf, holder: Holder },
    #[error("the catalog: {0}")]
    Catalog(#[from] sqlx::Error),
    #[error(
        "the catalog was made by another version of Larder ({0}); say --data-dir with another directory, or remove this one"
    )]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("reading or writing a blob: {0}")]
    Io(#[from] std::io::Error),
    #[error("nothing is kept: {}", .0.as_str())]
    NotKept(NotKept),
    #[error("the bytes do not match {promised}: they have {found}")]
    Unverified { promised: Digest, found: String },
    #[error("{got} bytes came where {promised} were promised")]
    Length { promised: u64, got: u64 },
    #[error("the work was stopped")]
    Stopped,
}

impl Error {
    /// Whether the bytes, not the store, are to blame.
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        matches!(self, Self::Unverified { .. } | Self::Length { .. })
    }
}

/// The blobs, the catalog, and what keeps both within their bounds.
pub struct Store {
    blobs: PathBuf,
    partial: PathBuf,
    catalog: Catalog,
    space: Arc<Space>,
    usage: Arc<Usage>,
    small: Cache<BlobId, Bytes>,
    small_bytes_max: u64,
    pieces_ahead_max: usize,
    tasks: Tasks,
    lock: Lock,
}

impl Store {
    /// Opens or makes the store in `directory`, which is then this process's alone.
    ///
    /// # Errors
    /// Where the directory cannot be written, another process holds it, or the catalog is broken.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub async fn open(
        directory: &Path,
        config: &config::Config,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Error> {
        let failed = |what| {
            move |cause| Error::Directory {
                path: directory.to_owned(),
                what,
                cause,
            }
        };
        std::fs::create_dir_all(directory).map_err(failed("cannot be made"))?;
        let lock = Lock::take(directory)?;
        let blobs = directory.join("blobs/sha256");
        let partial = directory.join("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(failed("cannot be written"))?;
        }
        for folder in [&blobs, &partial] {
            std::fs::create_dir_all(folder).map_err(failed("cannot be written"))?;
        }
        let catalog = Catalog::open(&directory.join("larder.sqlite")).await?;
        let space = Arc::new(Space::new(
            directory,
            &config.cache,
            catalog.blob_bytes().await?,
        ));
        let usage = Arc::new(Usage::new(catalog.clone()));
        reclaim::start(tasks, &catalog, &space, &blobs);
        usage::start(tasks, &usage);
        let small_bytes =
            |_: &BlobId, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Arc::new(Self {
            blobs,
            partial,
            catalog,
            space,
            usage,
            small: Cache::builder()
                .max_capacity(config.cache.blob_memory)
                .weigher(small_bytes)
                .build(),
            small_bytes_max: config.cache.small_blob,
            pieces_ahead_max: config.fetch.pieces_ahead_max,
            tasks: tasks.clone(),
            lock,
        }))
    }

    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Says in the lock file where this process listens, for those who find the directory held.
    pub fn announce(&self, address: &str) {
        self.lock.announce(address);
    }

    /// Room for bytes coming in, of `size` if that is known.
    ///
    /// # Errors
    /// [`Error::NotKept`] where they would not fit.
    pub async fn incoming(
        &self,
        size: Option<u64>,
        algorithms: &[Algorithm],
    ) -> Result<Incoming, Error> {
        self.space
            .admit(size.unwrap_or(0))
            .map_err(Error::NotKept)?;
        Incoming::start(self, size, algorithms).await
    }

    /// The blob of that name; `None` where it is not here (any more). Notes the use.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn blob(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        self.usage.note(id);
        if let Some(bytes) = self.small.get(&id).await {
            return Ok(Some(Blob::in_memory(id, bytes)));
        }
        let path = self.path(id);
        let opened = self
            .tasks
            .spawn_blocking(move || Blob::open(id, &path))
            .await;
        let Some(blob) = opened.map_err(|_| Error::Stopped)?? else {
            return Ok(None);
        };
        if blob.size() <= self.small_bytes_max {
            let bytes = blob.read_all(&self.tasks).await?;
            self.small.insert(id, bytes.clone()).await;
            return Ok(Some(Blob::in_memory(id, bytes)));
        }
        Ok(Some(blob))
    }

    /// A further digest of a blob, computed once and then remembered.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn digest(&self, blob: &Blob, algorithm: Algorithm) -> Result<Digest, Error> {
        if let Some(known) = self.catalog.digest(blob.id(), algorithm).await? {
            return Ok(known);
        }
        let digests = blob.digests(&self.tasks, &[algorithm]).await?;
        let digest = digests.get(algorithm).ok_or(Error::Stopped)?;
        self.catalog.keep_digest(blob.id(), &digest).await?;
        Ok(digest)
    }

    /// Evictable bytes on disk.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.space.used()
    }

    /// Writes down what is noted in memory alone.
    pub async fn flush(&self) {
        self.usage.flush().await;
    }

    fn path(&self, id: BlobId) -> PathBuf {
        blob::path(&self.blobs, id)
    }
}

use catalog::usage;
