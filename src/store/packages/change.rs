//! Changes, each whole or not at all.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Any, Row as _, Transaction};

use super::outbox::Outbox;
use super::rows::{
    became_latest, count, drop_assets, insert_asset, insert_version, put_tag, renew, touch,
};
use super::{Error, Packages, random_name};
use crate::clock;
use crate::event::{Changes, Operation};
use crate::package::{BlobId, Dependency, Origin, PackageId, ReleaseAsset, Status};

/// A version, or more files of one, to be recorded.
#[derive(Clone, Debug)]
pub struct NewRelease {
    pub package: PackageId,
    pub version: String,
    pub origin: Origin,
    /// Unfinished ones wait to be finished; all others are published.
    pub status: Status,
    pub published: Timestamp,
    pub manifest: String,
    pub readme: Option<String>,
    pub description: String,
    /// What searches look into beside name and description.
    pub keywords: String,
    pub dependencies: Vec<Dependency>,
    pub assets: Vec<ReleaseAsset>,
    /// Tags that point to it from now on.
    pub tags: Vec<String>,
    /// The version is all that was sent: one that is there already is not added to.
    pub is_whole: bool,
}

/// What came of recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there before.
    Recorded,
    /// Byte for byte the same was there.
    Same,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub copied: Vec<String>,
    /// The target has them already.
    pub same: Vec<String>,
}

/// Which of two versions is the newer in their format.
pub(super) type Newer = dyn Fn(&str, &str) -> bool + Send + Sync;

impl Packages {
    /// Notes that there are these repositories.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn register(&self, repositories: &[String]) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
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

