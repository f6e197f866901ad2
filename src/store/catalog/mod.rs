//! The cache's SQL database: what every resource of every registry is. Each noun has a type of its
//! own; a [`Catalog`] is all of them over one pool.

pub mod absence;
mod alias;
mod asset;
mod blob;
mod document;
pub mod hold;
pub mod ledger;
mod progress;
mod publish_date;
mod registry;
mod staged;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod wish;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tracing::warn;

pub use alias::Aliases;
pub use asset::{AssetKey, AssetRow, CatalogAssets, PulledFile, PulledPackage};
pub use blob::Blobs;
pub use document::{CatalogDocuments, DocumentRow, StoredDocument};
pub use hold::Holds;
pub use ledger::Reports;
pub use progress::LongWork;
pub use publish_date::PublishDates;
pub use registry::{MovedRegistry, Registries, RegistryIds, StoredRegistry};
pub use staged::Staged;

use super::markers::LastEnd;
use super::sql::Ailment;
use super::{Error, sql};
use absence::AbsenceRows;
use wish::WishRows;

/// The catalog; clones share it.
#[derive(Clone)]
pub struct Catalog {
    pool: SqlitePool,
    aliases: Aliases,
    assets: CatalogAssets,
    blobs: Blobs,
    documents: CatalogDocuments,
    holds: Holds,
    publish_dates: PublishDates,
    registries: Registries,
    reports: Reports,
    staged: Staged,
    work: LongWork,
}

impl Catalog {
    /// Opens the catalog. One that is damaged is laid aside and begun anew: what is cached is fetched
    /// again, and what is published does not depend on it.
    pub(super) async fn open_or_begin(file: &Path, last_end: LastEnd) -> Result<Self, Error> {
        let damage = if file.is_dir() {
            "it is a folder".to_owned()
        } else {
            match Self::open(file, last_end).await {
                Err(Error::Catalog(error)) if error.ailment() == Ailment::Damaged => {
                    error.to_string()
                }
                opened => return opened,
            }
        };
        let aside = lay_aside(file)?;
        warn!(file = %file.display(), aside = %aside.display(), "The catalog of the cache is damaged ({damage}); it is laid aside and begun anew. What was published is all there, and what was cached is fetched again; `larder gc` frees the room of files that no one asks for");
        Self::open(file, last_end).await
    }

    async fn open(file: &Path, last_end: LastEnd) -> Result<Self, Error> {
        // Its log and its index beside it are made as private as it is.
        super::private::ensure(file)?;
        let is_to_be_checked = sql::is_to_be_checked(file, last_end);
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A crash loses what came last from the cache's rows, never their agreement.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .after_release(|connection, _| Box::pin(sql::is_reusable_sqlite(connection)))
            .connect_with(options)
            .await
            .map_err(sql::Error::from)?;
        let opened = Self::prepare(pool.clone(), is_to_be_checked).await;
        if opened.is_err() {
            // Whoever lays the file aside finds it closed.
            pool.close().await;
        }
        opened
    }

    async fn prepare(pool: SqlitePool, is_to_be_checked: bool) -> Result<Self, Error> {
        if is_to_be_checked {
            let said: String = sqlx::query_scalar(sql::CHECK)
                .fetch_one(&pool)
                .await
                .map_err(sql::Error::from)?;
            if said != sql::WHOLE {
                return Err(sql::Error::damaged(&said).into());
            }
        }
        sql::migrator(STEPS)
            .run(&pool)
            .await
            .map_err(sql::Error::from)?;
        Ok(Self {
            aliases: Aliases::new(pool.clone()),
            assets: CatalogAssets { pool: pool.clone() },
            blobs: Blobs { pool: pool.clone() },
            documents: CatalogDocuments { pool: pool.clone() },
            holds: Holds::new(pool.clone()),
            publish_dates: PublishDates { pool: pool.clone() },
            registries: Registries { pool: pool.clone() },
            reports: Reports { pool: pool.clone() },
            staged: Staged { pool: pool.clone() },
            work: LongWork { pool: pool.clone() },
            pool,
        })
    }

    /// Ends when no connection is open any more; whoever asks afterwards is refused.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Paths that stand for addresses.
    #[must_use]
    pub fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// Immutable files that connections gave.
    #[must_use]
    pub fn assets(&self) -> &CatalogAssets {
        &self.assets
    }

    /// The files that are here.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Mutable metadata that connections gave.
    #[must_use]
    pub fn documents(&self) -> &CatalogDocuments {
        &self.documents
    }

    /// The files from outside that are never evicted, and why.
    #[must_use]
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Publish dates that no document has.
    #[must_use]
    pub fn publish_dates(&self) -> &PublishDates {
        &self.publish_dates
    }

    /// The places that rows belong to.
    #[must_use]
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// Daily counts of requests, fetches and pulls.
    #[must_use]
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Blobs of a bundle of which nothing is visible yet.
    pub(super) fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Resources that registries do not have; at most `max` rows.
    pub(super) fn absences(&self, max: usize) -> AbsenceRows {
        AbsenceRows {
            pool: self.pool.clone(),
            max,
        }
    }

    /// Packages that were asked for offline and are not stored; at most `max` rows.
    pub(super) fn wishes(&self, max: usize) -> WishRows {
        WishRows {
            pool: self.pool.clone(),
            max,
        }
    }

    /// How far long work has come.
    #[must_use]
    pub fn work(&self) -> &LongWork {
        &self.work
    }
}

/// Gives the database's files other names, in the place of what was laid aside before.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn lay_aside(file: &Path) -> std::io::Result<PathBuf> {
    let aside = file.with_extension("sqlite.damaged");
    if aside.is_dir() {
        std::fs::remove_dir_all(&aside)?;
    }
    std::fs::rename(file, &aside)?;
    for suffix in ["-wal", "-shm"] {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        // The new database must not take up the old one's.
        match std::fs::rename(beside(file), beside(&aside)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// The tables, step by step.
const STEPS: &[(&str, &str)] = &[
    ("cache", include_str!("migrations/0001_cache.sql")),
    (
        "document by blob",
        include_str!("migrations/0002_document_by_blob.sql"),
    ),
    (
        "stale while revalidate",
        include_str!("migrations/0003_stale_while_revalidate.sql"),
    ),
    (
        "stored bytes",
        include_str!("migrations/0004_stored_bytes.sql"),
    ),
    ("kept blobs", include_str!("migrations/0005_kept_blobs.sql")),
    ("air gap", include_str!("migrations/0006_air_gap.sql")),
    (
        "versions of documents",
        include_str!("migrations/0007_versions_of_documents.sql"),
    ),
    ("absences", include_str!("migrations/0008_absences.sql")),
    ("registries", include_str!("migrations/0009_registries.sql")),
];
