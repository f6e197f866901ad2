//! The repositories' own packages, versions and files, for reading.

use sqlx::any::AnyRow;
use std::sync::Arc;

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt as _;

use super::Error;
use super::database::Database;
use crate::package::{
    BlobId, Dependency, Format, Listing, Origin, PackageId, Release, ReleaseAsset, Status, Summary,
};
use crate::rule::{Restrictions, Way};
use crate::store::sql::{Column, Count, Flag, Millis, from_row};

/// All that a repository has of a package, by one statement: as it is at one instant, and with one way
/// to the database. Columns that a part has not are empty.
fn whole(manifests: Manifests) -> String {
    let manifest = match manifests {
        Manifests::Left => "''",
        Manifests::Read => "manifest",
    };
    let of = "WHERE repository = $1 AND package = $2";
    let no_file = "'' AS file, CAST(NULL AS BYTEA) AS blob, '' AS md5, '' AS sha1, '' AS sha512, '' AS media_type, '' AS facts, \
         CAST(0 AS BIGINT) AS staged";
    format!(
        "SELECT 'package' AS part, CAST(0 AS BIGINT) AS place, '' AS version, '' AS status, origin, revision, '' AS manifest, \
         changed_at AS moment, {no_file} FROM package {of} \
         UNION ALL SELECT 'version', position, version, status, origin, revision, {manifest}, published_at, {no_file} FROM package_version {of} \
         UNION ALL SELECT 'asset', size, version, '', '', '', '', published_at, file, blob, md5, sha1, sha512, media_type, facts, staged FROM package_asset {of} \
         UNION ALL SELECT 'tag', 0, version, tag, '', '', '', 0, {no_file} FROM package_tag {of} \
         UNION ALL SELECT 'restriction', 0, '', publish, upstream, '', '', 0, {no_file} FROM package_restriction {of}"
    )
}

struct PartRow {
    part: String,
    /// A version's place among the others; a file's size.
    place: i64,
    version: String,
    /// A version's; a tag's name; who may publish.
    status: String,
    /// A package's or a version's; what may come from upstream.
    origin: String,
    revision: String,
    manifest: String,
    moment: Millis,
    file: String,
    blob: Option<Column<BlobId>>,
    md5: String,
    sha1: String,
    sha512: String,
    media_type: String,
    facts: String,
    staged: Flag,
}

from_row!(
    AnyRow,
    PartRow {
        part,
        place,
        version,
        status,
        origin,
        revision,
        manifest,
        moment,
        file,
        blob,
        md5,
        sha1,
        sha512,
        media_type,
        facts,
        staged
    }
);

impl PartRow {
    fn release(self) -> Release {
        Release {
            version: self.version.into(),
            // A word of a later version of Larder hides the version rather than showing it.
            status: self.status.parse().unwrap_or(Status::Archived),
            origin: Origin::parse(&self.origin),
            published: self.moment.0,
            manifest: self.manifest.into(),
            revision: self.revision.into(),
            assets: Vec::new(),
        }
    }

    /// A file, where its row has its digest.
    fn asset(self) -> Option<ReleaseAsset> {
        Some(ReleaseAsset {
            file: self.file.into(),
            blob: self.blob?.0,
            size: u64::try_from(self.place).ok()?,
            md5: self.md5.into(),
            sha1: self.sha1.into(),
            sha512: self.sha512.into(),
            media_type: self.media_type.into(),
            published: self.moment.0,
            facts: self.facts.into(),
            staged: self.staged.0,
        })
    }
}

struct SummaryRow {
    package: String,
    origin: Column<Origin>,
    description: String,
    latest: String,
    versions: Count,
}

from_row!(
    AnyRow,
    SummaryRow {
        package,
        origin,
        description,
        latest,
        versions
    }
);

impl From<SummaryRow> for Summary {
    fn from(row: SummaryRow) -> Self {
        Self {
            package: row.package,
            origin: row.origin.0,
            description: row.description,
            latest: row.latest,
            versions: row.versions.0,
        }
    }
}

/// Whether a listing has its versions' manifests, which are most of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manifests {
    /// Empty.
    Left,
    Read,
}

/// All that a repository has of a package.
#[derive(Debug, Default)]
pub struct OwnRows {
    /// `None` where it never had any of it.
    pub listing: Option<Listing>,
    /// The package's origin restrictions, where somebody set them.
    pub restrictions: Option<Restrictions>,
}

/// Reads the packages that repositories have of their own, with versions and files.
#[derive(Clone)]
pub struct Releases {
    pub(super) database: Arc<Database>,
}

