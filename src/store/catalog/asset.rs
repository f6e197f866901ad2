//! Assets: immutable files that connections gave, each row naming the blob that is its bytes.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use crate::format;
use crate::package::{AssetId, BlobId, Origin, PackageId, Summary};

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

impl AssetRow {
    /// Reads the columns version, blob, size, `media_type`, published, `last_modified`,
    /// `first_seen` and `fetch_ms`, the first of them at `at`.
    pub(super) fn read(row: &SqliteRow, at: usize) -> Option<Self> {
        Some(Self {
            version: row.get(at),
            blob: BlobId::from_slice(&row.get::<Vec<u8>, _>(at + 1))?,
            size: u64::try_from(row.get::<i64, _>(at + 2)).unwrap_or(0),
            media_type: row.get(at + 3),
            published: row
                .get::<Option<i64>, _>(at + 4)
                .and_then(|seconds| Timestamp::from_second(seconds).ok()),
            last_modified: row.get(at + 5),
            first_seen: row.get(at + 6),
            fetch_ms: row.get(at + 7),
        })
    }
}

/// A package of which files came through a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pulled {
    pub connection: String,
    /// `npm:@scope/name`.
    pub package: String,
}

/// The catalog's assets.
#[derive(Clone)]
pub struct Assets {
    pub(super) pool: SqlitePool,
}

impl Assets {
    /// The asset's row, whether or not its bytes are still here.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn find(&self, key: &AssetKey) -> Result<Option<AssetRow>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT version, blob, size, media_type, published, last_modified, first_seen, fetch_ms \
             FROM asset WHERE connection = ? AND package = ? AND file = ?",
        )
        .bind(&*key.connection)
        .bind(key.asset.package.to_string())
        .bind(&*key.asset.file)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.and_then(|row| AssetRow::read(&row, 0)))
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
    ) -> Result<Vec<Summary>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT package, COUNT(DISTINCT version) FROM asset \
             WHERE connection = ? AND package > ? GROUP BY package ORDER BY package LIMIT ?",
        )
        .bind(connection)
        .bind(after)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .map(|row| Summary {
                package: row.get(0),
                origin: Origin::External,
                description: String::new(),
                latest: String::new(),
                versions: u64::try_from(row.get::<i64, _>(1)).unwrap_or(0),
            })
            .collect())
    }

    /// What was pulled through of the package: version, file, size, and the blob's name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn files_pulled(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<Vec<(String, String, u64, BlobId)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT version, file, size, blob FROM asset WHERE connection = ? AND package = ? ORDER BY version, file",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let blob = BlobId::from_slice(&row.get::<Vec<u8>, _>(3))?;
                let size = u64::try_from(row.get::<i64, _>(2)).unwrap_or(0);
                Some((row.get(0), row.get(1), size, blob))
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
    ) -> Result<Vec<(String, String)>, sqlx::Error> {
        sqlx::query_as(
            "SELECT asset.version, asset.file FROM asset JOIN blob ON blob.id = asset.blob \
             WHERE asset.connection = ? AND asset.package = ?",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await
    }

    /// Packages of which files are here, behind `after`, by connection and name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn packages_here(
        &self,
        after: Option<&Pulled>,
        limit: usize,
    ) -> Result<Vec<Pulled>, sqlx::Error> {
        let (connection, package) =
            after.map_or(("", ""), |it| (it.connection.as_str(), it.package.as_str()));
        let rows = sqlx::query(
            "SELECT DISTINCT connection, package FROM asset WHERE (connection, package) > (?, ?) \
             ORDER BY connection, package LIMIT ?",
        )
        .bind(connection)
        .bind(package)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .map(|row| Pulled {
                connection: row.get(0),
                package: row.get(1),
            })
            .collect())
    }

    /// The package's assets whose bytes are here, version by version.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of_package(
        &self,
        connection: &str,
        package: &PackageId,
    ) -> Result<Vec<(AssetKey, AssetRow)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT asset.file, version, blob, asset.size, media_type, published, last_modified, first_seen, \
             fetch_ms FROM asset JOIN blob ON blob.id = asset.blob \
             WHERE connection = ? AND package = ? ORDER BY version, file",
        )
        .bind(connection)
        .bind(package.to_string())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let asset = AssetId {
                    package: package.clone(),
                    file: row.get::<String, _>(0).into(),
                };
                let key = AssetKey {
                    connection: connection.into(),
                    asset,
                };
                Some((key, AssetRow::read(row, 1)?))
            })
            .collect())
    }

    /// Packages of which files came in since then (seconds since 1970).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn packages_since(&self, since: i64) -> Result<Vec<Pulled>, sqlx::Error> {
        let sql = "SELECT DISTINCT connection, package FROM asset WHERE first_seen >= ?";
        let rows = sqlx::query(sql).bind(since).fetch_all(&self.pool).await?;
        let pulled = |row: &SqliteRow| Pulled {
            connection: row.get(0),
            package: row.get(1),
        };
        Ok(rows.iter().map(pulled).collect())
    }

    /// The assets whose bytes a blob is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of_blob(&self, blob: BlobId) -> Result<Vec<AssetKey>, sqlx::Error> {
        let rows = sqlx::query("SELECT connection, package, file FROM asset WHERE blob = ?")
            .bind(blob.as_bytes().as_slice())
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().filter_map(asset_key).collect())
    }

    /// Keeps an asset.
    pub(in crate::store) async fn keep(
        &self,
        key: &AssetKey,
        row: &AssetRow,
        held: i64,
    ) -> Result<KeptAsset, sqlx::Error> {
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
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut is_new = false;
        for (key, row) in assets {
            is_new |= keep_asset(&mut transaction, key, row, held).await?.is_first;
        }
        transaction.commit().await?;
        Ok(is_new)
    }
}

/// What is said of an asset that was kept.
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
) -> Result<KeptAsset, sqlx::Error> {
    let other = sqlx::query(
        "SELECT 1 FROM asset WHERE connection = ? AND package = ? AND version = ? LIMIT 1",
    )
    .bind(&*key.connection)
    .bind(key.asset.package.to_string())
    .bind(&row.version)
    .fetch_optional(&mut *transaction)
    .await?;
    let row = sqlx::query(
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
    .bind(row.blob.as_bytes().as_slice())
    .bind(i64::try_from(row.size).unwrap_or(i64::MAX))
    .bind(&row.media_type)
    .bind(row.published.map(Timestamp::as_second))
    .bind(&row.last_modified)
    .bind(row.first_seen)
    .bind(row.fetch_ms)
    .bind(held)
    .fetch_one(&mut *transaction)
    .await?;
    Ok(KeptAsset {
        is_first: other.is_none(),
        is_held: row.get::<i64, _>(0) != 0,
    })
}

fn asset_key(row: &SqliteRow) -> Option<AssetKey> {
    Some(AssetKey {
        connection: row.get::<String, _>(0).into(),
        asset: AssetId {
            package: format::package(&row.get::<String, _>(1)).ok()?,
            file: row.get::<String, _>(2).into(),
        },
    })
}
