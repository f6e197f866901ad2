//! Changes, each whole or not at all.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Any, AnyConnection, Row as _, Transaction};

use super::{Error, Packages, random_name};
use crate::clock;
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
type Newer = dyn Fn(&str, &str) -> bool + Send + Sync;

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
        let (_place, mut transaction) = self.begin().await?;
        let outcome = record(&mut transaction, repository, new, newer).await?;
        match outcome {
            Outcome::Recorded => transaction.commit().await?,
            Outcome::Same => transaction.rollback().await?,
        }
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
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        let mut changed = 0;
        for version in versions {
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
        }
        if changed > 0 {
            touch(&mut transaction, repository, &name).await?;
            count(&mut transaction, repository, &name, newer).await?;
        }
        Ok(transaction.commit().await?)
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
            if status == Status::Disposed {
                freed.extend(drop_assets(&mut transaction, repository, &name, version).await?);
            }
            changed.push(version.clone());
        }
        if !changed.is_empty() {
            touch(&mut transaction, repository, &name).await?;
            count(&mut transaction, repository, &name, newer).await?;
        }
        transaction.commit().await?;
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
        let (_place, mut transaction) = self.begin().await?;
        let name = package.to_string();
        let mut freed = Vec::new();
        for version in versions {
            freed.extend(drop_assets(&mut transaction, repository, &name, version).await?);
            for table in ["package_version", "package_tag", "package_dependency"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE repository = $1 AND package = $2 AND version = $3"
                );
                sqlx::query(sqlx::AssertSqlSafe(sql))
                    .bind(repository)
                    .bind(&name)
                    .bind(version.as_str())
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        touch(&mut transaction, repository, &name).await?;
        count(&mut transaction, repository, &name, newer).await?;
        transaction.commit().await?;
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
        }
        touch(&mut transaction, repository, &name).await?;
        Ok(transaction.commit().await?)
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
        let (_place, mut transaction) = self.begin().await?;
        let mut copied = Copied::default();
        for release in releases {
            match record(&mut transaction, target, release, newer).await? {
                Outcome::Recorded => copied.copied.push(release.version.clone()),
                Outcome::Same => copied.same.push(release.version.clone()),
            }
        }
        transaction.commit().await?;
        Ok(copied)
    }
}

async fn record(
    transaction: &mut Transaction<'static, Any>,
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
    for asset in fresh {
        insert_asset(transaction, repository, &name, &new.version, asset).await?;
    }
    for tag in &new.tags {
        put_tag(transaction, repository, &name, tag, &new.version).await?;
    }
    if before.is_none() {
        became_latest(transaction, repository, &name, new, newer).await?;
    }
    Ok(Outcome::Recorded)
}

async fn insert_version(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
    new: &NewRelease,
) -> Result<(), sqlx::Error> {
    let position = sqlx::query(
        "SELECT COALESCE(MAX(position), 0) + 1 FROM package_version WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .fetch_one(&mut *transaction)
    .await?
    .try_get::<i64, _>(0)?;
    sqlx::query(
        "INSERT INTO package_version (repository, package, version, position, status, origin, revision, published_at, manifest, readme) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(repository)
    .bind(name)
    .bind(new.version.as_str())
    .bind(position)
    .bind(new.status.as_str())
    .bind(new.origin.as_str())
    .bind(random_name())
    .bind(new.published.as_millisecond())
    .bind(new.manifest.as_str())
    .bind(new.readme.clone())
    .execute(&mut *transaction)
    .await?;
    for (position, dependency) in (0i64..).zip(&new.dependencies) {
        sqlx::query(
            "INSERT INTO package_dependency (repository, package, version, position, kind, name, requirement) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(repository)
        .bind(name)
        .bind(new.version.as_str())
        .bind(position)
        .bind(dependency.kind.as_str())
        .bind(dependency.name.as_str())
        .bind(dependency.requirement.as_str())
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}

async fn insert_asset(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
    version: &str,
    asset: &ReleaseAsset,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO package_asset (repository, package, file, version, blob, size, md5, sha1, sha512, media_type, published_at, facts, staged) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(repository)
    .bind(name)
    .bind(&*asset.file)
    .bind(version)
    .bind(asset.blob.as_bytes().to_vec())
    .bind(i64::try_from(asset.size).unwrap_or(i64::MAX))
    .bind(&*asset.md5)
    .bind(&*asset.sha1)
    .bind(&*asset.sha512)
    .bind(&*asset.media_type)
    .bind(asset.published.as_millisecond())
    .bind(&*asset.facts)
    .bind(i64::from(asset.staged))
    .execute(transaction)
    .await?;
    Ok(())
}

/// Counts the new version, and notes what searches find where it is the newest listed one.
async fn became_latest(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
    new: &NewRelease,
    newer: &Newer,
) -> Result<(), sqlx::Error> {
    let before = sqlx::query("SELECT latest FROM package WHERE repository = $1 AND package = $2")
        .bind(repository)
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?
        .try_get::<String, _>(0)?;
    let is_latest =
        new.status == Status::Published && (before.is_empty() || newer(&new.version, &before));
    let (latest, description) = if is_latest {
        (new.version.as_str(), new.description.as_str())
    } else {
        (before.as_str(), "")
    };
    // The words of an older version stay where this one is not the newest.
    sqlx::query(
        "UPDATE package SET versions = versions + 1, latest = $3, \
         description = CASE WHEN $4 = 1 OR description = '' THEN $5 ELSE description END, \
         keywords = CASE WHEN $4 = 1 OR keywords = '' THEN $6 ELSE keywords END \
         WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .bind(latest)
    .bind(i64::from(is_latest))
    .bind(description)
    .bind(format!("{name} {} {}", new.description, new.keywords).to_lowercase())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Another revision for the package.
async fn touch(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE package SET revision = $3, changed_at = $4 WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .bind(random_name())
    .bind(clock::unix_ms_now())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Counts the versions anew, and finds the newest listed one.
async fn count(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
    newer: &Newer,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT version, status FROM package_version WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .fetch_all(&mut *transaction)
    .await?;
    let mut latest = String::new();
    for row in &rows {
        let (version, status): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if status == Status::Published.as_str() && (latest.is_empty() || newer(&version, &latest)) {
            latest = version;
        }
    }
    sqlx::query(
        "UPDATE package SET versions = $3, latest = $4 WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .bind(i64::try_from(rows.len()).unwrap_or(i64::MAX))
    .bind(latest)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn put_tag(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
    tag: &str,
    version: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO package_tag (repository, package, tag, version) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository, package, tag) DO UPDATE SET version = excluded.version",
    )
    .bind(repository)
    .bind(name)
    .bind(tag)
    .bind(version)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Deletes a version's files, and says which blobs they were.
async fn drop_assets(
    transaction: &mut AnyConnection,
    repository: &str,
    name: &str,
    version: &str,
) -> Result<Vec<BlobId>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT blob FROM package_asset WHERE repository = $1 AND package = $2 AND version = $3",
    )
    .bind(repository)
    .bind(name)
    .bind(version)
    .fetch_all(&mut *transaction)
    .await?;
    sqlx::query(
        "DELETE FROM package_asset WHERE repository = $1 AND package = $2 AND version = $3",
    )
    .bind(repository)
    .bind(name)
    .bind(version)
    .execute(transaction)
    .await?;
    rows.iter()
        .map(|row| {
            let blob: Vec<u8> = row.try_get(0)?;
            BlobId::from_slice(&blob).ok_or_else(|| sqlx::Error::Protocol("no blob".into()))
        })
        .collect()
}
