//! Assets: immutable files that connections gave, each row naming the blob that is its bytes.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqlitePool};

use crate::format;
use crate::package::{AssetId, BlobId, Origin, PackageId, Summary};
use crate::store::sql::{Column, Count, Error, Flag, Seconds, field, from_row};

/// An asset of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssetKey {
    pub connection: Box<str>,
    pub asset: AssetId,
}

/// An immutable asset that was fetched and verified once.
#[derive(Clone, Debug)]
pub struct AssetRow {
    pub version: String,
    /// The first bytes seen; later ones without a promise have to be the same.
    pub blob: BlobId,
    pub size: u64,
    pub media_type: String,
    pub published: Option<Timestamp>,
    pub last_modified: Option<String>,
    /// Seconds since 1970.
    pub first_seen: i64,
    pub fetch_ms: i64,
}

from_row!(
    SqliteRow,
    AssetRow {
        version,
        blob,
        size,
        media_type,
        published,
        last_modified,
        first_seen,
        fetch_ms
    }
);

/// An asset as its package has it.
struct FileRow {
    file: String,
    row: AssetRow,
}

impl sqlx::FromRow<'_, SqliteRow> for FileRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            file: field(row, "file")?,
            row: sqlx::FromRow::from_row(row)?,
        })
    }
}

/// A package of which files came through a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PulledPackage {
    pub connection: String,
    /// `npm:@scope/name`.
    pub package: String,
}

from_row!(
    SqliteRow,
    PulledPackage {
        connection,
        package
    }
);
/// A file that came through a connection.
#[derive(Clone, Debug)]
pub struct PulledFile {
    pub version: String,
    pub file: String,
    /// In bytes.
    pub size: u64,
    pub blob: BlobId,
}

/// The catalog's assets.
#[derive(Clone)]
pub struct CatalogAssets {
    pub(super) pool: SqlitePool,
}

impl CatalogAssets {
    /// The asset's row, whether or not its bytes are still here.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn find(&self, key: &AssetKey) -> Result<Option<AssetRow>, Error> {
        let row = sqlx::query_as(
            "SELECT version, blob, size, media_type, published, last_modified, first_seen, fetch_ms \
             FROM asset WHERE connection = ? AND package = ? AND file = ?",
        )
        .bind(&*key.connection)
        .bind(key.asset.package.to_string())
        .bind(&*key.asset.file)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row)
    }

    /// Packages of which assets were pulled through the connection, in the order of their names,
    /// `limit` of them behind `after`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn packages_pulled(
        &self,
        connection: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Summary>, Error> {
        let rows: Vec<(String, Count)> = sqlx::query_as(
            "SELECT package, COUNT(DISTINCT version) FROM asset \
             WHERE connection = ? AND package > ? GROUP BY package ORDER BY package LIMIT ?",
        )
        .bind(connection)
        .bind(after)
        .bind(Count(limit as u64))
        .fetch_all(&self.pool)
        .await?;
        let summary = |(package, versions): (String, Count)| Summary {
            package,
            origin: Origin::External,
            description: String::new(),
            latest: String::new(),
            versions: versions.0,
        };
        Ok(rows.into_iter().map(summary).collect())
    }

    /// The package's files that were fetched: version, file, size, and the blob's name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn files_pulled(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<Vec<PulledFile>, Error> {
        let rows: Vec<(String, String, Count, Column<BlobId>)> = sqlx::query_as(
            "SELECT version, file, size, blob FROM asset WHERE connection = ? AND package = ? ORDER BY version, file",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(version, file, size, blob)| PulledFile {
                version,
                file,
                size: size.0,
                blob: blob.0,
            })
            .collect())
    }

    /// The files of the package whose bytes are here, each with its version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn files_here(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<Vec<(String, String)>, Error> {
        let files = sqlx::query_as(
            "SELECT asset.version, asset.file FROM asset JOIN blob ON blob.id = asset.blob \
             WHERE asset.connection = ? AND asset.package = ?",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        Ok(files)
    }

    /// Packages of which files are here, behind `after`, by connection and name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn packages_here(
        &self,
        after: Option<&PulledPackage>,
        limit: usize,
    ) -> Result<Vec<PulledPackage>, Error> {
        let (connection, package) =
            after.map_or(("", ""), |it| (it.connection.as_str(), it.package.as_str()));
        let pulled = sqlx::query_as(
            "SELECT DISTINCT connection, package FROM asset WHERE (connection, package) > (?, ?) \
             ORDER BY connection, package LIMIT ?",
        )
        .bind(connection)
        .bind(package)
        .bind(Count(limit as u64))
        .fetch_all(&self.pool)
        .await?;
        Ok(pulled)
    }

    /// The package's assets whose bytes are here, version by version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of_package(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<Vec<(AssetKey, AssetRow)>, Error> {
        let rows: Vec<FileRow> = sqlx::query_as(
            "SELECT asset.file, version, blob, asset.size, media_type, published, last_modified, first_seen, \
             fetch_ms FROM asset JOIN blob ON blob.id = asset.blob \
             WHERE connection = ? AND package = ? ORDER BY version, file",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        let asset = |FileRow { file, row }| {
            let asset = AssetId {
                package: package.clone(),
                file: file.into(),
            };
            let key = AssetKey {
                connection: connection.into(),
                asset,
            };
            (key, row)
        };
        Ok(rows.into_iter().map(asset).collect())
    }

    /// Packages of which files came in since then (seconds since 1970).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn packages_since(&self, since: i64) -> Result<Vec<PulledPackage>, Error> {
        let sql = "SELECT DISTINCT connection, package FROM asset WHERE first_seen >= ?";
        Ok(sqlx::query_as(sql)
            .bind(since)
            .fetch_all(&self.pool)
            .await?)
    }

    /// The assets whose bytes a blob is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of_blob(&self, blob: BlobId) -> Result<Vec<AssetKey>, Error> {
        let sql = "SELECT connection, package, file FROM asset WHERE blob = ?";
        let rows: Vec<(String, String, String)> = sqlx::query_as(sql)
            .bind(Column(blob))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().filter_map(asset_key).collect())
    }

    /// Keeps an asset.
    pub(in crate::store) async fn keep(
        &self,
        key: &AssetKey,
        row: &AssetRow,
        held: i64,
    ) -> Result<KeptAsset, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let kept = keep_asset(&mut transaction, key, row, held).await?;
        transaction.commit().await?;
        Ok(kept)
    }

    /// Keeps the assets of one version, all or none; says whether it is new.
    pub(in crate::store) async fn keep_version(
        &self,
        assets: &[(AssetKey, AssetRow)],
        held: i64,
    ) -> Result<bool, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut is_new = false;
        for (key, row) in assets {
            is_new |= keep_asset(&mut transaction, key, row, held).await?.is_first;
        }
        transaction.commit().await?;
        Ok(is_new)
    }
}

