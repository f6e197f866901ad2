//! Keeps everything that lies on disk or in SQL.

pub mod archive;
mod arrival;
pub mod backup;
mod blob;
pub mod catalog;
#[cfg(test)]
mod conformance;
mod content;
mod directory;
mod door;
mod files;
mod imports;
mod incoming;
mod lock;
mod map;
mod markers;
pub mod moving;
mod notes;
pub mod packages;
mod pieces;
pub mod private;
mod recording;
mod records;
mod relay;
pub mod rendered;
mod reseal;
mod reserve;
mod retention;
mod seal;
mod space;
pub mod sql;
mod task_book;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

pub use arrival::{Arrival, Arrivals, DownloadHead, DownloadProgress, Follower, Leader, Phase};
pub use backup::{CopyProgress, LastBackup};
pub use blob::{Blob, WeakBlob};
pub use content::ContentReader;
pub use directory::DataDirectory;
pub use door::Door;
pub use files::{BlobFiles, Health};
pub use imports::Imports;
pub use incoming::{Incoming, Keeping, Verified};
pub use lock::{Holder, Lock, holder};
pub use pieces::Pieces;
pub use recording::Recording;
pub use records::Records;
pub use relay::{Onward, Relay, RelaySender};
pub use reseal::Resealed;
pub use retention::BlobRetention;
pub use space::NotKept;
pub use task_book::{TaskBook, TaskEnd, TaskRecord, TaskRun};
pub use upkeep::Waste;

use crate::clock;
use crate::config;
use crate::format::plain;
use crate::package::{Algorithm, BlobId, Digest};
use crate::problem::{Decider, Kind, Problem};
use crate::task::Tasks;
use crate::telemetry::Ledger;
use catalog::Catalog;
use catalog::absence::AbsenceNotes;
use catalog::usage::Usage;
use catalog::wish::Wishes;
use markers::Markers;
use packages::{OutsideNames, Packages, SeenOutside, outside};
use seal::Sealer;
use space::Space;

