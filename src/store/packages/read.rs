//! What is there.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Error, Packages, rows};
use crate::package::{
    BlobId, Dependency, Format, Listing, Origin, PackageId, Release, ReleaseAsset, Status, Summary,
};

pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

const ASSET_COLUMNS: &str =
    "file, version, blob, size, md5, sha1, sha512, media_type, published_at, facts, staged";

fn asset(row: &AnyRow) -> Result<(String, ReleaseAsset), Error> {
    let text = |index: usize| row.try_get::<String, _>(index).map(String::into_boxed_str);
    Ok((
        row.try_get(1)?,
        ReleaseAsset {
            file: text(0)?,
            blob: rows::blob(row, 2)?,
            size: u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or(0),
            md5: text(4)?,
            sha1: text(5)?,
            sha512: text(6)?,
            media_type: text(7)?,
            published: time(row.try_get(8)?),
            facts: text(9)?,
            staged: row.try_get::<i64, _>(10)? != 0,
        },
    ))
}

fn summary(row: &AnyRow) -> Result<Summary, Error> {
    Ok(Summary {
        package: row.try_get(0)?,
        origin: Origin::parse(&row.try_get::<String, _>(1)?),
        description: row.try_get(2)?,
        latest: row.try_get(3)?,
        versions: u64::try_from(row.try_get::<i64, _>(4)?).unwrap_or(0),
    })
}

/// Whether a listing has its versions' manifests, which are most of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manifests {
    /// Empty.
    Left,
    Read,
}

