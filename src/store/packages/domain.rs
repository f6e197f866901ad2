//! What is known of the domain and its repositories as such.

use std::collections::HashMap;

use serde_json::json;
use sqlx::AnyConnection;

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
        let created_at = "SELECT COALESCE(MIN(created_at), 0) FROM repository";
        let asset_bytes = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM \
             (SELECT MIN(size) AS size FROM package_asset GROUP BY blob) AS blobs";
        Ok(DomainFacts {
            created_at: sqlx::query_scalar(created_at).fetch_one(&self.pool).await?,
            asset_bytes: sqlx::query_scalar(asset_bytes)
                .fetch_one(&self.pool)
                .await?,
        })
    }

    /// When each repository was first seen, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn created_at(&self) -> Result<HashMap<String, i64>, Error> {
        let sql = "SELECT name, created_at FROM repository";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().collect())
    }

    /// The tags of a resource, by ARN.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn resource_tags(&self, resource: &str) -> Result<Vec<(String, String)>, Error> {
        let sql = "SELECT tag, value FROM resource_tag WHERE resource = $1 ORDER BY tag";
        let tags = sqlx::query_as(sql)
            .bind(resource)
            .fetch_all(&self.pool)
            .await?;
        Ok(tags)
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
    let sql = "DELETE FROM policy WHERE resource = $1 RETURNING revision";
    let policy: Option<String> = sqlx::query_scalar(sql)
        .bind(resource)
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(revision) = policy else {
        return Ok(());
    };
    access::changed(transaction).await?;
    let detail = json!({ "operationType": "Deleted", "policyRevision": revision });
    outbox
        .happened(transaction, access::POLICY_CHANGE, resource, detail)
        .await
}
