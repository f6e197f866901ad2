//! All that is here, page by page.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{AssetKey, AssetRow, Catalog, DocumentRow};
use crate::format;
use crate::package::{AssetId, BlobId, PackageId};

/// A package of which files came through a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pulled {
    pub connection: String,
    /// `npm:@scope/name`.
    pub package: String,
}

/// A document, and where it is from.
#[derive(Clone, Debug)]
pub struct Held {
    pub connection: String,
    pub key: String,
    pub row: DocumentRow,
}

impl Catalog {
    /// Packages of which files are here, behind `after`, by connection and name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn packages_here(
        &self,
        after: Option<&Pulled>,
        limit: usize,
    ) -> Result<Vec<Pulled>, sqlx::Error> {
        let (connection, package) =
            after.map_or(("", ""), |it| (it.connection.as_str(), it.package.as_str()));
        let rows = sqlx::query(
            "SELECT DISTINCT connection, package FROM asset WHERE (connection, package) > (?, ?) \
             ORDER BY connection, package LIMIT ?",
        )
        .bind(connection)
        .bind(package)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .map(|row| Pulled {
                connection: row.get(0),
                package: row.get(1),
            })
            .collect())
    }

    /// The package's files that are here, version by version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn assets_here(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<Vec<(AssetKey, AssetRow)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT asset.file, version, blob, asset.size, media_type, published, last_modified, first_seen, \
             fetch_ms FROM asset JOIN blob ON blob.id = asset.blob \
             WHERE connection = ? AND package = ? ORDER BY version, file",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let asset = AssetId {
                    package: package.clone(),
                    file: row.get::<String, _>(0).into(),
                };
                let key = AssetKey {
                    connection: connection.into(),
                    asset,
                };
                Some((key, AssetRow::read(row, 1)?))
            })
            .collect())
    }

    /// The assets whose bytes a blob is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn assets_of(&self, blob: BlobId) -> Result<Vec<AssetKey>, sqlx::Error> {
        let rows = sqlx::query("SELECT connection, package, file FROM asset WHERE blob = ?")
            .bind(blob.as_bytes().as_slice())
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().filter_map(asset_key).collect())
    }

    /// Documents that are here, behind `after`, by connection and key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn documents_here(
        &self,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<Held>, sqlx::Error> {
        let (connection, key) = after.unwrap_or(("", ""));
        let rows = sqlx::query(
            "SELECT connection, key, blob, document.size, url, media_type, etag, last_modified, policy, \
             fetched_at, checked_at, fresh_until, fetch_ms, stale_for \
             FROM document JOIN blob ON blob.id = document.blob WHERE (connection, key) > (?, ?) \
             ORDER BY connection, key LIMIT ?",
        )
        .bind(connection)
        .bind(key)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                Some(Held {
                    connection: row.get(0),
                    key: row.get(1),
                    row: DocumentRow::read(row, 2)?,
                })
            })
            .collect())
    }

    /// Blobs behind `after`, in the order of their names, with their sizes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn blobs_here(
        &self,
        after: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(BlobId, u64)>, sqlx::Error> {
        let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let rows = sqlx::query("SELECT id, size FROM blob WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().filter_map(blob_and_size).collect())
    }

    /// How many blobs there are, and their bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn blobs_sum(&self) -> Result<(u64, u64), sqlx::Error> {
        let row = sqlx::query("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blob")
            .fetch_one(&self.pool)
            .await?;
        let number = |at: usize| u64::try_from(row.get::<i64, _>(at)).unwrap_or(0);
        Ok((number(0), number(1)))
    }

    /// Blobs from before then (milliseconds since 1970) that no row names, with their sizes;
    /// published ones may be among them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn unnamed_blobs(&self, before: i64) -> Result<Vec<(BlobId, u64)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT id, size FROM blob WHERE stored_at < ? \
             AND NOT EXISTS (SELECT 1 FROM asset WHERE asset.blob = blob.id) \
             AND NOT EXISTS (SELECT 1 FROM document WHERE document.blob = blob.id)",
        )
        .bind(before)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().filter_map(blob_and_size).collect())
    }

    /// How far long work has come; none where it has not begun.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn progress(&self, work: &str) -> Result<Option<String>, sqlx::Error> {
        let row = sqlx::query("SELECT state FROM progress WHERE work = ?")
            .bind(work)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Notes how far long work has come; none: it is done.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set_progress(&self, work: &str, state: Option<&str>) -> Result<(), sqlx::Error> {
        let written = match state {
            Some(state) => {
                sqlx::query("INSERT OR REPLACE INTO progress (work, state) VALUES (?, ?)")
                    .bind(work)
                    .bind(state)
                    .execute(&self.pool)
            }
            None => sqlx::query("DELETE FROM progress WHERE work = ?")
                .bind(work)
                .execute(&self.pool),
        };
        written.await.map(drop)
    }
}

fn blob_and_size(row: &SqliteRow) -> Option<(BlobId, u64)> {
    let id = BlobId::from_slice(&row.get::<Vec<u8>, _>(0))?;
    Some((id, u64::try_from(row.get::<i64, _>(1)).unwrap_or(0)))
}

fn asset_key(row: &SqliteRow) -> Option<AssetKey> {
    Some(AssetKey {
        connection: row.get::<String, _>(0).into(),
        asset: AssetId {
            package: format::package(&row.get::<String, _>(1)).ok()?,
            file: row.get::<String, _>(2).into(),
        },
    })
}
