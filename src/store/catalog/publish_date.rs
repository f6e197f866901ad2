//! Publish dates that no document has, and that were learned from elsewhere.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::{Row as _, SqlitePool};

use crate::package::PackageId;

/// The catalog's publish dates.
#[derive(Clone)]
pub struct PublishDates {
    pub(super) pool: SqlitePool,
}

impl PublishDates {
    /// All dates that were learned of a package, by version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of_package(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<HashMap<String, Timestamp>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT version, published FROM publish_date WHERE connection = ? AND package = ?",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((row.get(0), Timestamp::from_second(row.get(1)).ok()?)))
            .collect())
    }

    /// Keeps what was learned of the package's versions.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep(
        &self,
        connection: &str,
        package: &PackageId,
        dates: &[(String, Timestamp)],
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for (version, published) in dates {
            sqlx::query("INSERT OR REPLACE INTO publish_date (connection, package, version, published) VALUES (?, ?, ?, ?)")
                .bind(connection)
                .bind(package.to_string())
                .bind(version)
                .bind(published.as_second())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }
}