    /// Records a version: the moment at which it becomes visible, and durable.
    ///
    /// # Errors
    /// Where a file of it is there with other bytes, its number is gone, or the database fails.
    pub async fn record(
        &self,
        repository: &str,
        new: &NewRelease,
        newer: &Newer,
    ) -> Result<Outcome, Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
        let outcome = record(&mut transaction, &outbox, repository, new, newer).await?;
        match outcome {
            Outcome::Recorded => transaction.commit().await?,
            Outcome::Same => transaction.rollback().await?,
        }
        outbox.written.notify_waiters();
        Ok(outcome)
    }

    /// Publishes what waits: the unfinished ones among these versions, with all their files.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn finish(
        &self,
        repository: &str,
        package: &PackageId,
        versions: &[String],
        newer: &Newer,
    ) -> Result<(), Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        let mut changed = 0;
        for version in versions {
            let before = changed;
            changed += sqlx::query(
                "UPDATE package_asset SET staged = 0 WHERE repository = $1 AND package = $2 AND version = $3 AND staged = 1",
            )
            .bind(repository)
            .bind(&name)
            .bind(version.as_str())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            changed += sqlx::query(
                "UPDATE package_version SET status = 'Published', revision = $4 \
                 WHERE repository = $1 AND package = $2 AND version = $3 AND status = 'Unfinished'",
            )
            .bind(repository)
            .bind(&name)
            .bind(version.as_str())
            .bind(random_name())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if changed > before {
                let changes = Changes {
                    status_changed: true,
                    ..Changes::default()
                };
                outbox
                    .version_changed(
                        &mut transaction,
                        repository,
                        &name,
                        version,
                        Operation::Updated,
                        changes,
                    )
                    .await?;
            }
        }
        if changed > 0 {
            touch(&mut transaction, repository, &name).await?;
            count(&mut transaction, repository, &name, newer).await?;
        }
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }

    /// Gives these versions a status, and says which had another. A version that is disposed of
    /// loses its files, whose blobs are named, and gets no other status any more.
    ///
    /// # Errors
    /// Where a version is not there or was disposed of, or the database fails.
    pub async fn set_status(
        &self,
        repository: &str,
        package: &PackageId,
        versions: &[String],
        status: Status,
        newer: &Newer,
    ) -> Result<(Vec<String>, Vec<BlobId>), Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        let (mut changed, mut freed) = (Vec::new(), Vec::new());
        for version in versions {
            let before = sqlx::query(
                "SELECT status FROM package_version WHERE repository = $1 AND package = $2 AND version = $3",
            )
            .bind(repository)
            .bind(&name)
            .bind(version.as_str())
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| Error::Absent(format!("{package} {version} in `{repository}`")))?;
            let before: String = before.try_get(0)?;
            if before == status.as_str() {
                continue;
            }
            if before == Status::Disposed.as_str() {
                return Err(Error::Disposed {
                    version: version.clone(),
                });
            }
            sqlx::query(
                "UPDATE package_version SET status = $4, revision = $5 \
                 WHERE repository = $1 AND package = $2 AND version = $3",
            )
            .bind(repository)
            .bind(&name)
            .bind(version.as_str())
            .bind(status.as_str())
            .bind(random_name())
            .execute(&mut *transaction)
            .await?;
            let mut changes = Changes {
                status_changed: true,
                ..Changes::default()
            };
            if before == Status::Unfinished.as_str() {
                sqlx::query(
                    "UPDATE package_asset SET staged = 0 WHERE repository = $1 AND package = $2 AND version = $3",
                )
                .bind(repository)
                .bind(&name)
                .bind(version.as_str())
                .execute(&mut *transaction)
                .await?;
            }
            if status == Status::Disposed {
                let gone = drop_assets(&mut transaction, repository, &name, version).await?;
                changes.assets_removed = gone.len();
                freed.extend(gone);
            }
            outbox
                .version_changed(
                    &mut transaction,
                    repository,
                    &name,
                    version,
                    Operation::Updated,
                    changes,
                )
                .await?;
            changed.push(version.clone());
        }
        if !changed.is_empty() {
            touch(&mut transaction, repository, &name).await?;
            count(&mut transaction, repository, &name, newer).await?;
        }
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok((changed, freed))
    }

    /// Deletes these versions, with their tags. The package's name stays on the side that it is on.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delete(
        &self,
        repository: &str,
        package: &PackageId,
        versions: &[String],
        newer: &Newer,
    ) -> Result<Vec<BlobId>, Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        let mut freed = Vec::new();
        for version in versions {
            let gone = drop_assets(&mut transaction, repository, &name, version).await?;
            let assets_removed = gone.len();
            freed.extend(gone);
            let mut was_there = 0;
            for table in ["package_version", "package_tag", "package_dependency"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE repository = $1 AND package = $2 AND version = $3"
                );
                let done = sqlx::query(sqlx::AssertSqlSafe(sql))
                    .bind(repository)
                    .bind(&name)
                    .bind(version.as_str())
                    .execute(&mut *transaction)
                    .await?;
                was_there += done.rows_affected();
            }
            if was_there > 0 {
                let changes = Changes {
                    assets_removed,
                    status_changed: true,
                    ..Changes::default()
                };
                outbox
                    .version_changed(
                        &mut transaction,
                        repository,
                        &name,
                        version,
                        Operation::Deleted,
                        changes,
                    )
                    .await?;
            }
        }
        touch(&mut transaction, repository, &name).await?;
        count(&mut transaction, repository, &name, newer).await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(freed)
    }

    /// Deletes one file that nothing was said of yet.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn drop_staged(
        &self,
        repository: &str,
        package: &PackageId,
        file: &str,
    ) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        sqlx::query(
            "DELETE FROM package_asset WHERE repository = $1 AND package = $2 AND file = $3 AND staged = 1",
        )
        .bind(repository)
        .bind(package.to_string())
        .bind(file)
        .execute(&mut *transaction)
        .await?;
        touch(&mut transaction, repository, &package.to_string()).await?;
        Ok(transaction.commit().await?)
    }

    /// Points a tag to a version; to none, the tag goes.
    ///
    /// # Errors
    /// Where there is no such version, or the database fails.
    pub async fn tag(
        &self,
        repository: &str,
        package: &PackageId,
        tag: &str,
        version: Option<&str>,
    ) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        match version {
            Some(version) => {
                let found = sqlx::query(
                    "SELECT 1 FROM package_version WHERE repository = $1 AND package = $2 AND version = $3",
                )
                .bind(repository)
                .bind(&name)
                .bind(version)
                .fetch_optional(&mut *transaction)
                .await?;
                if found.is_none() {
                    return Err(Error::Absent(format!(
                        "{package} {version} in `{repository}`"
                    )));
                }
                put_tag(&mut transaction, repository, &name, tag, version).await?;
            }
            None => {
                sqlx::query(
                    "DELETE FROM package_tag WHERE repository = $1 AND package = $2 AND tag = $3",
                )
                .bind(repository)
                .bind(&name)
                .bind(tag)
                .execute(&mut *transaction)
                .await?;
            }
        }
        touch(&mut transaction, repository, &name).await?;
        Ok(transaction.commit().await?)
    }

    /// Puts other manifests in the place of these versions'.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn amend(
        &self,
        repository: &str,
        package: &PackageId,
        manifests: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        for (version, manifest) in manifests {
            sqlx::query(
                "UPDATE package_version SET manifest = $4, revision = $5 \
                 WHERE repository = $1 AND package = $2 AND version = $3",
            )
            .bind(repository)
            .bind(&name)
            .bind(version.as_str())
            .bind(manifest.as_str())
            .bind(random_name())
            .execute(&mut *transaction)
            .await?;
            let changes = Changes {
                metadata_updated: true,
                ..Changes::default()
            };
            outbox
                .version_changed(
                    &mut transaction,
                    repository,
                    &name,
                    version,
                    Operation::Updated,
                    changes,
                )
                .await?;
        }
        touch(&mut transaction, repository, &name).await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }

    /// Copies versions into another repository, all or none; no bytes move.
    ///
    /// # Errors
    /// Where the other repository has one of them with other bytes, or the database fails.
    pub async fn copy(
        &self,
        target: &str,
        releases: &[NewRelease],
        newer: &Newer,
    ) -> Result<Copied, Error> {
        let outbox = self.outbox.load_full();
        let (_place, mut transaction) = self.begin().await?;
        let mut copied = Copied::default();
        for release in releases {
            match record(&mut transaction, &outbox, target, release, newer).await? {
                Outcome::Recorded => copied.copied.push(release.version.clone()),
                Outcome::Same => copied.same.push(release.version.clone()),
            }
        }
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(copied)
    }
}

