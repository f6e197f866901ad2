//! Blobs that came in a bundle of which nothing is visible yet: nothing names them, and they stay.

use sqlx::SqlitePool;

use crate::package::BlobId;
use crate::store::sql::{Column, Error};

/// The catalog's staged blobs.
#[derive(Clone)]
pub struct Staged {
    pub(super) pool: SqlitePool,
}

impl Staged {
    /// Notes that a blob came in a bundle of which nothing is visible yet.
    pub(in crate::store) async fn add(&self, blob: BlobId) -> Result<(), Error> {
        sqlx::query("INSERT INTO staged (blob) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(Column(blob))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The blobs that came in bundles of which nothing is visible.
    pub(in crate::store) async fn all(&self) -> Result<Vec<BlobId>, Error> {
        let sql = "SELECT blob FROM staged";
        let blobs: Vec<Column<BlobId>> = sqlx::query_scalar(sql).fetch_all(&self.pool).await?;
        Ok(blobs.into_iter().map(|blob| blob.0).collect())
    }

    /// Forgets them all: what was staged is visible now, or gone.
    pub(in crate::store) async fn clear(&self) -> Result<(), Error> {
        sqlx::query("DELETE FROM staged")
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
