//! Writing down what came in: a row, and the blob that it holds, if it holds one.

use std::sync::Arc;

use super::Error;
use super::catalog::{AssetKey, AssetRow, Catalog, DocumentRow, hold};
use super::retention::BlobRetention;
use crate::package::PackageId;

/// Writes rows of the cache's catalog, and keeps the blobs that they hold.
pub struct Records {
    catalog: Catalog,
    retention: Arc<BlobRetention>,
}

impl Records {
    pub(super) fn new(catalog: &Catalog, retention: &Arc<BlobRetention>) -> Self {
        Self {
            catalog: catalog.clone(),
            retention: Arc::clone(retention),
        }
    }

    /// Writes down an asset that came in; says whether it is the first of its version.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn add_asset(&self, key: &AssetKey, row: &AssetRow) -> Result<bool, Error> {
        let holds = self.catalog.holds();
        let held = holds.of_asset(&key.connection, &key.asset.package, &row.version);
        let kept = self.catalog.assets().keep(key, row, held).await?;
        if kept.is_held {
            self.retention.hold(row.blob).await?;
        }
        Ok(kept.is_first)
    }

    /// Writes down a document that came in, in the place of what was there. `package` is the one that
    /// it is of.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn add_document(
        &self,
        connection: &str,
        key: &str,
        package: Option<&PackageId>,
        row: &DocumentRow,
    ) -> Result<(), Error> {
        let held = self.catalog.holds().of_document(connection, package);
        self.keep_document(connection, key, row, held).await
    }

    /// Makes visible what came in a bundle: the assets of one version, all or none; says whether the
    /// version is new.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn add_imported_version(
        &self,
        assets: &[(AssetKey, AssetRow)],
    ) -> Result<bool, Error> {
        let kept = self.catalog.assets().keep_version(assets, hold::IMPORTED);
        let is_new = kept.await?;
        for (_, row) in assets {
            self.retention.hold(row.blob).await?;
        }
        Ok(is_new)
    }

    /// Makes visible a document that came in a bundle.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn add_imported_document(
        &self,
        connection: &str,
        key: &str,
        row: &DocumentRow,
    ) -> Result<(), Error> {
        self.keep_document(connection, key, row, hold::IMPORTED)
            .await
    }

    async fn keep_document(
        &self,
        connection: &str,
        key: &str,
        row: &DocumentRow,
        held: i64,
    ) -> Result<(), Error> {
        let documents = self.catalog.documents();
        let kept = documents.keep(connection, key, row, held).await?;
        if kept.is_held {
            self.retention.hold(row.blob).await?;
        }
        if let Some(replaced) = kept.replaced {
            self.retention.release_blobs(&[replaced]).await?;
        }
        Ok(())
    }
}
