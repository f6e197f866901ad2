//! Bundles on their way in: their blobs are here before anything of the bundle is visible.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::Error;
use super::catalog::Catalog;
use super::retention::BlobRetention;
use crate::package::BlobId;

/// Stages the blobs of a bundle, one bundle at a time.
pub struct Imports {
    catalog: Catalog,
    retention: Arc<BlobRetention>,
    turn: Mutex<()>,
}

impl Imports {
    pub(super) fn new(catalog: &Catalog, retention: &Arc<BlobRetention>) -> Self {
        Self {
            catalog: catalog.clone(),
            retention: Arc::clone(retention),
            turn: Mutex::default(),
        }
    }

    /// To be held by who takes a bundle in: one at a time.
    pub async fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Notes that a blob came in a bundle of which nothing is visible yet.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn stage(&self, blob: BlobId) -> Result<(), Error> {
        Ok(self.catalog.staged().add(blob).await?)
    }

    /// Notes that what was staged is visible now.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn unstage(&self) -> Result<(), Error> {
        Ok(self.catalog.staged().clear().await?)
    }

    /// Takes away what came in bundles of which nothing is visible; says how many bytes that were.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn discard_staged(&self) -> Result<u64, Error> {
        let staged = self.catalog.staged().all().await?;
        let freed = self.retention.discard(&staged).await?;
        self.unstage().await?;
        self.retention.settle().await?;
        Ok(freed)
    }
}
