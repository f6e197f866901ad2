//! How far work has come that goes on over many calls, and over a restart.

use sqlx::SqlitePool;

use crate::store::sql::Error;

/// The catalog's notes of long work.
#[derive(Clone)]
pub struct LongWork {
    pub(super) pool: SqlitePool,
}

impl LongWork {
    /// How far long work has come; none where it has not begun.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of(&self, work: &str) -> Result<Option<String>, Error> {
        let state = sqlx::query_scalar("SELECT state FROM progress WHERE work = ?")
            .bind(work)
            .fetch_optional(&self.pool)
            .await?;
        Ok(state)
    }

    /// Notes how far long work has come; none: it is done.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set(&self, work: &str, state: Option<&str>) -> Result<(), Error> {
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
        written.await?;
        Ok(())
    }
}