/// How the store can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the data directory {path} {what}: {}", plain::io(cause), path = path.display())]
    Directory {
        path: PathBuf,
        what: &'static str,
        cause: std::io::Error,
    },
    #[error("the data directory {path} is held by {holder}; stop that one, or say --data-dir with another directory", path = path.display())]
    Held { path: PathBuf, holder: Holder },
    #[error("the data directory {path} has form {found}, which is of a newer Larder; this one knows form {known}: start the newer one", path = path.display())]
    Form {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("{path} has to have what was published here, and {found}: bring it back from a copy of the data directory, with packages.sqlite-wal where the copy has one, or restore a backup into an empty one (`larder restore`). If it is right as it is, delete the file {marker} beside it; what was published and is not in it is lost then, and anyone outside may answer for its names", path = path.display())]
    PackagesLost {
        path: PathBuf,
        found: &'static str,
        marker: &'static str,
    },
    #[error("{path}, which has what was published here, cannot be used: {cause}. Bring it back from a copy of the data directory, or restore a backup into an empty one (`larder restore`); no other file has what is in it", path = path.display())]
    PackagesDamaged { path: PathBuf, cause: sql::Error },
    #[error("the database of packages at {at}: {why}")]
    Database { at: String, why: String },
    #[error(
        "the database of packages at {at} is another one than last time's, and this data directory has the files of that one. Correct `packages.database`. If it is meant, delete the file database.id in the data directory; files that no row of this database names may be let go of then"
    )]
    OtherDatabase { at: String },
    #[error(
        "what was published here is in a database, and the configuration names none. Set `packages.database`, or bring the packages here: `larder packages move --from postgres://… --to sqlite`. If they are to stay behind in the database, delete the file database.id in the data directory"
    )]
    NoDatabase,
    #[error(
        "the packages of {at} were moved to {to}: name that one by `packages.database`, or take the key out of the configuration where it is packages.sqlite"
    )]
    PackagesMoved { at: String, to: String },
    #[error(
        "packages are being moved to {at}, and that did not come to its end: run the same `larder packages move` again"
    )]
    PackagesArriving { at: String },
    #[error("nothing is moved: {0}")]
    Move(String),
    #[error("the backup at {path} {why}", path = path.display())]
    Backup { path: PathBuf, why: String },
    #[error("the data directory {path} is not empty: restore into an empty one (--data-dir), and name that one in the configuration", path = path.display())]
    NotEmpty { path: PathBuf },
    #[error("the data directory {path} was being restored, and that did not come to its end: run `larder restore` again, or empty the directory", path = path.display())]
    Restoring { path: PathBuf },
    #[error("the database of packages has packages or tokens of others: restore into an empty one")]
    RestoreInto,
    #[error("the catalog of the cache, larder.sqlite: {0}")]
    Catalog(#[from] sql::Error),
    #[error("a stored file cannot be read or written: {}", plain::io(.0))]
    Io(#[from] std::io::Error),
    #[error("nothing is kept: {}", .0.reason())]
    NotKept(NotKept),
    #[error("the bytes do not match {promised}: they have {found}")]
    Unverified { promised: Digest, found: String },
    #[error("{got} bytes came where {promised} were promised")]
    Length { promised: u64, got: u64 },
    #[error("the data directory cannot be opened: {0}")]
    Sealed(&'static str),
    #[error("the stored file {} is damaged", .0.to_hex())]
    Damaged(BlobId),
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

/// How a failure of the store reads where no outcome of the work says it better.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Catalog(error) => error.into(),
            Error::Packages(error) => error.into(),
            Error::Damaged(_) => Self::new(
                Kind::Unavailable {
                    retry_after: DAMAGED_RETRY,
                },
                Decider::Larder,
                "a stored file is damaged; it is laid aside",
            )
            .advice("ask again")
            .caused_by(error),
            error @ (Error::Backup { .. } | Error::NotEmpty { .. } | Error::RestoreInto) => {
                Self::invalid(error.to_string())
            }
            Error::NotKept(why) => Self::new(
                Kind::Unavailable {
                    retry_after: FULL_RETRY,
                },
                Decider::Larder,
                format!("nothing is kept: {}", why.reason()),
            )
            .advice("make room on that disk, or lower `cache.min_free`"),
            Error::Io(_) => Self::internal("a stored file cannot be read or written", error),
            error => Self::internal("the store failed", error),
        }
    }
}

/// When a disk that was full is worth another attempt.
const FULL_RETRY: Duration = Duration::from_secs(60);

/// When a file that was found to be damaged can be had again, where it can be fetched.
const DAMAGED_RETRY: Duration = Duration::from_secs(1);

/// The blobs, the catalogs, and what keeps both within their bounds.
pub struct Store {
    directory: DataDirectory,
    files: BlobFiles,
    catalog: Catalog,
    packages: Packages,
    retention: Arc<BlobRetention>,
    /// Files of changes that are neither made nor cancelled yet.
    unsettled: recording::Unsettled,
    records: Records,
    imports: Imports,
    space: Arc<Space>,
    usage: Usage,
    wishes: Wishes,
    absences: AbsenceNotes,
    outside_names: Arc<OutsideNames>,
    markers: Markers,
    last_backup: ArcSwapOption<LastBackup>,
    task_book: ArcSwap<TaskBook>,
    pieces_ahead_max: usize,
    tasks: Tasks,
}