/// The result of recording an asset.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct KeptAsset {
    /// It is the first of its version.
    pub is_first: bool,
    /// It is never evicted.
    pub is_held: bool,
}

/// Keeps an asset. What held it still does.
async fn keep_asset(
    transaction: &mut SqliteConnection,
    key: &AssetKey,
    row: &AssetRow,
    held: i64,
) -> Result<KeptAsset, Error> {
    let other = sqlx::query(
        "SELECT 1 FROM asset WHERE connection = ? AND package = ? AND version = ? LIMIT 1",
    )
    .bind(&*key.connection)
    .bind(key.asset.package.to_string())
    .bind(&row.version)
    .fetch_optional(&mut *transaction)
    .await?;
    let held: Flag = sqlx::query_scalar(
        "INSERT INTO asset (connection, package, file, version, blob, size, media_type, published, \
         last_modified, first_seen, fetch_ms, held) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO UPDATE SET version = excluded.version, blob = excluded.blob, size = excluded.size, \
         media_type = excluded.media_type, published = excluded.published, \
         last_modified = excluded.last_modified, first_seen = excluded.first_seen, \
         fetch_ms = excluded.fetch_ms, held = held | excluded.held RETURNING held",
    )
    .bind(&*key.connection)
    .bind(key.asset.package.to_string())
    .bind(&*key.asset.file)
    .bind(&row.version)
    .bind(Column(row.blob))
    .bind(Count(row.size))
    .bind(&row.media_type)
    .bind(row.published.map(Seconds))
    .bind(&row.last_modified)
    .bind(row.first_seen)
    .bind(row.fetch_ms)
    .bind(held)
    .fetch_one(&mut *transaction)
    .await?;
    Ok(KeptAsset {
        is_first: other.is_none(),
        is_held: held.0,
    })
}

/// `None` where the package's name is one that this Larder cannot read.
fn asset_key((connection, package, file): (String, String, String)) -> Option<AssetKey> {
    Some(AssetKey {
        connection: connection.into(),
        asset: AssetId {
            package: format::package(&package).ok()?,
            file: file.into(),
        },
    })
}
