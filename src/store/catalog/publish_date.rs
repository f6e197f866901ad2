//! Publish dates that no document has, and that were learned from elsewhere.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::SqlitePool;

use crate::package::PackageId;
use crate::store::sql::{Error, Seconds};

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
    ) -> Result<HashMap<String, Timestamp>, Error> {
        let dates: Vec<(String, Seconds)> = sqlx::query_as(
            "SELECT version, published FROM publish_date WHERE connection = ? AND package = ?",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        let dates = dates.into_iter();
        Ok(dates
            .map(|(version, published)| (version, published.0))
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
    ) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        for (version, published) in dates {
            sqlx::query("INSERT OR REPLACE INTO publish_date (connection, package, version, published) VALUES (?, ?, ?, ?)")
                .bind(connection)
                .bind(package.to_string())
                .bind(version)
                .bind(Seconds(*published))
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}