impl Store {
    /// Opens or makes the store in `directory`, which is then this process's alone.
    ///
    /// # Errors
    /// Where the directory cannot be written, another process holds it, or the catalog is broken.
    pub async fn open(
        directory: &Path,
        config: &config::Config,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Error> {
        let directory = DataDirectory::take(directory)?;
        let path = directory.path();
        let sealer = Sealer::open(path, config.encryption.as_ref())?.map(Arc::new);
        let files = BlobFiles::new(directory.blobs(), sealer, &config.cache, tasks);
        reserve::release_if_full(path);
        let markers = Markers::of(path)?;
        let last_end = markers.last_end();
        let packages = Packages::open(
            &path.join("packages.sqlite"),
            &config.packages,
            directory.identity()?,
            &markers,
        )
        .await?;
        let catalog = Catalog::open_or_begin(&path.join("larder.sqlite"), last_end).await?;
        let used = catalog.blobs().evictable_bytes().await?;
        let space = Arc::new(Space::new(path, &config.cache, used));
        learn_outside_names(&catalog, &packages, config).await?;
        let outside_names = OutsideNames::start(packages.outside_names(), catalog.work(), tasks);
        let retention = BlobRetention::new(&files, &catalog, &packages, &space);
        retention.recall_pins().await?;
        retention.start(tasks);
        let store = Arc::new(Self {
            records: Records::new(&catalog, &retention),
            imports: Imports::new(&catalog, &retention),
            usage: Usage::start(catalog.blobs(), tasks),
            wishes: Wishes::start(catalog.wishes(config.report.wishes_max), tasks),
            absences: AbsenceNotes::start(catalog.absences(config.cache.absences_max), tasks),
            outside_names,
            last_backup: ArcSwapOption::from_pointee(LastBackup::of(path)),
            task_book: ArcSwap::from_pointee(TaskBook::taken_up(path)),
            markers,
            directory,
            files,
            catalog,
            packages,
            retention,
            unsettled: recording::Unsettled::default(),
            space,
            pieces_ahead_max: config.fetch.pieces_ahead_max,
            tasks: tasks.clone(),
        });
        recording::start(&store);
        store.packages.hold(tasks);
        store
            .tasks
            .spawn_until_stop(watch_space(Arc::clone(&store.space), store.tasks.clone()));
        Ok(store)
    }

    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The data directory, its lock and its socket.
    #[must_use]
    pub fn directory(&self) -> &DataDirectory {
        &self.directory
    }

    /// Documents and files from connections.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The repositories' own packages.
    #[must_use]
    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    /// The blobs' files.
    #[must_use]
    pub fn files(&self) -> &BlobFiles {
        &self.files
    }

    /// Decides which files stay on the disk and which are evicted.
    #[must_use]
    pub fn retention(&self) -> &BlobRetention {
        &self.retention
    }

    /// Writes down what came in.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Bundles on their way in.
    #[must_use]
    pub fn imports(&self) -> &Imports {
        &self.imports
    }

    /// Packages that were asked for offline and are not stored.
    #[must_use]
    pub fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// Resources that registries do not have, by their own words.
    #[must_use]
    pub fn absences(&self) -> &AbsenceNotes {
        &self.absences
    }

    /// The names of packages that are known outside.
    #[must_use]
    pub fn outside_names(&self) -> &OutsideNames {
        &self.outside_names
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
        Incoming::start(self, size, algorithms, keeping).await
    }

    /// The blob of that name; `None` where it is not here (any more). Notes the use.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn blob(&self, id: BlobId) -> Result<Option<Blob>, Error> {
        self.usage.note(id);
        self.files.share(id).await
    }

