//! Package groups.

use sqlx::any::AnyRow;
use std::sync::Arc;

use serde_json::json;

use super::Error;
use super::database::Database;
use super::door::Statements;
use super::outbox::Outbox;
use super::repository::changed;
use super::tag::{drop_policy_and_tags, set_tags};
use crate::rule::{Group, Groups};
use crate::store::sql::from_row;

fn unread(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

struct GroupRow {
    pattern: String,
    contact: String,
    description: String,
    created_at: i64,
    /// JSON.
    settings: String,
}

from_row!(
    AnyRow,
    GroupRow {
        pattern,
        contact,
        description,
        created_at,
        settings
    }
);

impl TryFrom<GroupRow> for Group {
    type Error = Error;

    fn try_from(row: GroupRow) -> Result<Self, Error> {
        Ok(Self {
            pattern: row.pattern.parse().map_err(unread)?,
            contact: row.contact,
            description: row.description,
            created_at: row.created_at,
            settings: serde_json::from_str(&row.settings).map_err(unread)?,
        })
    }
}

/// Package groups that something was said of.
#[derive(Clone)]
pub struct PackageGroups {
    pub(super) database: Arc<Database>,
}

impl PackageGroups {
    /// All groups that something was said of.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn all(&self) -> Result<Groups, Error> {
        let rows: Vec<GroupRow> = sqlx::query_as(
            "SELECT pattern, contact, description, created_at, settings FROM package_group",
        )
        .fetch_all(&self.database.door)
        .await?;
        let groups: Result<Vec<Group>, Error> = rows.into_iter().map(Group::try_from).collect();
        Ok(Groups::new(groups?))
    }

    /// Puts a group in the place of the one of its pattern, or beside the others, and sets these tags
    /// of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn put(
        &self,
        group: &Group,
        tags: &[(String, String)],
        operation: &str,
    ) -> Result<(), Error> {
        let outbox = self.database.outbox.load_full();
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        set_tags(
            &mut transaction,
            &outbox.group_arn(group.pattern.as_str()),
            tags,
        )
        .await?;
        write_group(&mut transaction, &outbox, group, operation).await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }

    /// Takes a group away, with its tags.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete(&self, pattern: &str) -> Result<(), Error> {
        let outbox = self.database.outbox.load_full();
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        sqlx::query("DELETE FROM package_group WHERE pattern = $1")
            .bind(pattern)
            .execute(&mut *transaction)
            .await?;
        drop_policy_and_tags(&mut transaction, &outbox, &outbox.group_arn(pattern)).await?;
        outbox
            .group_changed(&mut transaction, pattern, "Deleted")
            .await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }
}

/// Writes a group's row, and the event that tells of it.
pub(super) async fn write_group(
    transaction: &mut Statements,
    outbox: &Outbox,
    group: &Group,
    operation: &str,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO package_group (pattern, contact, description, created_at, settings) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (pattern) DO UPDATE SET contact = excluded.contact, \
         description = excluded.description, settings = excluded.settings",
    )
    .bind(group.pattern.as_str())
    .bind(group.contact.as_str())
    .bind(group.description.as_str())
    .bind(group.created_at)
    .bind(json!(group.settings).to_string())
    .execute(&mut *transaction)
    .await?;
    outbox
        .group_changed(transaction, group.pattern.as_str(), operation)
        .await
}
