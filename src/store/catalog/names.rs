//! Aliases of addresses, and publish dates that no document has.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Row as _;

use super::Catalog;
use crate::format::Alias;
use crate::package::PackageId;

impl Catalog {
    /// # Errors
    /// Where the database fails.
    pub async fn alias(&self, connection: &str, path: &str) -> Result<Option<String>, sqlx::Error> {
        let row = sqlx::query("SELECT target FROM alias WHERE connection = ? AND path = ?")
            .bind(connection)
            .bind(path)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// # Errors
    /// Where the database fails.
    pub async fn keep_aliases(
        &self,
        connection: &str,
        aliases: &[Alias],
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for alias in aliases {
            sqlx::query("INSERT OR REPLACE INTO alias (connection, path, target) VALUES (?, ?, ?)")
                .bind(connection)
                .bind(&alias.path)
                .bind(&alias.target)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    /// All dates that were learned of a package, by version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn publish_dates(
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

    /// # Errors
    /// Where the database fails.
    pub async fn keep_publish_dates(
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
