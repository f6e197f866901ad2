//! Publishes that wait for their upstream.

use sqlx::any::AnyRow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Error;
use super::database::Database;
use crate::package::BlobId;
use crate::store::sql::{Column, Count, Flag, from_row};

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
    /// Upstream's last answer.
    pub said: String,
    /// Upstream refused it for good: it is not tried again by itself, and others do not wait for it.
    #[serde(default)]
    pub set_aside: bool,
}

const COLUMNS: &str = "id, repository, connection, method, path, headers, blob, size, queued_at, attempts, next_at, said, set_aside";

struct SpooledRow {
    id: String,
    repository: String,
    connection: String,
    method: String,
    path: String,
    /// JSON.
    headers: String,
    blob: BlobId,
    size: u64,
    queued_at: i64,
    attempts: u32,
    next_at: i64,
    said: String,
    set_aside: bool,
}

from_row!(
    AnyRow,
    SpooledRow {
        id,
        repository,
        connection,
        method,
        path,
        headers,
        blob,
        size,
        queued_at,
        attempts,
        next_at,
        said,
        set_aside
    }
);

impl From<SpooledRow> for Spooled {
    fn from(row: SpooledRow) -> Self {
        Self {
            id: row.id,
            repository: row.repository,
            connection: row.connection,
            method: row.method,
            path: row.path,
            headers: serde_json::from_str(&row.headers).unwrap_or_default(),
            blob: row.blob.to_hex(),
            size: row.size,
            queued_at: row.queued_at,
            attempts: row.attempts,
            next_at: row.next_at,
            said: row.said,
            set_aside: row.set_aside,
        }
    }
}

/// Publishes that wait for their upstream.
#[derive(Clone)]
pub struct Spool {
    pub(super) database: Arc<Database>,
}

impl Spool {
    /// Accepts a publish: from here on it is not lost.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn add(&self, one: &Spooled, blob: BlobId) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        // Behind all that came before, whatever the clock says.
        let last: Option<i64> =
            sqlx::query_scalar("SELECT MAX(queued_at) FROM spool WHERE place = $1")
                .bind(self.database.place.as_str())
                .fetch_one(&mut *transaction)
                .await?;
        let queued_at = last.map_or(one.queued_at, |last| {
            one.queued_at.max(last.saturating_add(1))
        });
        let sql = format!(
            "INSERT INTO spool ({COLUMNS}, place) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(one.id.as_str())
            .bind(one.repository.as_str())
            .bind(one.connection.as_str())
            .bind(one.method.as_str())
            .bind(one.path.as_str())
            .bind(serde_json::to_string(&one.headers).unwrap_or_default())
            .bind(Column(blob))
            .bind(Count(one.size))
            .bind(queued_at)
            .bind(Count(one.attempts.into()))
            .bind(one.next_at)
            .bind(one.said.as_str())
            .bind(Flag(one.set_aside))
            .bind(self.database.place.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// All that wait here, the first come first. What waits in other data directories of a shared
    /// catalog is for those who have its bytes.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn waiting(&self) -> Result<Vec<Spooled>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM spool WHERE place = $1 ORDER BY queued_at, id");
        let rows: Vec<SpooledRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(self.database.place.as_str())
            .fetch_all(&self.database.door)
            .await?;
        Ok(rows.into_iter().map(Spooled::from).collect())
    }

    /// Notes what became of an attempt, and when there is to be another.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn put_off(&self, id: &str, next_at: i64, said: &str) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
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

    /// Sets a publish aside, with what was said of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set_aside(&self, id: &str, said: &str) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        sqlx::query(
            "UPDATE spool SET attempts = attempts + 1, set_aside = 1, said = $2 WHERE id = $1",
        )
        .bind(id)
        .bind(said)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Has publishes be tried at once, those that were set aside among them: one, or all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn hurry(&self, id: Option<&str>) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        let sql = "UPDATE spool SET next_at = 0, set_aside = 0 WHERE $1 = '' OR id = $1";
        sqlx::query(sql)
            .bind(id.unwrap_or_default())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Takes a publish out: it is through, or given up.
    ///
    /// # Errors
    /// Where there is none of that id, or the database fails.
    pub async fn remove(&self, id: &str) -> Result<BlobId, Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        let sql = "DELETE FROM spool WHERE id = $1 RETURNING blob";
        let blob: Option<Column<BlobId>> = sqlx::query_scalar(sql)
            .bind(id)
            .fetch_optional(&mut *transaction)
            .await?;
        let blob = blob.ok_or_else(|| Error::Absent(format!("spooled publish `{id}`")))?;
        transaction.commit().await?;
        Ok(blob.0)
    }
}