    /// The blob of that name and size, as a row has them. A file of another size is damaged: it is laid
    /// aside, and is not here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn blob_of(&self, id: BlobId, size: u64) -> Result<Option<Blob>, Error> {
        match self.blob(id).await? {
            Some(blob) if blob.size() != size => {
                // The row may be wrong, and the file right.
                if self.files.examine(id).await? == Health::Whole {
                    return Ok(Some(blob));
                }
                self.files.set_aside(id).await;
                Ok(None)
            }
            blob => Ok(blob),
        }
    }

    /// Keeps a blob that is here from eviction; says whether it is here.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn keep_for_good(&self, id: BlobId) -> Result<bool, Error> {
        match self.blob(id).await? {
            Some(blob) => self.retention.keep(id, blob.size()).await,
            None => Ok(false),
        }
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

    /// Writes down what was counted of answers and fetches.
    pub async fn write_down(&self, ledger: &Ledger, bounds: &config::ReportSettings) {
        let page = ledger.take();
        if page.is_empty() {
            return;
        }
        if let Err(error) = self.catalog.reports().add(page, bounds).await {
            tracing::warn!(%error, "Writing the use of packages failed; reports will lack it");
        }
    }

    /// Why nothing new is cached at present; `None` where something is.
    #[must_use]
    pub fn shortage(&self) -> Option<NotKept> {
        self.space.shortage()
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
        self.absences.flush().await;
        self.outside_names.flush().await;
    }

    /// Writes down what is noted in memory alone and leaves the databases, as long as the directory
    /// is still this process's: whoever takes it next finds no file that is being written. A statement
    /// under way is waited for, for so long at most.
    pub async fn close(&self, patience: Duration) {
        let closed = async {
            self.flush().await;
            tokio::join!(self.catalog.close(), self.packages.close())
        };
        if tokio::time::timeout(patience, closed).await.is_err() {
            tracing::warn!("Closing the databases took too long; the next start recovers them");
        }
    }
}

/// How often it is looked whether the disk has room.
const SPACE_SEEN_EVERY: Duration = Duration::from_secs(10);

/// Has the log say that the disk is full, or has room again, also where nobody asks for anything, and
/// holds some of it back.
async fn watch_space(space: Arc<Space>, tasks: Tasks) {
    loop {
        space.shortage();
        let space = Arc::clone(&space);
        let _ = tasks.spawn_blocking(move || space.hold_back()).await;
        tokio::time::sleep(SPACE_SEEN_EVERY).await;
    }
}

/// Takes up the names of what came in since names seen outside were written last: all of it where a
/// data directory is from a time in which the cache's catalog alone knew them, and what a kill left
/// unwritten.
async fn learn_outside_names(
    catalog: &Catalog,
    packages: &Packages,
    config: &config::Config,
) -> Result<(), Error> {
    let now = clock::unix_now().to_string();
    let written = catalog.work().of(outside::WRITTEN).await?;
    let since = written.and_then(|at| at.parse::<i64>().ok());
    // A time that is still to come is of a clock that was wrong: then all of it is looked through.
    let since = since.filter(|at| *at <= clock::unix_now());
    let since = since.map_or(0, |at| at.saturating_sub(WRITTEN_LATE));
    let pulled = catalog.assets().packages_since(since).await?;
    let registries = catalog.registries();
    let registries = registries.of(&config.connections, config.offline).await?;
    let mut names: Vec<SeenOutside> = pulled
        .into_iter()
        .flat_map(|pulled| {
            let connections = registries.connections(&pulled.connection);
            let seen = connections.map(|name| SeenOutside {
                connection: name.to_owned(),
                package: pulled.package.clone(),
            });
            seen.collect::<Vec<_>>()
        })
        .collect();
    for (registry, key) in catalog.documents().since(since).await? {
        for name in registries.connections(&registry) {
            let of = config.connections.iter().find(|it| it.name == name);
            let package = of.and_then(|of| of.format.protocol().package_of(&key));
            names.extend(package.map(|package| SeenOutside {
                connection: name.to_owned(),
                package: package.to_string(),
            }));
        }
    }
    for some in names.chunks(NAMES_AT_ONCE) {
        packages.outside_names().keep(some).await?;
    }
    catalog.work().set(outside::WRITTEN, Some(&now)).await?;
    Ok(())
}

/// Names that are written in one transaction.
const NAMES_AT_ONCE: usize = 1000;

/// For how many seconds a note may have waited when the last ones were written.
const WRITTEN_LATE: i64 = 60;
