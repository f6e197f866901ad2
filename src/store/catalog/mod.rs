//! The cache's SQL database: what every resource of every connection is. Each noun has a type of its
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
mod staged;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod wish;

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub use alias::Aliases;
pub use asset::{AssetKey, AssetRow, CatalogAssets, PulledFile, PulledPackage};
pub use blob::Blobs;
pub use document::{CatalogDocuments, DocumentRow, StoredDocument};
pub use hold::Holds;
pub use ledger::Reports;
pub use progress::LongWork;
pub use publish_date::PublishDates;
pub use staged::Staged;

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
    reports: Reports,
    staged: Staged,
    work: LongWork,
}

impl Catalog {
    pub(super) async fn open(file: &Path) -> Result<Self, Error> {
        // Its log and its index beside it are made as private as it is.
        super::private::ensure(file)?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A crash loses what came last from the cache's rows, never their agreement.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(sql::Error::from)?;
        sql::migrator(STEPS)
            .run(&pool)
            .await
            .map_err(sql::Error::from)?;
        Ok(Self {
            aliases: Aliases { pool: pool.clone() },
            assets: CatalogAssets { pool: pool.clone() },
            blobs: Blobs { pool: pool.clone() },
            documents: CatalogDocuments { pool: pool.clone() },
            holds: Holds::open(pool.clone()).await?,
            publish_dates: PublishDates { pool: pool.clone() },
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
];
