//! The package catalog: what repositories have of their own, in SQLite or PostgreSQL.

mod access;
mod change;
mod column;
mod domain;
mod error;
mod group;
mod outbox;
pub(super) mod outside;
mod read;
mod repository;
mod rows;
mod spool;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::any::AnyPoolOptions;
use sqlx::{Any, AnyPool, Executor as _, Transaction};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use access::{AccessKey, AccessRows, MachineToken, PolicyRow, SigningKey};
pub use change::{Applied, NewRelease, Step};
pub use domain::DomainFacts;
pub use error::{Error, Refusal};
pub use outbox::Delivery;
pub use outside::{OutsideNames, SeenOutside};
pub use read::Manifests;
pub use repository::Managed;
pub use spool::Spooled;

use crate::package::BlobId;
use crate::secret::Secret;
use column::Column;
use outbox::Outbox;

/// The package catalog; clones share it.
#[derive(Clone)]
pub struct Packages {
    pool: AnyPool,
    begin: &'static str,
    /// SQLite has one writer; waiting here is fair, and its own waiting is not.
    writers: Arc<Semaphore>,
    /// Other processes may change it too.
    is_shared: bool,
    /// This data directory's name among those of a shared catalog.
    place: String,
    /// Who is told of changes.
    outbox: Arc<ArcSwap<Outbox>>,
}

/// Random enough that no two changes share one.
pub fn random_name() -> String {
    let mut bytes = [0u8; 16];
    // Without the system's randomness there is no process to speak of.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = crate::clock::now().as_nanosecond().to_le_bytes();
    }
    hex::encode(bytes)
}

impl Packages {
    /// Opens or makes the catalog: at the address where there is one (`postgres://…`), else in this
    /// file.
    ///
    /// # Errors
    /// Where the database cannot be had.
    pub(super) async fn open(
        file: &Path,
        url: Option<&Secret>,
        place: String,
    ) -> Result<Self, super::Error> {
        sqlx::any::install_default_drivers();
        let own = format!("sqlite://{}?mode=rwc", encoded(file));
        let is_shared = url.is_some();
        if !is_shared {
            super::private::ensure(file)?;
        }
        let options = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if !is_shared {
                        // What was acknowledged is on the disk, whatever happens to the power.
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
            .await?;
        sqlx::migrate!("src/store/packages/migrations")
            .run(&pool)
            .await?;
        Ok(Self {
            pool,
            begin: if is_shared {
                "BEGIN"
            } else {
                "BEGIN IMMEDIATE"
            },
            writers: Arc::new(Semaphore::new(if is_shared { 6 } else { 1 })),
            is_shared,
            place,
            outbox: Arc::default(),
        })
    }

    /// Ends when no connection is open any more; whoever asks afterwards is refused.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether other processes may change it too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether a package version or a waiting publish needs the blob.
    pub(super) async fn needs(&self, blob: BlobId) -> Result<bool, Error> {
        let found = sqlx::query(
            "SELECT 1 FROM package_asset WHERE blob = $1 UNION ALL SELECT 1 FROM spool WHERE blob = $1 LIMIT 1",
        )
        .bind(Column(blob))
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.is_some())
    }

    async fn begin(&self) -> Result<(SemaphorePermit<'_>, Transaction<'static, Any>), Error> {
        let place = self
            .writers
            .acquire()
            .await
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let transaction = self.pool.begin_with(self.begin).await?;
        Ok((place, transaction))
    }
}

/// A path within a URL.
fn encoded(file: &Path) -> String {
    let path = file.display().to_string();
    crate::format::path::encode_path(&path)
}
