//! All that lies on disk or in SQL.

mod arrival;
mod blob;
pub mod catalog;
mod content;
mod door;
mod incoming;
mod lock;
mod map;
mod notes;
pub mod packages;
mod pieces;
pub mod private;
mod reclaim;
pub mod rendered;
mod reseal;
mod seal;
mod space;
mod upkeep;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, RwLockReadGuard};

pub use arrival::{Arrival, Arrivals, Follower, Head, Leader, Phase, Progress};
pub use blob::{Blob, WeakBlob};
pub use content::Reader;
pub use door::Door;
pub use incoming::{Incoming, Keeping, Verified};
pub use lock::{Holder, Lock, holder};
pub use pieces::Pieces;
pub use reseal::{Progress as ResealProgress, Resealed};
pub use space::NotKept;
pub use upkeep::{Health, Waste};

use crate::config;
use crate::package::{Algorithm, BlobId, Digest, Format, PackageId};
use crate::rule::Pattern;
use crate::secret::Secret;
use crate::task::Tasks;
use crate::telemetry::Ledger;
use catalog::usage::Usage;
use catalog::wish::Wishes;
use catalog::{AssetKey, AssetRow, Catalog, DocumentRow, hold};
use map::Windows;
use packages::{OutsideNames, Packages};
use seal::Sealer;
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
    #[error("the data directory cannot be opened: {0}")]
    Sealed(&'static str),
    #[error("the work was stopped")]
    Stopped,
    #[error(transparent)]
    Packages(#[from] packages::Error),
}

impl Error {
    /// Whether the bytes, not the store, are to blame.
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        matches!(self, Self::Unverified { .. } | Self::Length { .. })
    }
}

/// Under which name the connections are remembered whose files are never evicted.
const RETAINED: &str = "retain";

/// Files that stay open for the next request.
const OPEN_MAX: u64 = 1024;

/// Blobs of late: small ones in memory, larger ones open, and their pages mapped.
#[derive(Clone)]
struct Held {
    small: Cache<BlobId, Blob>,
    small_bytes_max: u64,
    open: Cache<BlobId, Blob>,
    windows: Windows,
}

impl Held {
    fn new(config: &config::Cache) -> Self {
        Self {
            small: Cache::builder()
                .max_capacity(config.blob_memory)
                .weigher(|_: &BlobId, blob: &Blob| u32::try_from(blob.size()).unwrap_or(u32::MAX))
                .build(),
            small_bytes_max: config.small_blob,
            open: Cache::new(OPEN_MAX),
            windows: Windows::new(config.blob_mapped),
        }
    }

    fn get(&self, id: BlobId) -> Option<Blob> {
        self.small.get(&id).or_else(|| self.open.get(&id))
    }

    fn hold(&self, blob: &Blob) {
        if blob.in_hand().is_some() {
            self.small.insert(blob.id(), blob.clone());
        } else {
            self.open.insert(blob.id(), blob.clone());
        }
    }

    /// Lets go of a blob that was evicted, so that its file's space is free.
    fn forget(&self, id: BlobId) {
        self.small.invalidate(&id);
        self.open.invalidate(&id);
    }
}

