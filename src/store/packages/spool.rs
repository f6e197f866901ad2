//! Publishes that wait for their upstream.

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Error, Packages};
use crate::package::BlobId;

/// A publish that was accepted and is still to be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spooled {
    pub id: String,
    pub repository: String,
    pub connection: String,
    pub method: String,
    /// Below the repository, with its query.
    pub path: String,
    /// Names and values, without credentials.
    pub headers: Vec<(String, String)>,
    /// SHA-256 of the body, hexadecimal.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970, as the others.
    pub queued_at: i64,
    pub attempts: u32,
    pub next_at: i64,
    /// What upstream said last.
    pub said: String,
}

const COLUMNS: &str = "id, repository, connection, method, path, headers, blob, size, queued_at, attempts, next_at, said";

fn spooled(row: &AnyRow) -> Result<Spooled, Error> {
    let number = |index: usize| row.try_get::<i64, _>(index);
    Ok(Spooled {
        id: row.try_get(0)?,
        repository: row.try_get(1)?,
        connection: row.try_get(2)?,
        method: row.try_get(3)?,
        path: row.try_get(4)?,
        headers: serde_json::from_str(&row.try_get::<String, _>(5)?).unwrap_or_default(),
        blob: hex::encode(row.try_get::<Vec<u8>, _>(6)?),
        size: u64::try_from(number(7)?).unwrap_or(0),
        queued_at: number(8)?,
        attempts: u32::try_from(number(9)?).unwrap_or(u32::MAX),
        next_at: number(10)?,
        said: row.try_get(11)?,
    })
}

impl Packages {
    /// Accepts a publish: from here on it is not lost.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn spool(&self, one: &Spooled, blob: BlobId) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        let sql = format!(
            "INSERT INTO spool ({COLUMNS}, place) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(one.id.as_str())
            .bind(one.repository.as_str())
            .bind(one.connection.as_str())
            .bind(one.method.as_str())
            .bind(one.path.as_str())
            .bind(serde_json::to_string(&one.headers).unwrap_or_default())
            .bind(blob.as_bytes().to_vec())
            .bind(i64::try_from(one.size).unwrap_or(i64::MAX))
            .bind(one.queued_at)
            .bind(i64::from(one.attempts))
            .bind(one.next_at)
            .bind(one.said.as_str())
            .bind(self.place.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// All that wait here, the first come first. What waits in other data directories of a shared
    /// catalog is for those who have its bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn spooled(&self) -> Result<Vec<Spooled>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM spool WHERE place = $1 ORDER BY queued_at, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.place.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(spooled).collect()
    }

    /// Notes what became of an attempt, and when there is to be another.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn put_off(&self, id: &str, next_at: i64, said: &str) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        sqlx::query(
            "UPDATE spool SET attempts = attempts + 1, next_at = $2, said = $3 WHERE id = $1",
        )
        .bind(id)
        .bind(next_at)
        .bind(said)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Has what waits be tried at once: one, or all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn hurry(&self, id: Option<&str>) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        sqlx::query("UPDATE spool SET next_at = 0 WHERE $1 = '' OR id = $1")
            .bind(id.unwrap_or_default())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Takes a publish out: it is through, or given up.
    ///
    /// # Errors
    /// Where there is none of that id, or the database fails.
    pub async fn unspool(&self, id: &str) -> Result<BlobId, Error> {
        let (_place, mut transaction) = self.begin().await?;
        let row = sqlx::query("SELECT blob FROM spool WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| Error::Absent(format!("spooled publish `{id}`")))?;
        let blob: Vec<u8> = row.try_get(0)?;
        sqlx::query("DELETE FROM spool WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        BlobId::from_slice(&blob).ok_or_else(|| Error::Absent(format!("spooled publish `{id}`")))
    }
}
