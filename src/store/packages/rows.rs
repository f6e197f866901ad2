//! The rows that make up a package, each written in somebody's transaction.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;

use super::change::NewRelease;
use super::door::Statements;
use super::{Error, random_name};
use crate::clock;
use crate::package::{BlobId, PackageId, ReleaseAsset, Status};
use crate::store::sql::{Column, Count, Flag, Millis, ROWS_AT_ONCE, places};

/// The result of adding a version.
pub(super) enum Added {
    /// It is there now; the newest listed version before it, where the package has a row.
    New { latest: Option<String> },
    /// It was there.
    There,
}

/// Adds the version, unless there is one of its name.
pub(super) async fn insert_version(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    new: &NewRelease,
    revision: &str,
) -> Result<Added, Error> {
    let latest: Option<Option<String>> = sqlx::query_scalar(
        "INSERT INTO package_version (repository, package, version, position, status, origin, revision, published_at, manifest, readme) \
         SELECT $1, $2, $3, COALESCE(MAX(position), 0) + 1, $4, $5, $6, $7, $8, $9 FROM package_version \
         WHERE repository = $1 AND package = $2 ON CONFLICT (repository, package, version) DO NOTHING \
         RETURNING (SELECT latest FROM package WHERE repository = $1 AND package = $2) AS latest",
    )
    .bind(repository)
    .bind(name)
    .bind(new.version.as_str())
    .bind(Column(new.status))
    .bind(Column(new.origin))
    .bind(revision)
    .bind(Millis(new.published))
    .bind(new.manifest.as_str())
    .bind(new.readme.clone())
    .fetch_optional(transaction)
    .await?;
    Ok(latest.map_or(Added::There, |latest| Added::New { latest }))
}

pub(super) async fn insert_dependencies(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    new: &NewRelease,
) -> Result<(), Error> {
    let mut position = 0i64;
    for some in new.dependencies.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO package_dependency (repository, package, version, position, kind, name, requirement) VALUES {}",
            places(some.len(), 7)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for dependency in some {
            query = query
                .bind(repository)
                .bind(name)
                .bind(new.version.as_str())
                .bind(position)
                .bind(dependency.kind.as_str())
                .bind(dependency.name.as_str())
                .bind(dependency.requirement.as_str());
            position += 1;
        }
        query.execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Writes files that are not there yet; says how many there were.
pub(super) async fn insert_assets(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    version: &str,
    assets: &[ReleaseAsset],
) -> Result<usize, Error> {
    let mut written = 0;
    for some in assets.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO package_asset (repository, package, file, version, blob, size, md5, sha1, sha512, media_type, published_at, facts, staged) \
             VALUES {} ON CONFLICT (repository, package, file) DO NOTHING",
            places(some.len(), 13)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for asset in some {
            query = query
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
                .bind(Flag(asset.staged));
        }
        let done = query.execute(&mut *transaction).await?;
        written += usize::try_from(done.rows_affected()).unwrap_or_default();
    }
    Ok(written)
}

/// Counts the new version, and notes what searches find where it is the newest listed one. `before` is
/// the newest one before it, where the package has a row; it gets one here.
pub(super) async fn became_latest(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    new: &NewRelease,
    before: Option<&str>,
) -> Result<(), Error> {
    let protocol = new.package.format().protocol();
    let before = before.unwrap_or_default();
    let is_newer = before.is_empty() || protocol.compare_choice(&new.version, before).is_gt();
    let is_latest = new.status == Status::Published && is_newer;
    let (latest, description) = if is_latest {
        (new.version.as_str(), new.description.as_str())
    } else {
        (before, "")
    };
    // The words of an older version stay where this one is not the newest.
    sqlx::query(
        "INSERT INTO package (repository, package, origin, revision, changed_at, description, keywords, latest, versions) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1) \
         ON CONFLICT (repository, package) DO UPDATE SET revision = excluded.revision, changed_at = excluded.changed_at, \
         versions = package.versions + 1, latest = excluded.latest, \
         description = CASE WHEN $9 = 1 OR package.description = '' THEN excluded.description ELSE package.description END, \
         keywords = CASE WHEN $9 = 1 OR package.keywords = '' THEN excluded.keywords ELSE package.keywords END",
    )
    .bind(repository)
    .bind(name)
    .bind(Column(new.origin))
    .bind(random_name())
    .bind(clock::unix_ms_now())
    .bind(description)
    .bind(format!("{name} {} {}", new.description, new.keywords).to_lowercase())
    .bind(latest)
    .bind(Flag(is_latest))
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
    revision: &str,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE package_version SET revision = $4 WHERE repository = $1 AND package = $2 AND version = $3",
    )
    .bind(repository)
    .bind(name)
    .bind(version)
    .bind(revision)
    .execute(transaction)
    .await?;
    Ok(())
}

/// The revision of the package, where it has a row.
pub(super) async fn revision_of(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
) -> Result<Option<String>, Error> {
    let sql = "SELECT revision FROM package WHERE repository = $1 AND package = $2";
    let revision = sqlx::query_scalar(sql).bind(repository).bind(name);
    Ok(revision.fetch_optional(transaction).await?)
}

/// Gives the package another revision, where it has a row.
pub(super) async fn touch(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
) -> Result<(), Error> {
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

/// Counts the versions anew, finds the newest listed one, and gives the package another revision.
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
        "UPDATE package SET versions = $3, latest = $4, revision = $5, changed_at = $6 \
         WHERE repository = $1 AND package = $2",
    )
    .bind(repository)
    .bind(name)
    .bind(versions)
    .bind(latest)
    .bind(random_name())
    .bind(clock::unix_ms_now())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Points tags to a version.
pub(super) async fn put_tags(
    transaction: &mut Statements,
    repository: &str,
    name: &str,
    tags: &[String],
    version: &str,
) -> Result<(), Error> {
    // One statement writes no row twice.
    let tags: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    let tags: Vec<&str> = tags.into_iter().collect();
    for some in tags.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO package_tag (repository, package, tag, version) VALUES {} \
             ON CONFLICT (repository, package, tag) DO UPDATE SET version = excluded.version",
            places(some.len(), 4)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for tag in some {
            query = query.bind(repository).bind(name).bind(*tag).bind(version);
        }
        query.execute(&mut *transaction).await?;
    }
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
        "DELETE FROM package_asset WHERE repository = $1 AND package = $2 AND version = $3 RETURNING blob",
    )
    .bind(repository)
    .bind(name)
    .bind(version)
    .fetch_all(transaction)
    .await?;
    Ok(blobs.into_iter().map(|blob| blob.0).collect())
}