impl Packages {
    /// All that the repository itself has of the package; `None` where it never had any.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn listing(
        &self,
        repository: &str,
        package: &PackageId,
        manifests: Manifests,
    ) -> Result<Option<Listing>, Error> {
        let name = package.to_string();
        // One view of all the tables, though somebody publishes meanwhile.
        let mut transaction = self
            .pool
            .begin_with(if self.is_shared {
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            } else {
                "BEGIN"
            })
            .await?;
        let head = sqlx::query(
            "SELECT origin, revision, changed_at FROM package WHERE repository = $1 AND package = $2",
        )
        .bind(repository)
        .bind(&name)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(head) = head else { return Ok(None) };
        let manifest = match manifests {
            Manifests::Left => "''",
            Manifests::Read => "manifest",
        };
        let sql = format!(
            "SELECT version, status, origin, published_at, {manifest}, revision FROM package_version \
             WHERE repository = $1 AND package = $2 ORDER BY position"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(repository)
            .bind(&name)
            .fetch_all(&mut *transaction)
            .await?;
        let mut versions = Vec::with_capacity(rows.len());
        let mut places = HashMap::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            let version: String = row.try_get(0)?;
            let status: String = row.try_get(1)?;
            versions.push(Release {
                version: version.as_str().into(),
                // A word of a later version of Larder hides the version rather than showing it.
                status: status.parse().unwrap_or(Status::Archived),
                origin: Origin::parse(&row.try_get::<String, _>(2)?),
                published: time(row.try_get(3)?),
                manifest: row.try_get::<String, _>(4)?.into(),
                revision: row.try_get::<String, _>(5)?.into(),
                assets: Vec::new(),
            });
            places.insert(version, place);
        }
        let sql = format!(
            "SELECT {ASSET_COLUMNS} FROM package_asset WHERE repository = $1 AND package = $2 ORDER BY file"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(repository)
            .bind(&name)
            .fetch_all(&mut *transaction)
            .await?;
        for row in &rows {
            let (version, asset) = asset(row)?;
            let release = places
                .get(&version)
                .and_then(|place| versions.get_mut(*place));
            if let Some(release) = release {
                release.assets.push(asset);
            }
        }
        let rows = sqlx::query(
            "SELECT tag, version FROM package_tag WHERE repository = $1 AND package = $2",
        )
        .bind(repository)
        .bind(&name)
        .fetch_all(&mut *transaction)
        .await?;
        let tags = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<BTreeMap<String, String>, Error>>()?;
        transaction.commit().await?;
        Ok(Some(Listing {
            package: package.clone(),
            origin: Origin::parse(&head.try_get::<String, _>(0)?),
            revision: head.try_get(1)?,
            changed: time(head.try_get(2)?),
            versions,
            tags,
        }))
    }

    /// On which side the package is; `None` where the repository never had any of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn origin(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Origin>, Error> {
        let row = sqlx::query("SELECT origin FROM package WHERE repository = $1 AND package = $2")
            .bind(repository)
            .bind(package.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(Origin::parse(&row.try_get::<String, _>(0)?)))
            .transpose()
    }

    /// What the newest version says that the package is; empty where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn description(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<String, Error> {
        let row =
            sqlx::query("SELECT description FROM package WHERE repository = $1 AND package = $2")
                .bind(repository)
                .bind(package.to_string())
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map_or_else(|| Ok(String::new()), |row| row.try_get(0))?)
    }

    /// Packages of the repository in the order of their names, `limit` of them behind `after`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn list(
        &self,
        repository: &str,
        format: Option<Format>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Summary>, Error> {
        let (from, to) = format.map_or_else(
            || (String::new(), "~".to_owned()),
            |format| (format!("{format}:"), format!("{format};")),
        );
        let rows = sqlx::query(
            "SELECT package, origin, description, latest, versions FROM package \
             WHERE repository = $1 AND package > $2 AND package >= $3 AND package < $4 \
             ORDER BY package LIMIT $5",
        )
        .bind(repository)
        .bind(after)
        .bind(from)
        .bind(to)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(summary).collect()
    }

    /// Packages with a listed version in which the words are found in their order, `limit` of them after the
    /// first `skip`, and how many there are.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn search(
        &self,
        repositories: &[&str],
        format: Format,
        words: &str,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<Summary>, u64), Error> {
        let like = words
            .to_lowercase()
            .split_whitespace()
            .take(8)
            .fold(String::new(), |like, word| {
                like + "%" + &word.replace(['%', '_', '\\'], "")
            });
        let filter = "WHERE repository = $1 AND package >= $2 AND package < $3 AND latest <> '' AND keywords LIKE $4";
        let (from, to) = (format!("{format}:"), format!("{format};"));
        let like = format!("{like}%");
        // One repository's are counted and cut by the database.
        let is_one = repositories.len() == 1;
        let (mut found, mut total) = (BTreeMap::new(), 0);
        for repository in repositories {
            if is_one {
                let sql = format!("SELECT COUNT(*) FROM package {filter}");
                let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                    .bind(*repository)
                    .bind(&from)
                    .bind(&to)
                    .bind(&like)
                    .fetch_one(&self.pool)
                    .await?;
                total = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
            }
            let (limit, skip) = if is_one {
                (limit, skip)
            } else {
                (usize::MAX, 0)
            };
            let sql = format!(
                "SELECT package, origin, description, latest, versions FROM package {filter} \
                 ORDER BY package LIMIT $5 OFFSET $6"
            );
            let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(*repository)
                .bind(&from)
                .bind(&to)
                .bind(&like)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .bind(i64::try_from(skip).unwrap_or(i64::MAX))
                .fetch(&self.pool);
            while let Some(row) = rows.try_next().await? {
                let one = summary(&row)?;
                // The nearest repository's word stands.
                found.entry(one.package.clone()).or_insert(one);
            }
        }
        if is_one {
            return Ok((found.into_values().collect(), total));
        }
        let total = found.len() as u64;
        Ok((found.into_values().skip(skip).take(limit).collect(), total))
    }

    /// How many packages each repository has.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn counts(&self) -> Result<HashMap<String, u64>, Error> {
        let rows = sqlx::query("SELECT repository, COUNT(*) FROM package GROUP BY repository")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let count = row.try_get::<i64, _>(1)?;
                Ok((row.try_get(0)?, u64::try_from(count).unwrap_or(0)))
            })
            .collect()
    }

    /// What a version needs, in the order in which it says so.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn dependencies(
        &self,
        repository: &str,
        package: &PackageId,
        version: &str,
    ) -> Result<Vec<Dependency>, Error> {
        let rows = sqlx::query(
            "SELECT kind, name, requirement FROM package_dependency \
             WHERE repository = $1 AND package = $2 AND version = $3 ORDER BY position",
        )
        .bind(repository)
        .bind(package.to_string())
        .bind(version)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Dependency {
                    kind: row.try_get(0)?,
                    name: row.try_get(1)?,
                    requirement: row.try_get(2)?,
                })
            })
            .collect()
    }

    /// What documents say of a version; `None` where there is no such version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn manifest(
        &self,
        repository: &str,
        package: &PackageId,
        version: &str,
    ) -> Result<Option<String>, Error> {
        self.of_version("manifest", repository, package, version)
            .await
    }

    /// A version's readme; `None` where it has none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn readme(
        &self,
        repository: &str,
        package: &PackageId,
        version: &str,
    ) -> Result<Option<String>, Error> {
        self.of_version("readme", repository, package, version)
            .await
    }

    async fn of_version(
        &self,
        column: &'static str,
        repository: &str,
        package: &PackageId,
        version: &str,
    ) -> Result<Option<String>, Error> {
        let sql = format!(
            "SELECT {column} FROM package_version WHERE repository = $1 AND package = $2 AND version = $3"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(repository)
            .bind(package.to_string())
            .bind(version)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map_or(Ok(None), |row| row.try_get(0))?)
    }

    /// The published assets whose bytes a blob is: `npm:left-pad/left-pad-1.3.0.tgz`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn assets_of(&self, blob: BlobId) -> Result<Vec<String>, Error> {
        let rows = sqlx::query("SELECT DISTINCT package, file FROM package_asset WHERE blob = $1")
            .bind(blob.as_bytes().to_vec())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let (package, file): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                Ok(format!("{package}/{file}"))
            })
            .collect()
    }

    /// Every blob that a package version or a waiting publish needs, with its size.
    ///
    /// # Errors
    /// Where the database fails.
    pub(in crate::store) async fn needed(
        &self,
        mut each: impl FnMut(BlobId, u64),
    ) -> Result<(), Error> {
        let mut rows =
            sqlx::query("SELECT blob, size FROM package_asset UNION SELECT blob, size FROM spool")
                .fetch(&self.pool);
        while let Some(row) = rows.try_next().await? {
            if let Some(blob) = BlobId::from_slice(&row.try_get::<Vec<u8>, _>(0)?) {
                each(blob, u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0));
            }
        }
        Ok(())
    }
}
