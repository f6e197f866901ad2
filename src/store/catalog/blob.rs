//! Blobs: which files are here, how large they are, and which of them are kept from eviction.

use std::collections::HashMap;

use sqlx::SqlitePool;

use crate::clock;
use crate::package::{Algorithm, BlobId, Digest};
use crate::store::sql::{Column, Count, Error, Flag};

/// A blob that the catalog has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgottenBlob {
    pub id: BlobId,
    /// In bytes.
    pub size: u64,
    /// It was kept from eviction.
    pub was_kept: bool,
}

/// The catalog's blobs.
#[derive(Clone)]
pub struct Blobs {
    pub(super) pool: SqlitePool,
}

impl Blobs {
    /// The sum of all evictable blobs' sizes.
    pub(in crate::store) async fn evictable_bytes(&self) -> Result<u64, Error> {
        let bytes: Count = sqlx::query_scalar("SELECT MAX(bytes, 0) FROM stored")
            .fetch_one(&self.pool)
            .await?;
        Ok(bytes.0)
    }

    /// Whether the blob has a row.
    pub(in crate::store) async fn has(&self, id: BlobId) -> Result<bool, Error> {
        let row = sqlx::query("SELECT 1 FROM blob WHERE id = ?")
            .bind(Column(id))
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Adds an evictable blob; says whether it is new.
    pub(in crate::store) async fn add(&self, id: BlobId, size: u64) -> Result<bool, Error> {
        let now = clock::unix_ms_now();
        let done = sqlx::query("INSERT INTO blob (id, size, stored_at, used_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(Column(id))
            .bind(Count(size))
            .bind(now)
            .bind(now)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Keeps the blob from eviction; says whether it was an evictable one before.
    pub(in crate::store) async fn keep(&self, id: BlobId, size: u64) -> Result<bool, Error> {
        if self.keep_known(id).await?.is_some() {
            return Ok(true);
        }
        let now = clock::unix_ms_now();
        sqlx::query("INSERT INTO blob (id, size, stored_at, used_at, kept) VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET kept = 1")
            .bind(Column(id))
            .bind(Count(size))
            .bind(now)
            .bind(now)
            .execute(&self.pool)
            .await?;
        Ok(false)
    }

    /// Keeps a blob that has a row from eviction; its size, where it was evictable.
    pub(in crate::store) async fn keep_known(&self, id: BlobId) -> Result<Option<u64>, Error> {
        let sql = "UPDATE blob SET kept = 1 WHERE id = ? AND kept = 0 RETURNING size";
        let size: Option<Count> = sqlx::query_scalar(sql)
            .bind(Column(id))
            .fetch_optional(&self.pool)
            .await?;
        Ok(size.map(|size| size.0))
    }

    /// Lets the blob be evicted. Returns its size if it was kept until now.
    pub(in crate::store) async fn make_evictable(&self, id: BlobId) -> Result<Option<u64>, Error> {
        let sql = "UPDATE blob SET kept = 0 WHERE id = ? AND kept = 1 RETURNING size";
        let size: Option<Count> = sqlx::query_scalar(sql)
            .bind(Column(id))
            .fetch_optional(&self.pool)
            .await?;
        Ok(size.map(|size| size.0))
    }

    /// All blobs that are kept from eviction.
    pub(in crate::store) async fn kept(&self) -> Result<Vec<BlobId>, Error> {
        let sql = "SELECT id FROM blob WHERE kept = 1";
        let kept: Vec<Column<BlobId>> = sqlx::query_scalar(sql).fetch_all(&self.pool).await?;
        Ok(kept.into_iter().map(|id| id.0).collect())
    }

    /// Forgets the coldest blobs, at most `count` and about `bytes` of them, and says which they
    /// were: those used once go before those used again, the longest unused first.
    pub(in crate::store) async fn take_coldest(
        &self,
        count: u32,
        bytes: u64,
    ) -> Result<Vec<(BlobId, u64)>, Error> {
        let rows: Vec<(Column<BlobId>, Count)> = sqlx::query_as(
            "SELECT id, size FROM blob WHERE kept = 0 ORDER BY reused, used_at LIMIT ?",
        )
        .bind(count)
        .fetch_all(&self.pool)
        .await?;
        let mut taken = Vec::new();
        let mut total = 0;
        let mut transaction = self.pool.begin().await?;
        for (id, size) in rows {
            let gone = sqlx::query("DELETE FROM blob WHERE id = ? AND kept = 0")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            // Somebody published it meanwhile.
            if gone.rows_affected() == 0 {
                continue;
            }
            sqlx::query("DELETE FROM blob_digest WHERE blob = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            // A document without its bytes is nothing; an asset's row is a pin and stays.
            sqlx::query("DELETE FROM document WHERE blob = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            taken.push((id.0, size.0));
            total += size.0;
            if total >= bytes {
                break;
            }
        }
        transaction.commit().await?;
        Ok(taken)
    }

    /// Forgets those of the blobs that nothing names, and says which they were.
    pub(in crate::store) async fn forget(
        &self,
        blobs: &[BlobId],
    ) -> Result<Vec<ForgottenBlob>, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut gone = Vec::new();
        for blob in blobs {
            let row: Option<(Count, Flag)> = sqlx::query_as(
                "DELETE FROM blob WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM asset WHERE blob = ?1) \
                 AND NOT EXISTS (SELECT 1 FROM document WHERE blob = ?1) RETURNING size, kept",
            )
            .bind(Column(*blob))
            .fetch_optional(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM staged WHERE blob = ?")
                .bind(Column(*blob))
                .execute(&mut *transaction)
                .await?;
            let Some((size, is_kept)) = row else { continue };
            sqlx::query("DELETE FROM blob_digest WHERE blob = ?")
                .bind(Column(*blob))
                .execute(&mut *transaction)
                .await?;
            gone.push(ForgottenBlob {
                id: *blob,
                size: size.0,
                was_kept: is_kept.0,
            });
        }
        transaction.commit().await?;
        Ok(gone)
    }

    /// Forgets a blob whose file is gone, and the documents that it was; an asset's row is a pin and
    /// stays. Says which size it had, and whether it was kept from eviction.
    pub(in crate::store) async fn lose(&self, id: BlobId) -> Result<Option<(u64, bool)>, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "DELETE FROM blob WHERE id = ? RETURNING size, kept";
        let row: Option<(Count, Flag)> = sqlx::query_as(sql)
            .bind(Column(id))
            .fetch_optional(&mut *transaction)
            .await?;
        for sql in [
            "DELETE FROM blob_digest WHERE blob = ?",
            "DELETE FROM document WHERE blob = ?",
        ] {
            sqlx::query(sql)
                .bind(Column(id))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(row.map(|(size, is_kept)| (size.0, is_kept.0)))
    }

    /// A further digest of the blob, where it was computed before.
    pub(in crate::store) async fn digest(
        &self,
        blob: BlobId,
        algorithm: Algorithm,
    ) -> Result<Option<Digest>, Error> {
        let sql = "SELECT value FROM blob_digest WHERE blob = ? AND algorithm = ?";
        let value: Option<String> = sqlx::query_scalar(sql)
            .bind(Column(blob))
            .bind(algorithm.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(value.and_then(|value| Digest::from_hex(algorithm, &value).ok()))
    }

    pub(in crate::store) async fn keep_digest(
        &self,
        blob: BlobId,
        digest: &Digest,
    ) -> Result<(), Error> {
        sqlx::query("INSERT INTO blob_digest (blob, algorithm, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(Column(blob))
            .bind(digest.algorithm().as_str())
            .bind(digest.to_hex())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes down when blobs were used last; milliseconds since 1970.
    pub(in crate::store) async fn mark_used(
        &self,
        notes: HashMap<BlobId, i64>,
    ) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        for (id, used_at) in notes {
            sqlx::query("UPDATE blob SET used_at = ?, reused = 1 WHERE id = ?")
                .bind(used_at)
                .bind(Column(id))
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Blobs behind `place`, in the order of their names, with their sizes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn after(
        &self,
        place: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(BlobId, u64)>, Error> {
        let place = place.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let sql = "SELECT id, size FROM blob WHERE id > ? ORDER BY id LIMIT ?";
        let rows: Vec<(Column<BlobId>, Count)> = sqlx::query_as(sql)
            .bind(place)
            .bind(Count(limit as u64))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|(id, size)| (id.0, size.0)).collect())
    }

    /// How many blobs there are, and their bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn total(&self) -> Result<(u64, u64), Error> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blob";
        let (count, bytes): (Count, Count) = sqlx::query_as(sql).fetch_one(&self.pool).await?;
        Ok((count.0, bytes.0))
    }

    /// Blobs from before then (milliseconds since 1970) that no row names, with their sizes;
    /// published ones may be among them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn unnamed(&self, before: i64) -> Result<Vec<(BlobId, u64)>, Error> {
        let rows: Vec<(Column<BlobId>, Count)> = sqlx::query_as(
            "SELECT id, size FROM blob WHERE stored_at < ? \
             AND NOT EXISTS (SELECT 1 FROM asset WHERE asset.blob = blob.id) \
             AND NOT EXISTS (SELECT 1 FROM document WHERE document.blob = blob.id)",
        )
        .bind(before)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(id, size)| (id.0, size.0)).collect())
    }

    /// The number of files that are never evicted, and their bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn kept_total(&self) -> Result<(u64, u64), Error> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blob WHERE kept = 1";
        let (count, bytes): (Count, Count) = sqlx::query_as(sql).fetch_one(&self.pool).await?;
        Ok((count.0, bytes.0))
    }
}
