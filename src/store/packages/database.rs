//! The package catalog's database, SQLite or PostgreSQL, and how it is written.

use std::path::Path;
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::any::AnyPoolOptions;
use sqlx::{Any, AnyPool, Executor as _, Transaction};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Error;
use super::outbox::Outbox;
use crate::secret::Secret;
use crate::store::{private, sql};

/// The database that all parts of the package catalog share.
pub(super) struct Database {
    pub pool: AnyPool,
    begin: &'static str,
    /// SQLite has one writer; waiting here is fair, and its own waiting is not.
    writers: Semaphore,
    /// Other processes may change it too.
    pub is_shared: bool,
    /// This data directory's name among those of a shared catalog.
    pub place: String,
    /// The targets that events are written for.
    pub outbox: ArcSwap<Outbox>,
}

impl Database {
    /// Opens or makes it: at the address where there is one (`postgres://…`), else in this file.
    pub async fn open(
        file: &Path,
        url: Option<&Secret>,
        place: String,
    ) -> Result<Self, crate::store::Error> {
        sqlx::any::install_default_drivers();
        let own = format!("sqlite://{}?mode=rwc", encoded(file));
        let is_shared = url.is_some();
        if !is_shared {
            private::ensure(file)?;
        }
        let options = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if !is_shared {
                        // SQLite waits for the disk with each change, so that a loss of power
                        // undoes nothing that was acknowledged.
                        connection
                            .execute(sqlx::raw_sql(
                                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000",
                            ))
                            .await?;
                    }
                    Ok(())
                })
            });
        let pool = options
            .connect(url.map_or(own.as_str(), Secret::expose))
            .await
            .map_err(Error::from)?;
        sql::migrator(STEPS)
            .run(&pool)
            .await
            .map_err(sql::Error::from)?;
        Ok(Self {
            pool,
            begin: if is_shared {
                "BEGIN"
            } else {
                "BEGIN IMMEDIATE"
            },
            writers: Semaphore::new(if is_shared { 6 } else { 1 }),
            is_shared,
            place,
            outbox: ArcSwap::default(),
        })
    }

    /// A transaction that writes, and the permit to be held as long as it does.
    pub async fn begin(&self) -> Result<(SemaphorePermit<'_>, Transaction<'static, Any>), Error> {
        let permit = self
            .writers
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let transaction = self.pool.begin_with(self.begin).await?;
        Ok((permit, transaction))
    }
}

/// A path within a URL.
fn encoded(file: &Path) -> String {
    let path = file.display().to_string();
    crate::format::path::encode_path(&path)
}

/// The tables, step by step.
const STEPS: &[(&str, &str)] = &[
    ("packages", include_str!("migrations/0001_packages.sql")),
    ("access", include_str!("migrations/0002_access.sql")),
    (
        "repositories",
        include_str!("migrations/0003_repositories.sql"),
    ),
    ("events", include_str!("migrations/0004_events.sql")),
    (
        "package groups",
        include_str!("migrations/0005_package_groups.sql"),
    ),
    (
        "outside names",
        include_str!("migrations/0006_outside_names.sql"),
    ),
    ("set aside", include_str!("migrations/0007_set_aside.sql")),
];
