use jiff::Timestamp;
use sqlx::Row as _;

use super::Catalog;
use crate::package::{AssetId, BlobId};

/// An asset of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssetKey {
    pub connection: Box<str>,
    pub asset: AssetId,
}

/// An immutable asset that was fetched and verified once.
#[derive(Clone, Debug)]
pub struct AssetRow {
    pub version: String,
    /// The first bytes seen; later ones without a promise have to be the same.
    pub blob: BlobId,
    pub size: u64,
    pub media_type: String,
    pub published: Option<Timestamp>,
    pub last_modified: Option<String>,
    /// Seconds since 1970.
    pub first_seen: i64,
    pub fetch_ms: i64,
}

impl Catalog {
    /// # Errors
    /// Where the database fails.
    pub async fn asset(&self, key: &AssetKey) -> Result<Option<AssetRow>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT version, blob, size, media_type, published, last_modified, first_seen, fetch_ms \
             FROM asset WHERE connection = ? AND package = ? AND file = ?",
        )
        .bind(&*key.connection)
        .bind(key.asset.package.to_string())
        .bind(&*key.asset.file)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.and_then(|row| {
            Some(AssetRow {
                version: row.get(0),
                blob: BlobId::from_slice(&row.get::<Vec<u8>, _>(1))?,
                size: u64::try_from(row.get::<i64, _>(2)).unwrap_or(0),
                media_type: row.get(3),
                published: row
                    .get::<Option<i64>, _>(4)
                    .and_then(|seconds| Timestamp::from_second(seconds).ok()),
                last_modified: row.get(5),
                first_seen: row.get(6),
                fetch_ms: row.get(7),
            })
        }))
    }

    /// # Errors
    /// Where the database fails.
    pub async fn keep_asset(&self, key: &AssetKey, row: &AssetRow) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT OR REPLACE INTO asset (connection, package, file, version, blob, size, media_type, published, \
             last_modified, first_seen, fetch_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&*key.connection)
        .bind(key.asset.package.to_string())
        .bind(&*key.asset.file)
        .bind(&row.version)
        .bind(row.blob.as_bytes().as_slice())
        .bind(i64::try_from(row.size).unwrap_or(i64::MAX))
        .bind(&row.media_type)
        .bind(row.published.map(Timestamp::as_second))
        .bind(&row.last_modified)
        .bind(row.first_seen)
        .bind(row.fetch_ms)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