impl Releases {
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
        Ok(self.read(repository, package, manifests).await?.listing)
    }

    /// The same, with the package's origin restrictions.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn read(
        &self,
        repository: &str,
        package: &PackageId,
        manifests: Manifests,
    ) -> Result<OwnRows, Error> {
        let rows: Vec<PartRow> = sqlx::query_as(sqlx::AssertSqlSafe(whole(manifests)))
            .bind(repository)
            .bind(package.to_string())
            .fetch_all(&self.database.door)
            .await?;
        let mut own = OwnRows::default();
        let (mut head, mut versions, mut assets) = (None, Vec::new(), Vec::new());
        let mut tags = BTreeMap::new();
        for row in rows {
            match row.part.as_str() {
                "package" => head = Some(row),
                "version" => versions.push(row),
                "asset" => assets.push(row),
                "tag" => drop(tags.insert(row.status, row.version)),
                _ => {
                    own.restrictions = Some(Restrictions {
                        publish: Way::parse(&row.status),
                        upstream: Way::parse(&row.origin),
                    });
                }
            }
        }
        let Some(head) = head else { return Ok(own) };
        versions.sort_by_key(|row| row.place);
        let mut versions: Vec<Release> = versions.into_iter().map(PartRow::release).collect();
        let places: HashMap<Box<str>, usize> = versions
            .iter()
            .enumerate()
            .map(|(place, release)| (release.version.clone(), place))
            .collect();
        assets.sort_by(|one, other| one.file.cmp(&other.file));
        for row in assets {
            let place = places.get(row.version.as_str());
            let release = place.and_then(|place| versions.get_mut(*place));
            if let (Some(release), Some(asset)) = (release, row.asset()) {
                release.assets.push(asset);
            }
        }
        own.listing = Some(Listing {
            package: package.clone(),
            origin: Origin::parse(&head.origin),
            revision: head.revision,
            changed: head.moment.0,
            versions,
            tags,
        });
        Ok(own)
    }

    /// The description in the newest version; empty where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn description(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<String, Error> {
        let sql = "SELECT description FROM package WHERE repository = $1 AND package = $2";
        let description: Option<String> = sqlx::query_scalar(sql)
            .bind(repository)
            .bind(package.to_string())
            .fetch_optional(&self.database.door)
            .await?;
        Ok(description.unwrap_or_default())
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
        let rows: Vec<SummaryRow> = sqlx::query_as(
            "SELECT package, origin, description, latest, versions FROM package \
             WHERE repository = $1 AND package > $2 AND package >= $3 AND package < $4 \
             ORDER BY package LIMIT $5",
        )
        .bind(repository)
        .bind(after)
        .bind(from)
        .bind(to)
        .bind(Count(limit as u64))
        .fetch_all(&self.database.door)
        .await?;
        Ok(rows.into_iter().map(Summary::from).collect())
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
        let mut view = self.database.door.view().await?;
        for repository in repositories {
            if is_one {
                let sql = format!("SELECT COUNT(*) FROM package {filter}");
                let count: Count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                    .bind(*repository)
                    .bind(&from)
                    .bind(&to)
                    .bind(&like)
                    .fetch_one(&mut *view)
                    .await?;
                total = count.0;
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
            let mut rows = sqlx::query_as::<_, SummaryRow>(sqlx::AssertSqlSafe(sql))
                .bind(*repository)
                .bind(&from)
                .bind(&to)
                .bind(&like)
                .bind(Count(limit as u64))
                .bind(Count(skip as u64))
                .fetch(&mut *view);
            while let Some(row) = rows.try_next().await? {
                let one = Summary::from(row);
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
        let sql = "SELECT repository, COUNT(*) FROM package GROUP BY repository";
        let rows: Vec<(String, Count)> = sqlx::query_as(sql).fetch_all(&self.database.door).await?;
        let counts = rows.into_iter().map(|(name, count)| (name, count.0));
        Ok(counts.collect())
    }

    /// The dependencies of a version, in its own order.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn dependencies(
        &self,
        repository: &str,
        package: &PackageId,
        version: &str,
    ) -> Result<Vec<Dependency>, Error> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT kind, name, requirement FROM package_dependency \
             WHERE repository = $1 AND package = $2 AND version = $3 ORDER BY position",
        )
        .bind(repository)
        .bind(package.to_string())
        .bind(version)
        .fetch_all(&self.database.door)
        .await?;
        let dependency = |(kind, name, requirement)| Dependency {
            kind,
            name,
            requirement,
        };
        Ok(rows.into_iter().map(dependency).collect())
    }

    /// The manifest of a version; `None` where there is no such version.
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
        let text: Option<Option<String>> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(repository)
            .bind(package.to_string())
            .bind(version)
            .fetch_optional(&self.database.door)
            .await?;
        Ok(text.flatten())
    }

    /// The published assets whose bytes a blob is: `npm:left-pad/left-pad-1.3.0.tgz`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn assets_of(&self, blob: BlobId) -> Result<Vec<String>, Error> {
        let sql = "SELECT DISTINCT package, file FROM package_asset WHERE blob = $1";
        let rows: Vec<(String, String)> = sqlx::query_as(sql)
            .bind(Column(blob))
            .fetch_all(&self.database.door)
            .await?;
        let assets = rows.into_iter();
        Ok(assets
            .map(|(package, file)| format!("{package}/{file}"))
            .collect())
    }

    /// Every blob that a package version or a waiting publish needs, with its size.
    ///
    /// # Errors
    /// Where the database fails.
    pub(in crate::store) async fn needed(
        &self,
        mut each: impl FnMut(BlobId, u64),
    ) -> Result<(), Error> {
        let sql = "SELECT blob, size FROM package_asset UNION SELECT blob, size FROM spool";
        let mut view = self.database.door.view().await?;
        let mut rows = sqlx::query_as::<_, (Column<BlobId>, Count)>(sql).fetch(&mut *view);
        while let Some((blob, size)) = rows.try_next().await? {
            each(blob.0, size.0);
        }
        Ok(())
    }
}
