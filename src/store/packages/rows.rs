//! The rows that make up a package, each written in somebody's transaction.

use super::change::NewRelease;
use super::door::Statements;
use super::{Error, random_name};
use crate::clock;
use crate::package::{BlobId, PackageId, ReleaseAsset, Status};
use crate::store::sql::{Column, Count, Flag, Millis};

pub(super) async fn insert_version(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    new: &NewRelease,
) -> Result<(), Error> {
    let position: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(position), 0) + 1 FROM package_version WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO package_version (repository, package, version, position, status, origin, revision, published_at, manifest, readme) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(repository)
    .bind(name)
    .bind(new.version.as_str())
    .bind(position)
    .bind(Column(new.status))
    .bind(Column(new.origin))
    .bind(random_name())
    .bind(Millis(new.published))
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

pub(super) async fn insert_asset(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    version: &str,
    asset: &ReleaseAsset,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO package_asset (repository, package, file, version, blob, size, md5, sha1, sha512, media_type, published_at, facts, staged) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(repository)
    .bind(name)
    .bind(&*asset.file)
    .bind(version)
    .bind(Column(asset.blob))
    .bind(Count(asset.size))
    .bind(&*asset.md5)
    .bind(&*asset.sha1)
    .bind(&*asset.sha512)
    .bind(&*asset.media_type)
    .bind(Millis(asset.published))
    .bind(&*asset.facts)
    .bind(Flag(asset.staged))
    .execute(transaction)
    .await?;
    Ok(())
}

/// Counts the new version, and notes what searches find where it is the newest listed one.
pub(super) async fn became_latest(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    new: &NewRelease,
) -> Result<(), Error> {
    let protocol = new.package.format().protocol();
    let sql = "SELECT latest FROM package WHERE repository = $1 AND package = $2";
    let before: String = sqlx::query_scalar(sql)
        .bind(repository)
        .bind(name)
        .fetch_one(&mut *transaction)
        .await?;
    let is_newer = before.is_empty() || protocol.compare_choice(&new.version, &before).is_gt();
    let is_latest = new.status == Status::Published && is_newer;
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
    .bind(Flag(is_latest))
    .bind(description)
    .bind(format!("{name} {} {}", new.description, new.keywords).to_lowercase())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Another revision for the version.
pub(super) async fn renew(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    version: &str,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE package_version SET revision = $4 WHERE repository = $1 AND package = $2 AND version = $3",
    )
    .bind(repository)
    .bind(name)
    .bind(version)
    .bind(random_name())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Gives the package another revision, where there is one, and it is in the revision that is named.
/// Says whether that was so.
pub(super) async fn touch(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    revision: Option<&str>,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE package SET revision = $3, changed_at = $4 \
         WHERE repository = $1 AND package = $2 AND ($5 = '' OR revision = $5)",
    )
    .bind(repository)
    .bind(name)
    .bind(random_name())
    .bind(clock::unix_ms_now())
    .bind(revision.unwrap_or_default())
    .execute(transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Counts the versions anew, and finds the newest listed one.
pub(super) async fn count(
    transaction: &mut Statements,
    repository: &str,
    package: &PackageId,
) -> Result<(), Error> {
    let (name, protocol) = (package.to_string(), package.format().protocol());
    let rows: Vec<(String, Column<Status>)> = sqlx::query_as(
        "SELECT version, status FROM package_version WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(&name)
    .fetch_all(&mut *transaction)
    .await?;
    let mut latest = String::new();
    let versions = Count(rows.len() as u64);
    for (version, status) in rows {
        let is_newer = latest.is_empty() || protocol.compare_choice(&version, &latest).is_gt();
        if status.0 == Status::Published && is_newer {
            latest = version;
        }
    }
    sqlx::query(
        "UPDATE package SET versions = $3, latest = $4 WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .bind(versions)
    .bind(latest)
    .execute(transaction)
    .await?;
    Ok(())
}

pub(super) async fn put_tag(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    tag: &str,
    version: &str,
) -> Result<(), Error> {
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
pub(super) async fn drop_assets(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    version: &str,
) -> Result<Vec<BlobId>, Error> {
    let blobs: Vec<Column<BlobId>> = sqlx::query_scalar(
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
    Ok(blobs.into_iter().map(|blob| blob.0).collect())
}
