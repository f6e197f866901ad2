//! Blobs that came in a bundle of which nothing is visible yet: nothing names them, and they stay.

use sqlx::{Row as _, SqlitePool};

use crate::package::BlobId;

/// The catalog's staged blobs.
#[derive(Clone)]
pub struct Staged {
    pub(super) pool: SqlitePool,
}

impl Staged {
    /// Notes that a blob came in a bundle of which nothing is visible yet.
    pub(in crate::store) async fn add(&self, blob: BlobId) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO staged (blob) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(blob.as_bytes().as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The blobs that came in bundles of which nothing is visible.
    pub(in crate::store) async fn all(&self) -> Result<Vec<BlobId>, sqlx::Error> {
        let rows = sqlx::query("SELECT blob FROM staged")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| BlobId::from_slice(&row.get::<Vec<u8>, _>(0)))
            .collect())
    }

    /// Forgets them all: what was staged is visible now, or gone.
    pub(in crate::store) async fn clear(&self) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM staged")
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
