use sqlx::Row as _;

use super::Catalog;
use crate::clock;
use crate::package::{Algorithm, BlobId, Digest};

impl Catalog {
    /// The sum of all evictable blobs' sizes.
    pub(in crate::store) async fn blob_bytes(&self) -> Result<u64, sqlx::Error> {
        let row = sqlx::query("SELECT bytes FROM stored")
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or(0))
    }

    /// Says whether the blob is new.
    pub(in crate::store) async fn add_blob(
        &self,
        id: BlobId,
        size: u64,
    ) -> Result<bool, sqlx::Error> {
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

    /// Forgets the coldest blobs, at most `count` and about `bytes` of them, and says which they
    /// were: those used once go before those used again, the longest unused first.
    pub(in crate::store) async fn take_coldest(
        &self,
        count: u32,
        bytes: u64,
    ) -> Result<Vec<(BlobId, u64)>, sqlx::Error> {
        let rows = sqlx::query("SELECT id, size FROM blob ORDER BY reused, used_at LIMIT ?")
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        let mut taken = Vec::new();
        let mut total = 0;
        let mut transaction = self.pool.begin().await?;
        for row in rows {
            let id: Vec<u8> = row.get(0);
            let size = u64::try_from(row.get::<i64, _>(1)).unwrap_or(0);
            sqlx::query("DELETE FROM blob WHERE id = ?")
                .bind(&id)
                .execute(&mut *transaction)
                .await?;
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
}
