//! The tags of resources.

use std::sync::Arc;

use serde_json::json;

use super::database::Database;
use super::door::Statements;
use super::outbox::Outbox;
use super::{Error, access};

/// The tags of resources.
#[derive(Clone)]
pub struct ResourceTags {
    pub(super) database: Arc<Database>,
}

impl ResourceTags {
    /// The tags of a resource, by ARN.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of(&self, resource: &str) -> Result<Vec<(String, String)>, Error> {
        let sql = "SELECT tag, value FROM resource_tag WHERE resource = $1 ORDER BY tag";
        let tags = sqlx::query_as(sql)
            .bind(resource)
            .fetch_all(&self.database.door)
            .await?;
        Ok(tags)
    }

    /// Sets tags of a resource and takes others away.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn change(
        &self,
        resource: &str,
        set: &[(String, String)],
        taken: &[String],
    ) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
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
    transaction: &mut Statements,
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
    transaction: &mut Statements,
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