async fn record(
    transaction: &mut Transaction<'static, Any>,
    outbox: &Outbox,
    repository: &str,
    new: &NewRelease,
    newer: &Newer,
) -> Result<Outcome, Error> {
    let name = new.package.to_string();
    let now = clock::unix_ms_now();
    // First of all, since on PostgreSQL the row holds others off the package.
    sqlx::query(
        "INSERT INTO package (repository, package, origin, revision, changed_at, description, keywords, latest, versions) \
         VALUES ($1, $2, $3, $4, $5, '', '', '', 0) \
         ON CONFLICT (repository, package) DO UPDATE SET revision = excluded.revision, changed_at = excluded.changed_at",
    )
    .bind(repository)
    .bind(&name)
    .bind(new.origin.as_str())
    .bind(random_name())
    .bind(now)
    .execute(&mut **transaction)
    .await?;
    let before = sqlx::query(
        "SELECT status FROM package_version WHERE repository = $1 AND package = $2 AND version = $3",
    )
    .bind(repository)
    .bind(&name)
    .bind(new.version.as_str())
    .fetch_optional(&mut **transaction)
    .await?;
    let before: Option<String> = before.map(|row| row.try_get(0)).transpose()?;
    if before.as_deref() == Some(Status::Disposed.as_str()) {
        return Err(Error::Disposed {
            version: new.version.clone(),
        });
    }
    let mut fresh = Vec::with_capacity(new.assets.len());
    for asset in &new.assets {
        let there = sqlx::query(
            "SELECT blob FROM package_asset WHERE repository = $1 AND package = $2 AND file = $3",
        )
        .bind(repository)
        .bind(&name)
        .bind(&*asset.file)
        .fetch_optional(&mut **transaction)
        .await?;
        match there {
            Some(row) if row.try_get::<Vec<u8>, _>(0)? == asset.blob.as_bytes() => {}
            Some(_) => {
                return Err(Error::Exists {
                    file: asset.file.to_string(),
                });
            }
            None => fresh.push(asset),
        }
    }
    if before.is_some() && fresh.is_empty() {
        return Ok(Outcome::Same);
    }
    if before.is_some() && new.is_whole {
        return Err(Error::Taken {
            version: new.version.clone(),
        });
    }
    if before.is_none() {
        insert_version(transaction, repository, &name, new).await?;
    }
    let assets_added = fresh.len();
    for asset in fresh {
        insert_asset(transaction, repository, &name, &new.version, asset).await?;
    }
    if before.is_some() {
        renew(transaction, repository, &name, &new.version).await?;
    }
    for tag in &new.tags {
        put_tag(transaction, repository, &name, tag, &new.version).await?;
    }
    if before.is_none() {
        became_latest(transaction, repository, &name, new, newer).await?;
    }
    let is_new = before.is_none();
    let changes = Changes {
        assets_added,
        metadata_updated: is_new,
        status_changed: is_new,
        ..Changes::default()
    };
    let operation = if is_new {
        Operation::Created
    } else {
        Operation::Updated
    };
    outbox
        .version_changed(
            transaction,
            repository,
            &name,
            &new.version,
            operation,
            changes,
        )
        .await?;
    Ok(Outcome::Recorded)
}
