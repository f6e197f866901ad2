//! Events on their way to their targets.

use sqlx::any::AnyRow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Error;
use super::database::Database;
use crate::clock;
use crate::store::sql::{Count, from_row};

/// An event on its way to one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub event: String,
    pub target: String,
    pub subject: String,
    /// The envelope, JSON.
    pub document: String,
    /// Milliseconds since 1970, as the others.
    pub created_at: i64,
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    pub attempts: u32,
    pub next_at: i64,
    /// The target's last answer.
    pub said: String,
}

from_row!(
    AnyRow,
    Delivery {
        event,
        target,
        subject,
        document,
        created_at,
        state,
        attempts,
        next_at,
        said
    }
);

const COLUMNS: &str =
    "event, target, subject, document, created_at, state, attempts, next_at, said";

/// Events on their way to their targets.
#[derive(Clone)]
pub struct Deliveries {
    pub(super) database: Arc<Database>,
}

/// No event is put off for longer; milliseconds.
const NEXT_MAX: i64 = 3_600_000;

impl Deliveries {
    /// Rings when something may be there to deliver.
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.database.outbox.load().written)
    }

    /// Finds the first event of each subject that waits for the target, where it is due. Events
    /// about one subject go in their order. What is due later than anything is put off is due now: the
    /// clock was set back.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due(&self, target: &str, now: i64, limit: usize) -> Result<Vec<Delivery>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM delivery d WHERE target = $1 AND state = 'waiting' AND (next_at <= $2 OR next_at > $4) \
             AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.target = d.target AND e.state = 'waiting' \
             AND e.subject = d.subject AND e.number < d.number) ORDER BY created_at LIMIT $3"
        );
        let deliveries = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(target)
            .bind(now)
            .bind(Count(limit as u64))
            .bind(now.saturating_add(NEXT_MAX))
            .fetch_all(&self.database.pool)
            .await?;
        Ok(deliveries)
    }

    /// When the next event of the target is due; `None` where none waits.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn next_due(&self, target: &str) -> Result<Option<i64>, Error> {
        let next = sqlx::query_scalar(
            "SELECT MIN(next_at) FROM delivery WHERE target = $1 AND state = 'waiting'",
        )
        .bind(target)
        .fetch_one(&self.database.pool)
        .await?;
        Ok(next)
    }

    /// Notes how far a delivery is, unless another process was first; says whether it was noted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn record(
        &self,
        one: &Delivery,
        state: &str,
        attempts: u32,
        next_at: i64,
        said: &str,
    ) -> Result<bool, Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        let done = sqlx::query(
            "UPDATE delivery SET state = $3, attempts = $4, next_at = $5, said = $6 \
             WHERE event = $1 AND target = $2 AND state = 'waiting' AND next_at = $7",
        )
        .bind(one.event.as_str())
        .bind(one.target.as_str())
        .bind(state)
        .bind(i64::from(attempts))
        .bind(next_at)
        .bind(said)
        .bind(one.next_at)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deliveries, the newest first: of one state, or of all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn list(&self, state: Option<&str>, limit: usize) -> Result<Vec<Delivery>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM delivery WHERE state = $1 OR $1 = '' ORDER BY created_at DESC, number DESC LIMIT $2"
        );
        let deliveries = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(state.unwrap_or_default())
            .bind(Count(limit as u64))
            .fetch_all(&self.database.pool)
            .await?;
        Ok(deliveries)
    }

    /// Sends an event again, or all that were put aside; says how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn replay(&self, event: Option<&str>) -> Result<u64, Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        let done = sqlx::query(
            "UPDATE delivery SET state = 'waiting', attempts = 0, next_at = $2 \
             WHERE (event = $1 AND state <> 'waiting') OR ($1 = '' AND state = 'dead')",
        )
        .bind(event.unwrap_or_default())
        .bind(clock::unix_ms_now())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.database.outbox.load().written.notify_waiters();
        Ok(done.rows_affected())
    }

    /// Forgets events from before this time, in milliseconds since 1970, whether they were delivered,
    /// put aside, or wait for a target that never takes them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn forget_old(&self, before: i64) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        sqlx::query("DELETE FROM delivery WHERE created_at < $1")
            .bind(before)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}
