//! Aliases: paths that stand for addresses which no path can be read from.

use sqlx::SqlitePool;

use crate::format::Alias;
use crate::store::sql::Error;

/// The catalog's aliases.
#[derive(Clone)]
pub struct Aliases {
    pub(super) pool: SqlitePool,
}

impl Aliases {
    /// The address that the path stands for.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn target(&self, connection: &str, path: &str) -> Result<Option<String>, Error> {
        let sql = "SELECT target FROM alias WHERE connection = ? AND path = ?";
        let target = sqlx::query_scalar(sql)
            .bind(connection)
            .bind(path)
            .fetch_optional(&self.pool)
            .await?;
        Ok(target)
    }

    /// Keeps aliases, each in the place of what its path stood for before.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep(&self, connection: &str, aliases: &[Alias]) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        for alias in aliases {
            sqlx::query("INSERT OR REPLACE INTO alias (connection, path, target) VALUES (?, ?, ?)")
                .bind(connection)
                .bind(&alias.path)
                .bind(&alias.target)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}
