//! Documents: mutable metadata of connections, each row naming the blob that is its bytes.

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use crate::package::BlobId;
use crate::store::sql::{Column, Count, Error, field, from_row};

/// A document: its bytes' name and the validators that came with them.
#[derive(Clone, Debug)]
pub struct DocumentRow {
    pub blob: BlobId,
    pub size: u64,
    /// Where the bytes came from, after redirects.
    pub url: String,
    pub media_type: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// The state of `http-cache-semantics`, as JSON.
    pub policy: String,
    /// When these bytes came, and when upstream last vouched for them; seconds since 1970.
    pub fetched_at: i64,
    pub checked_at: i64,
    /// Until when upstream lets it pass for fresh.
    pub fresh_until: i64,
    /// Seconds after that for which it may be served while upstream is asked (RFC 5861 §3).
    pub stale_for: i64,
    pub fetch_ms: i64,
    /// How many versions or files it lists; `None` where it is no list, or nobody counted them.
    pub versions: Option<i64>,
}

from_row!(
    SqliteRow,
    DocumentRow {
        blob,
        size,
        url,
        media_type,
        etag,
        last_modified,
        policy,
        fetched_at,
        checked_at,
        fresh_until,
        stale_for,
        fetch_ms,
        versions
    }
);

/// A document that is here, and the connection it came through.
#[derive(Clone, Debug)]
pub struct StoredDocument {
    pub connection: String,
    pub key: String,
    pub row: DocumentRow,
}

impl sqlx::FromRow<'_, SqliteRow> for StoredDocument {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            connection: field(row, "connection")?,
            key: field(row, "key")?,
            row: sqlx::FromRow::from_row(row)?,
        })
    }
}

/// The catalog's documents.
#[derive(Clone)]
pub struct CatalogDocuments {
    pub(super) pool: SqlitePool,
}

impl CatalogDocuments {
    /// The document's row.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn find(&self, connection: &str, key: &str) -> Result<Option<DocumentRow>, Error> {
        let row = sqlx::query_as(
            "SELECT blob, size, url, media_type, etag, last_modified, policy, fetched_at, checked_at, fresh_until, fetch_ms, stale_for, versions \
             FROM document WHERE connection = ? AND key = ?",
        )
        .bind(connection)
        .bind(key)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    /// Documents whose bytes are here, `limit` of them behind `place`, by connection and key.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn after(
        &self,
        place: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<StoredDocument>, Error> {
        let (connection, key) = place.unwrap_or(("", ""));
        let documents = sqlx::query_as(
            "SELECT connection, key, blob, document.size, url, media_type, etag, last_modified, policy, \
             fetched_at, checked_at, fresh_until, fetch_ms, stale_for, versions \
             FROM document JOIN blob ON blob.id = document.blob WHERE (connection, key) > (?, ?) \
             ORDER BY connection, key LIMIT ?",
        )
        .bind(connection)
        .bind(key)
        .bind(Count(limit as u64))
        .fetch_all(&self.pool)
        .await?;
        Ok(documents)
    }

    /// Connections and keys of documents that came in since then (seconds since 1970).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn since(&self, since: i64) -> Result<Vec<(String, String)>, Error> {
        let sql = "SELECT connection, key FROM document WHERE fetched_at >= ?";
        Ok(sqlx::query_as(sql)
            .bind(since)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Has these documents of the connection, or all of them, be asked for anew before they are
    /// served.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn outdate(&self, connection: &str, keys: Option<&[String]>) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        match keys {
            None => {
                sqlx::query(
                    "UPDATE document SET fresh_until = 0, stale_for = 0 WHERE connection = ?",
                )
                .bind(connection)
                .execute(&mut *transaction)
                .await?;
            }
            Some(keys) => {
                for key in keys {
                    sqlx::query(
                        "UPDATE document SET fresh_until = 0, stale_for = 0 WHERE connection = ? AND key = ?",
                    )
                    .bind(connection)
                    .bind(key)
                    .execute(&mut *transaction)
                    .await?;
                }
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Keeps a document in the place of what was there. What held it still does; then the blob that
    /// has to be let go of is named.
    pub(in crate::store) async fn keep(
        &self,
        connection: &str,
        key: &str,
        row: &DocumentRow,
        held: i64,
    ) -> Result<KeptDocument, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "SELECT blob, held FROM document WHERE connection = ? AND key = ?";
        let before: Option<(Column<BlobId>, i64)> = sqlx::query_as(sql)
            .bind(connection)
            .bind(key)
            .fetch_optional(&mut *transaction)
            .await?;
        let (replaced, held_before) = before.map_or((None, 0), |(blob, held)| (Some(blob.0), held));
        let held = held | held_before;
        sqlx::query(
            "INSERT OR REPLACE INTO document (connection, key, blob, size, url, media_type, etag, last_modified, \
             policy, fetched_at, checked_at, fresh_until, fetch_ms, stale_for, versions, held) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(connection)
        .bind(key)
        .bind(Column(row.blob))
        .bind(Count(row.size))
        .bind(&row.url)
        .bind(&row.media_type)
        .bind(&row.etag)
        .bind(&row.last_modified)
        .bind(&row.policy)
        .bind(row.fetched_at)
        .bind(row.checked_at)
        .bind(row.fresh_until)
        .bind(row.fetch_ms)
        .bind(row.stale_for)
        .bind(row.versions)
        .bind(held)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(KeptDocument {
            is_held: held != 0,
            replaced: replaced.filter(|blob| held_before != 0 && *blob != row.blob),
        })
    }
}

/// Whether a document's blob is held, and which one was before it.
pub(in crate::store) struct KeptDocument {
    pub is_held: bool,
    pub replaced: Option<BlobId>,
}
