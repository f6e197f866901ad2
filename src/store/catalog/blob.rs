//! Blobs: which files are here, how large they are, and which of them are kept from eviction.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};

use crate::clock;
use crate::package::{Algorithm, BlobId, Digest};

/// The catalog's blobs.
#[derive(Clone)]
pub struct Blobs {
    pub(super) pool: SqlitePool,
}

impl Blobs {
    /// The sum of all evictable blobs' sizes.
    pub(in crate::store) async fn evictable_bytes(&self) -> Result<u64, sqlx::Error> {
        let row = sqlx::query("SELECT bytes FROM stored")
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or(0))
    }

    /// Whether the blob has a row.
    pub(in crate::store) async fn has(&self, id: BlobId) -> Result<bool, sqlx::Error> {
        let row = sqlx::query("SELECT 1 FROM blob WHERE id = ?")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Adds an evictable blob; says whether it is new.
    pub(in crate::store) async fn add(&self, id: BlobId, size: u64) -> Result<bool, sqlx::Error> {
        let now = clock::unix_ms_now();
        let done = sqlx::query("INSERT INTO blob (id, size, stored_at, used_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(id.as_bytes().as_slice())
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            .bind(now)
            .bind(now)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Keeps the blob from eviction; says whether it was an evictable one before.
    pub(in crate::store) async fn keep(&self, id: BlobId, size: u64) -> Result<bool, sqlx::Error> {
        if self.keep_known(id).await?.is_some() {
            return Ok(true);
        }
        let now = clock::unix_ms_now();
        sqlx::query("INSERT INTO blob (id, size, stored_at, used_at, kept) VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET kept = 1")
            .bind(id.as_bytes().as_slice())
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            .bind(now)
            .bind(now)
            .execute(&self.pool)
            .await?;
        Ok(false)
    }

    /// Keeps a blob that has a row from eviction; its size, where it was evictable.
    pub(in crate::store) async fn keep_known(
        &self,
        id: BlobId,
    ) -> Result<Option<u64>, sqlx::Error> {
        let row = sqlx::query("UPDATE blob SET kept = 1 WHERE id = ? AND kept = 0 RETURNING size")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| u64::try_from(row.get::<i64, _>(0)).unwrap_or(0)))
    }

    /// Lets the blob be evicted; its size, where it was kept.
    pub(in crate::store) async fn let_go(&self, id: BlobId) -> Result<Option<u64>, sqlx::Error> {
        let row = sqlx::query("UPDATE blob SET kept = 0 WHERE id = ? AND kept = 1 RETURNING size")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| u64::try_from(row.get::<i64, _>(0)).unwrap_or(0)))
    }

    /// All blobs that are kept from eviction.
    pub(in crate::store) async fn kept(&self) -> Result<Vec<BlobId>, sqlx::Error> {
        let rows = sqlx::query("SELECT id FROM blob WHERE kept = 1")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows
            .iter()
            .filter_map(|row| BlobId::from_slice(&row.get::<Vec<u8>, _>(0)))
            .collect())
    }

    /// Forgets the coldest blobs, at most `count` and about `bytes` of them, and says which they
    /// were: those used once go before those used again, the longest unused first.
    pub(in crate::store) async fn take_coldest(
        &self,
        count: u32,
        bytes: u64,
    ) -> Result<Vec<(BlobId, u64)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT id, size FROM blob WHERE kept = 0 ORDER BY reused, used_at LIMIT ?",
        )
        .bind(count)
        .fetch_all(&self.pool)
        .await?;
        let mut taken = Vec::new();
        let mut total = 0;
        let mut transaction = self.pool.begin().await?;
        for row in rows {
            let id: Vec<u8> = row.get(0);
            let size = u64::try_from(row.get::<i64, _>(1)).unwrap_or(0);
            let gone = sqlx::query("DELETE FROM blob WHERE id = ? AND kept = 0")
                .bind(&id)
                .execute(&mut *transaction)
                .await?;
            // Somebody published it meanwhile.
            if gone.rows_affected() == 0 {
                continue;
            }
            sqlx::query("DELETE FROM blob_digest WHERE blob = ?")
                .bind(&id)
                .execute(&mut *transaction)
                .await?;
            // A document without its bytes is nothing; an asset's row is a pin and stays.
            sqlx::query("DELETE FROM document WHERE blob = ?")
                .bind(&id)
                .execute(&mut *transaction)
                .await?;
            if let Some(id) = BlobId::from_slice(&id) {
                taken.push((id, size));
            }
            total += size;
            if total >= bytes {
                break;
            }
        }
        transaction.commit().await?;
        Ok(taken)
    }

    /// Forgets those of the blobs that nothing names, and says which they were, with their sizes and
    /// whether they were kept from eviction.
    pub(in crate::store) async fn forget(
        &self,
        blobs: &[BlobId],
    ) -> Result<Vec<(BlobId, u64, bool)>, sqlx::Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut gone = Vec::new();
        for blob in blobs {
            let row = sqlx::query(
                "DELETE FROM blob WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM asset WHERE blob = ?1) \
                 AND NOT EXISTS (SELECT 1 FROM document WHERE blob = ?1) RETURNING size, kept",
            )
            .bind(blob.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM staged WHERE blob = ?")
                .bind(blob.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
            let Some(row) = row else { continue };
            sqlx::query("DELETE FROM blob_digest WHERE blob = ?")
                .bind(blob.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
            let size = u64::try_from(row.get::<i64, _>(0)).unwrap_or(0);
            gone.push((*blob, size, row.get::<i64, _>(1) != 0));
        }
        transaction.commit().await?;
        Ok(gone)
    }

    /// Forgets a blob whose file is gone, and the documents that it was; an asset's row is a pin and
    /// stays. Says which size it had, and whether it was kept from eviction.
    pub(in crate::store) async fn lose(
        &self,
        id: BlobId,
    ) -> Result<Option<(u64, bool)>, sqlx::Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("DELETE FROM blob WHERE id = ? RETURNING size, kept")
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
        for sql in [
            "DELETE FROM blob_digest WHERE blob = ?",
            "DELETE FROM document WHERE blob = ?",
        ] {
            sqlx::query(sql)
                .bind(id.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(row.map(|row| {
            let size = u64::try_from(row.get::<i64, _>(0)).unwrap_or(0);
            (size, row.get::<i64, _>(1) != 0)
        }))
    }

    /// A further digest of the blob, where it was computed before.
    pub(in crate::store) async fn digest(
        &self,
        blob: BlobId,
        algorithm: Algorithm,
    ) -> Result<Option<Digest>, sqlx::Error> {
        let row = sqlx::query("SELECT value FROM blob_digest WHERE blob = ? AND algorithm = ?")
            .bind(blob.as_bytes().as_slice())
            .bind(algorithm.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.and_then(|row| Digest::from_hex(algorithm, &row.get::<String, _>(0)).ok()))
    }

    pub(in crate::store) async fn keep_digest(
        &self,
        blob: BlobId,
        digest: &Digest,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO blob_digest (blob, algorithm, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(blob.as_bytes().as_slice())
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
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for (id, used_at) in notes {
            sqlx::query("UPDATE blob SET used_at = ?, reused = 1 WHERE id = ?")
                .bind(used_at)
                .bind(id.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    /// Blobs behind `place`, in the order of their names, with their sizes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn after(
        &self,
        place: Option<BlobId>,
        limit: usize,
    ) -> Result<Vec<(BlobId, u64)>, sqlx::Error> {
        let place = place.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        let rows = sqlx::query("SELECT id, size FROM blob WHERE id > ? ORDER BY id LIMIT ?")
            .bind(place)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().filter_map(blob_and_size).collect())
    }

    /// How many blobs there are, and their bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn total(&self) -> Result<(u64, u64), sqlx::Error> {
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
    pub async fn unnamed(&self, before: i64) -> Result<Vec<(BlobId, u64)>, sqlx::Error> {
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

    /// What is never evicted: how many files there are, and their bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn kept_total(&self) -> Result<(u64, u64), sqlx::Error> {
        let row = sqlx::query("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blob WHERE kept = 1")
            .fetch_one(&self.pool)
            .await?;
        let number = |at: usize| u64::try_from(row.get::<i64, _>(at)).unwrap_or(0);
        Ok((number(0), number(1)))
    }
}

fn blob_and_size(row: &SqliteRow) -> Option<(BlobId, u64)> {
    let id = BlobId::from_slice(&row.get::<Vec<u8>, _>(0))?;
    Some((id, u64::try_from(row.get::<i64, _>(1)).unwrap_or(0)))
}
