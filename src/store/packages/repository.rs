//! Repositories: those that were made by the API, and when each was first seen.

use sqlx::any::AnyRow;
use std::collections::HashMap;
use std::sync::Arc;

use super::Error;
use super::database::Database;
use super::door::Statements;
use super::group::write_group;
use super::tag::{drop_policy_and_tags, set_tags};
use crate::clock;
use crate::package::BlobId;
use crate::rule::Group;
use crate::store::sql::{Column, from_row};

/// A repository that was made by the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    pub name: String,
    pub description: String,
    /// Names of repositories, in order.
    pub upstreams: Vec<String>,
    /// Names of connections, in order.
    pub connections: Vec<String>,
}

struct ManagedRow {
    name: String,
    description: String,
    /// JSON, as the connections.
    upstreams: String,
    connections: String,
}

from_row!(
    AnyRow,
    ManagedRow {
        name,
        description,
        upstreams,
        connections
    }
);

impl From<ManagedRow> for Managed {
    fn from(row: ManagedRow) -> Self {
        Self {
            name: row.name,
            description: row.description,
            upstreams: names(&row.upstreams),
            connections: names(&row.connections),
        }
    }
}

fn names(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}

fn text(names: &[String]) -> String {
    serde_json::Value::from(names).to_string()
}

/// Repositories: those that were made by the API, and when each was first seen.
#[derive(Clone)]
pub struct RepositoryRows {
    pub(super) database: Arc<Database>,
}

impl RepositoryRows {
    /// Which state of the repositories is in force: another number after each change.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn number(&self) -> Result<i64, Error> {
        let sql = "SELECT number FROM access_state WHERE id = 2";
        Ok(sqlx::query_scalar(sql)
            .fetch_one(&self.database.door)
            .await?)
    }

    /// Notes that there are these repositories.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn register(&self, repositories: &[String]) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        for name in repositories {
            sqlx::query(
                "INSERT INTO repository (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(name.as_str())
            .bind(clock::unix_ms_now())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// When each repository was first seen, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn created_at(&self) -> Result<HashMap<String, i64>, Error> {
        let sql = "SELECT name, created_at FROM repository";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&self.database.door).await?;
        Ok(rows.into_iter().collect())
    }

    /// All repositories that were made by the API.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn managed(&self) -> Result<Vec<Managed>, Error> {
        let rows: Vec<ManagedRow> = sqlx::query_as(
            "SELECT name, description, upstreams, connections FROM managed_repository ORDER BY name",
        )
        .fetch_all(&self.database.door)
        .await?;
        Ok(rows.into_iter().map(Managed::from).collect())
    }

    /// Puts a repository in the place of the one of its name, or beside the others, and sets these
    /// tags of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn put(&self, one: &Managed, tags: &[(String, String)]) -> Result<(), Error> {
        let outbox = self.database.outbox.load_full();
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        sqlx::query(
            "INSERT INTO managed_repository (name, description, upstreams, connections) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO UPDATE SET description = excluded.description, \
             upstreams = excluded.upstreams, connections = excluded.connections",
        )
        .bind(one.name.as_str())
        .bind(one.description.as_str())
        .bind(text(&one.upstreams))
        .bind(text(&one.connections))
        .execute(&mut *transaction)
        .await?;
        set_tags(&mut transaction, &outbox.repository_arn(&one.name), tags).await?;
        outbox
            .repository_changed(&mut transaction, &one.name, "Updated")
            .await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }

    /// Takes a repository away with its packages, policy and tags, and puts these groups in the
    /// place of those that name it. Gives the blobs that nobody may need any more.
    ///
    /// Publishes that wait for an upstream stay: they were accepted. So do the numbers of events, so
    /// that those of another repository of the name go on from there.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete(&self, name: &str, groups: &[Group]) -> Result<Vec<BlobId>, Error> {
        let outbox = self.database.outbox.load_full();
        let (_place, mut transaction) = self.database.begin().await?;
        changed(&mut transaction).await?;
        let sql = "SELECT DISTINCT blob FROM package_asset WHERE repository = $1";
        let blobs: Vec<Column<BlobId>> = sqlx::query_scalar(sql)
            .bind(name)
            .fetch_all(&mut *transaction)
            .await?;
        for table in [
            "package",
            "package_version",
            "package_asset",
            "package_tag",
            "package_dependency",
            "package_restriction",
        ] {
            let sql = format!("DELETE FROM {table} WHERE repository = $1");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(name)
                .execute(&mut *transaction)
                .await?;
        }
        for table in ["repository", "managed_repository"] {
            let sql = format!("DELETE FROM {table} WHERE name = $1");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(name)
                .execute(&mut *transaction)
                .await?;
        }
        drop_policy_and_tags(&mut transaction, &outbox, &outbox.repository_arn(name)).await?;
        for group in groups {
            write_group(&mut transaction, &outbox, group, "Updated").await?;
        }
        outbox
            .repository_changed(&mut transaction, name, "Deleted")
            .await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(blobs.into_iter().map(|blob| blob.0).collect())
    }
}

/// Has other processes notice.
pub(super) async fn changed(transaction: &mut Statements) -> Result<(), Error> {
    sqlx::query("UPDATE access_state SET number = number + 1 WHERE id = 2")
        .execute(transaction)
        .await?;
    Ok(())
}
