//! How far work has come that goes on over many calls, and over a restart.

use sqlx::{Row as _, SqlitePool};

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
    pub async fn of(&self, work: &str) -> Result<Option<String>, sqlx::Error> {
        let row = sqlx::query("SELECT state FROM progress WHERE work = ?")
            .bind(work)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Notes how far long work has come; none: it is done.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set(&self, work: &str, state: Option<&str>) -> Result<(), sqlx::Error> {
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
        written.await.map(drop)
    }
}
