//! What is known of the domain and its repositories as such.

use std::collections::HashMap;

use serde_json::json;
use sqlx::{AnyConnection, Row as _};

use super::outbox::Outbox;
use super::{Error, Packages, access};

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
    pub async fn domain_facts(&self) -> Result<DomainFacts, Error> {
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
    pub async fn created_at(&self) -> Result<HashMap<String, i64>, Error> {
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
    pub async fn resource_tags(&self, resource: &str) -> Result<Vec<(String, String)>, Error> {
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
        set_tags(&mut transaction, resource, set).await?;
        Ok(transaction.commit().await?)
    }
}

/// Sets tags of a resource.
pub(super) async fn set_tags(
    transaction: &mut AnyConnection,
    resource: &str,
    tags: &[(String, String)],
) -> Result<(), Error> {
    for (tag, value) in tags {
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
    Ok(())
}

/// Takes the policy and the tags of a resource away, in the transaction in which the resource goes:
/// another of its name must not inherit them.
pub(super) async fn drop_policy_and_tags(
    transaction: &mut AnyConnection,
    outbox: &Outbox,
    resource: &str,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM resource_tag WHERE resource = $1")
        .bind(resource)
        .execute(&mut *transaction)
        .await?;
    let policy = sqlx::query("DELETE FROM policy WHERE resource = $1 RETURNING revision")
        .bind(resource)
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(policy) = policy else { return Ok(()) };
    let revision: String = policy.try_get(0)?;
    access::changed(transaction).await?;
    let detail = json!({ "operationType": "Deleted", "policyRevision": revision });
    outbox
        .happened(transaction, access::POLICY_CHANGE, resource, detail)
        .await
}
