//! Repositories that were made by the API, and what was said of packages' origins.

use sqlx::{AnyConnection, Row as _};

use super::column::Column;
use super::domain::{drop_policy_and_tags, set_tags};
use super::group::write_group;
use super::{Error, Packages};
use crate::package::{BlobId, PackageId};
use crate::rule::{Group, Restrictions, Way};

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

fn names(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}

fn text(names: &[String]) -> String {
    serde_json::Value::from(names).to_string()
}

impl Packages {
    /// Which state of the repositories is in force: another number after each change.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn repositories_number(&self) -> Result<i64, Error> {
        let sql = "SELECT number FROM access_state WHERE id = 2";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// All repositories that were made by the API.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn managed(&self) -> Result<Vec<Managed>, Error> {
        let rows = sqlx::query(
            "SELECT name, description, upstreams, connections FROM managed_repository ORDER BY name",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Managed {
                    name: row.try_get(0)?,
                    description: row.try_get(1)?,
                    upstreams: names(&row.try_get::<String, _>(2)?),
                    connections: names(&row.try_get::<String, _>(3)?),
                })
            })
            .collect()
    }

    /// Puts a repository in the place of the one of its name, or beside the others, and sets these
    /// tags of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn put_managed(&self, one: &Managed, tags: &[(String, String)]) -> Result<(), Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
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
    pub async fn drop_managed(&self, name: &str, groups: &[Group]) -> Result<Vec<BlobId>, Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
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

    /// What was said of a package's origins.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn restrictions(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Restrictions>, Error> {
        let said: Option<(Column<Way>, Column<Way>)> = sqlx::query_as(
            "SELECT publish, upstream FROM package_restriction WHERE repository = $1 AND package = $2",
        )
        .bind(repository)
        .bind(package.to_string())
        .fetch_optional(&self.pool)
        .await?;
        Ok(said.map(|(publish, upstream)| Restrictions {
            publish: publish.0,
            upstream: upstream.0,
        }))
    }

    /// Whether anything was said of any package's origins.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn has_restrictions(&self) -> Result<bool, Error> {
        let found = sqlx::query("SELECT 1 FROM package_restriction LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.is_some())
    }
}

/// Has other processes notice.
pub(super) async fn changed(transaction: &mut AnyConnection) -> Result<(), Error> {
    sqlx::query("UPDATE access_state SET number = number + 1 WHERE id = 2")
        .execute(transaction)
        .await?;
    Ok(())
}