/// The blobs, the catalog, and what keeps both within their bounds.
pub struct Store {
    directory: PathBuf,
    blobs: PathBuf,
    partial: PathBuf,
    catalog: Catalog,
    packages: Packages,
    /// Read by those who keep bytes and record them, written by those who let go of some.
    recording: Arc<RwLock<()>>,
    /// Read by those who read all that there is: nothing is evicted meanwhile.
    reading: Arc<RwLock<()>>,
    /// One bundle at a time.
    importing: tokio::sync::Mutex<()>,
    space: Arc<Space>,
    usage: Usage,
    wishes: Wishes,
    outside_names: Arc<OutsideNames>,
    held: Held,
    evictions: Arc<AtomicU64>,
    sealer: Option<Arc<Sealer>>,
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
        private::folder(directory).map_err(failed("cannot be made"))?;
        let lock = Lock::take(directory)?;
        private::narrow(directory);
        let blobs = directory.join("blobs/sha256");
        let partial = directory.join("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(failed("cannot be written"))?;
        }
        for folder in [&blobs, &partial] {
            private::folder(folder).map_err(failed("cannot be written"))?;
        }
        let sealer = Sealer::open(directory, config.encryption.as_ref())?.map(Arc::new);
        let catalog = Catalog::open(&directory.join("larder.sqlite")).await?;
        let packages = Packages::open(
            &directory.join("packages.sqlite"),
            config.packages.database.as_ref(),
            lock::identity(directory).map_err(failed("cannot be written"))?,
        )
        .await?;
        let space = Arc::new(Space::new(
            directory,
            &config.cache,
            catalog.blobs().evictable_bytes().await?,
        ));
        let outside_names = OutsideNames::start(&packages, tasks);
        learn_outside_names(&catalog, &packages).await?;
        let held = Held::new(&config.cache);
        let recording = Arc::default();
        let reading = Arc::default();
        let evictions = Arc::default();
        reclaim::start(
            tasks, &catalog, &packages, &space, &held, &blobs, &recording, &reading, &evictions,
        );
        Ok(Arc::new(Self {
            usage: Usage::start(catalog.blobs(), tasks),
            wishes: Wishes::start(catalog.wishes(config.report.wishes_max), tasks),
            outside_names,
            directory: directory.to_owned(),
            blobs,
            partial,
            catalog,
            packages,
            recording,
            reading,
            importing: tokio::sync::Mutex::default(),
            space,
            held,
            evictions,
            sealer,
            pieces_ahead_max: config.fetch.pieces_ahead_max,
            tasks: tasks.clone(),
            lock,
        }))
    }

    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What repositories have of their own.
    #[must_use]
    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    /// To be held from keeping bytes for good until they are recorded: nothing is let go of
    /// meanwhile.
    pub async fn recording(&self) -> RwLockReadGuard<'_, ()> {
        self.recording.read().await
    }

    /// Lets those of the blobs be evicted that nothing published needs any more.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn let_go(&self, blobs: &[BlobId]) -> Result<(), Error> {
        let _alone = self.recording.write().await;
        for blob in blobs {
            if !self.packages.needs(*blob).await?
                && !self.catalog.holds().is_held(*blob).await?
                && let Some(size) = self.catalog.blobs().let_go(*blob).await?
            {
                self.space.add(size);
            }
        }
        Ok(())
    }

    /// To be held by who reads all that there is: nothing is evicted meanwhile.
    pub async fn reading(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.reading).read_owned().await
    }

    /// A file without a name, gone when it is closed.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn scratch(&self) -> std::io::Result<std::fs::File> {
        tempfile::tempfile_in(&self.partial)
    }

    /// What bundles of this data directory are signed by, where the configuration names nothing;
    /// `make` is asked for one where there is none yet. Blocks.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn bundle_key(&self, make: impl FnOnce() -> Option<Secret>) -> std::io::Result<Secret> {
        lock::bundle_key(&self.directory, make)
    }

    /// The blob, without noting a use or holding it open for others; `None` where it is not here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn look_at(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        let (blobs, sealer) = (self.blobs.clone(), self.sealer.clone());
        let windows = self.held.windows.clone();
        let opened = self
            .tasks
            .spawn_blocking(move || Blob::open(id, &blobs, &windows, sealer.as_deref()))
            .await;
        opened.map_err(|_| Error::Stopped)?
    }

    /// Notes that a blob came in a bundle of which nothing is visible yet.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn stage(&self, blob: BlobId) -> Result<(), Error> {
        Ok(self.catalog.staged().add(blob).await?)
    }

    /// What was staged is visible now.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn unstage(&self) -> Result<(), Error> {
        Ok(self.catalog.staged().clear().await?)
    }

    /// Takes away what came in bundles of which nothing is visible.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn discard_staged(&self) -> Result<u64, Error> {
        let staged = self.catalog.staged().all().await?;
        let freed = self.discard(&staged).await?;
        self.catalog.staged().clear().await?;
        self.settle().await?;
        Ok(freed)
    }

    /// To be held by who takes a bundle in: one at a time.
    pub async fn importing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.importing.lock().await
    }

    /// Keeps from eviction what is published or held, and nothing else.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn settle(&self) -> Result<(), Error> {
        let _alone = self.recording.write().await;
        Ok(reclaim::settle(
            &self.tasks,
            &self.catalog,
            &self.packages,
            &self.space,
            &self.blobs,
        )
        .await?)
    }

    /// Forgets those of the blobs that nothing names, and their files; says how many bytes that were.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn discard(&self, blobs: &[BlobId]) -> Result<u64, Error> {
        let _alone = self.recording.write().await;
        let mut unneeded = Vec::new();
        for blob in blobs {
            if !self.packages.needs(*blob).await? {
                unneeded.push(*blob);
            }
        }
        let (tasks, blobs) = (&self.tasks, &self.blobs);
        let freed = reclaim::discard(
            tasks,
            &self.catalog,
            &self.space,
            &self.held,
            blobs,
            &unneeded,
        )
        .await;
        self.evicted();
        Ok(freed?)
    }

    /// Writes down an asset that came in; says whether it is the first of its version.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn record_asset(&self, key: &AssetKey, row: &AssetRow) -> Result<bool, Error> {
        let package = &key.asset.package;
        let held = self
            .catalog
            .holds()
            .of_asset(&key.connection, package, &row.version);
        let kept = self.catalog.assets().keep(key, row, held).await?;
        if kept.is_held {
            self.hold(row.blob).await?;
        }
        Ok(kept.is_first)
    }

    /// Writes down a document that came in, in the place of what was there. `package` is the one that
    /// it is of.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn record_document(
        &self,
        connection: &str,
        key: &str,
        package: Option<&PackageId>,
        row: &DocumentRow,
    ) -> Result<(), Error> {
        let held = self.catalog.holds().of_document(connection, package);
        self.record_held(connection, key, row, held).await
    }

    async fn record_held(
        &self,
        connection: &str,
        key: &str,
        row: &DocumentRow,
        held: i64,
    ) -> Result<(), Error> {
        let kept = self
            .catalog
            .documents()
            .keep(connection, key, row, held)
            .await?;
        if kept.is_held {
            self.hold(row.blob).await?;
        }
        if let Some(replaced) = kept.replaced {
            self.let_go(&[replaced]).await?;
        }
        Ok(())
    }

    async fn hold(&self, blob: BlobId) -> Result<(), Error> {
        if let Some(size) = self.catalog.blobs().keep_known(blob).await? {
            self.space.remove(size);
        }
        Ok(())
    }

    /// Makes visible what came in a bundle: the assets of one version, all or none; says whether the
    /// version is new.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn record_imported(&self, assets: &[(AssetKey, AssetRow)]) -> Result<bool, Error> {
        let is_new = self
            .catalog
            .assets()
            .keep_version(assets, hold::IMPORTED)
            .await?;
        for (_, row) in assets {
            self.hold(row.blob).await?;
        }
        Ok(is_new)
    }

    /// The same of a document.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn record_imported_document(
        &self,
        connection: &str,
        key: &str,
        row: &DocumentRow,
    ) -> Result<(), Error> {
        self.record_held(connection, key, row, hold::IMPORTED).await
    }

    /// Pins and unpins packages; says which of the patterns to unpin there were.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn pin(
        &self,
        add: &[Pattern],
        remove: &[String],
        formats: &HashMap<String, Format>,
    ) -> Result<Vec<String>, Error> {
        let removed = self.catalog.holds().change_pins(add, remove).await?;
        self.catalog.holds().write_anew(formats).await?;
        self.settle().await?;
        Ok(removed)
    }

    /// Never evicts what comes from these connections, from now on; of all others, what is held for
    /// another reason alone. `formats` are those of all connections.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn retain(
        &self,
        connections: BTreeSet<String>,
        formats: &HashMap<String, Format>,
    ) -> Result<(), Error> {
        let names: Vec<&str> = connections.iter().map(String::as_str).collect();
        let names = names.join(" ");
        self.catalog.holds().set_retained(connections);
        // What the last start retained stands in the rows.
        let before = self.catalog.work().of(RETAINED).await?;
        if before.unwrap_or_default() != names {
            self.catalog.holds().write_anew(formats).await?;
            self.settle().await?;
            self.catalog.work().set(RETAINED, Some(&names)).await?;
        }
        Ok(())
    }

    /// Keeps a blob that is here from eviction; says whether it is here.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn keep_for_good(&self, id: BlobId) -> Result<bool, Error> {
        let Some(blob) = self.blob(id).await? else {
            return Ok(false);
        };
        if self.catalog.blobs().keep(id, blob.size()).await? {
            self.space.remove(blob.size());
        }
        // Between looking and keeping it may have been evicted; its name says so.
        let paths = [
            blob::path(&self.blobs, id),
            blob::sealed_path(&self.blobs, id),
        ];
        let exist = move || paths.iter().any(|path| path.exists());
        let exists = self.tasks.spawn_blocking(exist).await;
        exists.map_err(|_| Error::Stopped)
    }

    /// Opens the socket by which the operator's commands come.
    ///
    /// # Errors
    /// Where the disk takes none.
    pub fn listen(&self) -> std::io::Result<std::os::unix::net::UnixListener> {
        door::listen(&self.directory)
    }

    /// Takes the socket's name away: nobody listens there any more.
    pub fn shut(&self) {
        door::shut(&self.directory);
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
        keeping: Keeping,
    ) -> Result<Incoming, Error> {
        self.space
            .admit(size.unwrap_or(0), keeping)
            .map_err(Error::NotKept)?;
        Incoming::start(self, size, algorithms).await
    }

    /// The blob of that name; `None` where it is not here (any more). Notes the use.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn blob(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        self.usage.note(id);
        if let Some(blob) = self.held.get(id) {
            return Ok(Some(blob));
        }
        let (blobs, windows) = (self.blobs.clone(), self.held.windows.clone());
        let sealer = self.sealer.clone();
        let opened = self
            .tasks
            .spawn_blocking(move || Blob::open(id, &blobs, &windows, sealer.as_deref()))
            .await;
        let Some(mut blob) = opened.map_err(|_| Error::Stopped)?? else {
            return Ok(None);
        };
        if blob.size() <= self.held.small_bytes_max {
            blob = Blob::in_memory(id, blob.read_all(&self.tasks).await?);
        }
        // Somebody else may have opened it meanwhile: one file serves all.
        if let Some(held) = self.held.get(id) {
            return Ok(Some(held));
        }
        self.held.hold(&blob);
        Ok(Some(blob))
    }

    /// What was asked for offline and is not here.
    #[must_use]
    pub fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// The names of packages that are known outside.
    #[must_use]
    pub fn outside_names(&self) -> &OutsideNames {
        &self.outside_names
    }

    /// Notes a use of a blob that was found without asking for it.
    pub fn used(&self, id: BlobId) {
        self.usage.note(id);
    }

    /// A further digest of a blob, computed once and then remembered.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn digest(&self, blob: &Blob, algorithm: Algorithm) -> Result<Digest, Error> {
        if let Some(known) = self.catalog.blobs().digest(blob.id(), algorithm).await? {
            return Ok(known);
        }
        let digests = blob.digests(&self.tasks, &[algorithm]).await?;
        let digest = digests.get(algorithm).ok_or(Error::Stopped)?;
        self.catalog.blobs().keep_digest(blob.id(), &digest).await?;
        Ok(digest)
    }

    /// Grows each time that something was evicted.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Acquire)
    }

    fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Release);
    }

    /// Writes down what was counted of answers and fetches.
    pub async fn write_down(&self, ledger: &Ledger, bounds: &config::Report) {
        let page = ledger.take();
        if page.is_empty() {
            return;
        }
        if let Err(error) = self.catalog.reports().add(page, bounds).await {
            tracing::warn!(%error, "What was asked for is not written down");
        }
    }

    /// Evictable bytes on disk.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.space.used()
    }

    /// Writes down what is noted in memory alone.
    pub async fn flush(&self) {
        self.usage.flush().await;
        self.wishes.flush().await;
        self.outside_names.flush().await;
    }
}

/// Rows that are read at once.
const PAGE: usize = 1000;

/// Where a data directory is from a time in which the cache's catalog alone knew which names are
/// known outside, they are taken over from it, once.
async fn learn_outside_names(catalog: &Catalog, packages: &Packages) -> Result<(), Error> {
    if packages.has_outside_names().await? {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = catalog.assets().packages_here(after.as_ref(), PAGE).await?;
        let Some(last) = page.last().cloned() else {
            return Ok(());
        };
        let names: Vec<(String, String)> = page
            .into_iter()
            .map(|pulled| (pulled.connection, pulled.package))
            .collect();
        packages.keep_outside_names(&names).await?;
        after = Some(last);
    }
}
