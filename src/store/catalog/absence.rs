//! Absences: what registries said that they do not have, for when they are away. Noted in memory,
//! written in batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlitePool;

use crate::store::notes::Notes;
use crate::store::sql::{Count, Error};
use crate::task::Tasks;

const EVERY: Duration = Duration::from_secs(5);
/// Absences that may wait to be written; at this many they are written at once.
const WAITING_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Missing {
    connection: Box<str>,
    key: Box<str>,
}

/// The last word on a resource's absence.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Seconds since 1970.
    AbsentAt(i64),
    Present,
}

/// Absences on their way to the catalog.
pub struct AbsenceNotes {
    rows: AbsenceRows,
    notes: Arc<Notes<Missing, Known>>,
}

impl AbsenceNotes {
    pub(in crate::store) fn start(rows: AbsenceRows, tasks: &Tasks) -> Self {
        let writer = rows.clone();
        let write = move |batch| {
            let rows = writer.clone();
            async move { rows.write(batch).await.map_err(Into::into) }
        };
        Self {
            rows,
            notes: Notes::start(tasks, "absences", EVERY, WAITING_MAX, write),
        }
    }

    /// Notes that the connection does not have the resource, `at` seconds since 1970.
    pub fn note(&self, connection: &str, key: &str, at: i64) {
        self.change(connection, key, Known::AbsentAt(at));
    }

    /// Notes that the connection has the resource after all.
    pub fn forget(&self, connection: &str, key: &str) {
        self.change(connection, key, Known::Present);
    }

    fn change(&self, connection: &str, key: &str, known: Known) {
        let missing = Missing {
            connection: connection.into(),
            key: key.into(),
        };
        self.notes.note(missing, known, |before, now| *before = now);
    }

    /// When the connection last said that it does not have the resource; seconds since 1970.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn find(&self, connection: &str, key: &str) -> Result<Option<i64>, Error> {
        self.rows.find(connection, key).await
    }

    /// Forgets all that the connection did not have.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn forget_all(&self, connection: &str) -> Result<(), Error> {
        self.flush().await;
        self.rows.forget_all(connection).await
    }

    pub(in crate::store) async fn flush(&self) {
        self.notes.flush().await;
    }
}

/// The catalog's absences, no more than `max` of them.
#[derive(Clone)]
pub struct AbsenceRows {
    pub(super) pool: SqlitePool,
    pub(super) max: usize,
}

impl AbsenceRows {
    async fn write(&self, batch: HashMap<Missing, Known>) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for (missing, known) in batch {
            match known {
                Known::AbsentAt(at) => {
                    let sql = "INSERT OR REPLACE INTO absence (connection, key, checked_at) VALUES (?, ?, ?)";
                    sqlx::query(sql)
                        .bind(&*missing.connection)
                        .bind(&*missing.key)
                        .bind(at)
                        .execute(&mut *transaction)
                        .await?;
                }
                Known::Present => {
                    let sql = "DELETE FROM absence WHERE connection = ? AND key = ?";
                    sqlx::query(sql)
                        .bind(&*missing.connection)
                        .bind(&*missing.key)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
        }
        // The oldest go where there are too many.
        sqlx::query(
            "DELETE FROM absence WHERE (connection, key) IN (SELECT connection, key FROM absence \
             ORDER BY checked_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(Count(self.max as u64))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    async fn find(&self, connection: &str, key: &str) -> Result<Option<i64>, Error> {
        let sql = "SELECT checked_at FROM absence WHERE connection = ? AND key = ?";
        let at = sqlx::query_scalar(sql)
            .bind(connection)
            .bind(key)
            .fetch_optional(&self.pool)
            .await?;
        Ok(at)
    }

    async fn forget_all(&self, connection: &str) -> Result<(), Error> {
        sqlx::query("DELETE FROM absence WHERE connection = ?")
            .bind(connection)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
