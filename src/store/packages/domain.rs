//! What is known of the domain and its repositories as such.

use std::collections::HashMap;

use sqlx::Row as _;

use super::{Error, Packages};

/// The domain in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainFacts {
    /// Of its oldest repository; milliseconds since 1970.
    pub created_at: i64,
    /// Of what repositories have of their own, each blob once.
    pub asset_bytes: i64,
}

impl Packages {
    /// The domain in numbers.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn domain_facts(&self) -> Result<DomainFacts, sqlx::Error> {
        let created = sqlx::query("SELECT COALESCE(MIN(created_at), 0) FROM repository")
            .fetch_one(&self.pool)
            .await?;
        let size = sqlx::query(
            "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM \
             (SELECT MIN(size) AS size FROM package_asset GROUP BY blob) AS blobs",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(DomainFacts {
            created_at: created.try_get(0)?,
            asset_bytes: size.try_get(0)?,
        })
    }

    /// When each repository was first seen, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn created_at(&self) -> Result<HashMap<String, i64>, sqlx::Error> {
        let rows = sqlx::query("SELECT name, created_at FROM repository")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }

    /// The tags of a resource, by ARN.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn resource_tags(
        &self,
        resource: &str,
    ) -> Result<Vec<(String, String)>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT tag, value FROM resource_tag WHERE resource = $1 ORDER BY tag")
                .bind(resource)
                .fetch_all(&self.pool)
                .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }

    /// Sets tags of a resource and takes others away.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn set_resource_tags(
        &self,
        resource: &str,
        set: &[(String, String)],
        taken: &[String],
    ) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        for tag in taken {
            sqlx::query("DELETE FROM resource_tag WHERE resource = $1 AND tag = $2")
                .bind(resource)
                .bind(tag.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        for (tag, value) in set {
            sqlx::query(
                "INSERT INTO resource_tag (resource, tag, value) VALUES ($1, $2, $3) \
                 ON CONFLICT (resource, tag) DO UPDATE SET value = excluded.value",
            )
            .bind(resource)
            .bind(tag.as_str())
            .bind(value.as_str())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }
}
