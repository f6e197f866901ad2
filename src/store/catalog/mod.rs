//! The one SQL database: what every resource of every connection is.

mod asset;
mod blob;
mod document;
pub mod hold;
pub mod ledger;
mod names;
pub mod survey;
pub mod usage;
pub mod wish;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub use asset::{AssetKey, AssetRow};
pub use document::DocumentRow;

use super::Error;
use hold::Holds;

/// The catalog; clones share it.
#[derive(Clone)]
pub struct Catalog {
    pool: SqlitePool,
    holds: Arc<Holds>,
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
            .await?;
        sqlx::migrate!("src/store/catalog/migrations")
            .run(&pool)
            .await?;
        let catalog = Self {
            pool,
            holds: Arc::default(),
        };
        catalog.recall_pins().await?;
        Ok(catalog)
    }
}
