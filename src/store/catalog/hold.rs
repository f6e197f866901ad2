//! Holds: packages from outside that are never evicted, because they are pinned, retained by a
//! repository, or came in a bundle.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sqlx::{SqliteConnection, SqlitePool};

use crate::format;
use crate::package::{BlobId, PackageId};
use crate::rule::Pattern;
use crate::store::packages::Pin;
use crate::store::sql::{Column, Error};

/// Why a row holds its blob: a set of these.
pub const PINNED: i64 = 1;
pub const RETAINED: i64 = 2;
/// It came in a bundle: nobody here can fetch it again.
pub const IMPORTED: i64 = 4;

/// Rules that hold rows which do not exist yet.
#[derive(Default)]
struct HoldRules {
    pins: ArcSwap<Vec<Pattern>>,
    retained: ArcSwap<BTreeSet<String>>,
}

impl HoldRules {
    /// Why a row of the connection would be held; of a document that is no package's, the connection
    /// alone says so.
    fn of(&self, connection: &str, package: Option<&PackageId>, version: Option<&str>) -> i64 {
        let mut held = 0;
        if self.retained.load().contains(connection) {
            held |= RETAINED;
        }
        if let Some(package) = package
            && pins(&self.pins.load(), package, version)
        {
            held |= PINNED;
        }
        held
    }
}

/// Whether a pin speaks of the version; of documents, of any of the package's.
fn pins(patterns: &[Pattern], package: &PackageId, version: Option<&str>) -> bool {
    patterns.iter().any(|pattern| {
        pattern.names(package)
            && version.is_none_or(|version| pattern.takes(package, version) == Some(true))
    })
}

/// The package of a document, by its key.
fn package_of(
    formats: &HashMap<String, crate::package::Format>,
    connection: &str,
    key: &str,
) -> Option<PackageId> {
    formats.get(connection)?.protocol().package_of(key)
}

/// The catalog's holds: why rows keep their blobs from eviction.
#[derive(Clone)]
pub struct Holds {
    pool: SqlitePool,
    rules: Arc<HoldRules>,
}

impl Holds {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            rules: Arc::default(),
        }
    }

    /// Why an asset that comes in now is held.
    pub(in crate::store) fn of_asset(
        &self,
        connection: &str,
        package: &PackageId,
        version: &str,
    ) -> i64 {
        self.rules.of(connection, Some(package), Some(version))
    }

    /// Why a document that comes in now is held.
    pub(in crate::store) fn of_document(
        &self,
        connection: &str,
        package: Option<&PackageId>,
    ) -> i64 {
        self.rules.of(connection, package, None)
    }

    /// The pins that an earlier Larder kept here.
    pub(in crate::store) async fn earlier_pins(&self) -> Result<Vec<Pin>, Error> {
        let sql = "SELECT pattern, since FROM pin ORDER BY pattern";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let pin = |(pattern, since)| Pin { pattern, since };
        Ok(rows.into_iter().map(pin).collect())
    }

    /// Forgets them, once they are kept where they belong.
    pub(in crate::store) async fn forget_earlier_pins(&self) -> Result<(), Error> {
        sqlx::query("DELETE FROM pin").execute(&self.pool).await?;
        Ok(())
    }

    /// Holds what these patterns take, from now on.
    pub(in crate::store) fn set_pins(&self, pins: &[Pin]) {
        let patterns = pins
            .iter()
            .filter_map(|pin| Pattern::parse(&pin.pattern).ok());
        self.rules.pins.store(Arc::new(patterns.collect()));
    }

    /// Holds what comes from these connections from now on.
    pub(in crate::store) fn set_retained(&self, connections: BTreeSet<String>) {
        self.rules.retained.store(Arc::new(connections));
    }

    /// Writes down anew what pins and repositories hold of what is here. `formats` are the
    /// connections' own.
    pub(in crate::store) async fn write_anew(
        &self,
        formats: &HashMap<String, crate::package::Format>,
    ) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        self.write_assets_anew(&mut transaction).await?;
        self.write_documents_anew(&mut transaction, formats).await?;
        Ok(transaction.commit().await?)
    }

    async fn write_assets_anew(&self, transaction: &mut SqliteConnection) -> Result<(), Error> {
        let sql = "SELECT DISTINCT connection, package, version FROM asset";
        let rows: Vec<(String, String, String)> =
            sqlx::query_as(sql).fetch_all(&mut *transaction).await?;
        for (connection, package, version) in rows {
            let Ok(id) = format::package(&package) else {
                continue;
            };
            let held = self.rules.of(&connection, Some(&id), Some(&version));
            sqlx::query(
                "UPDATE asset SET held = (held & ?) | ? WHERE connection = ? AND package = ? AND version = ? \
                 AND held & 3 <> ?",
            )
            .bind(IMPORTED)
            .bind(held)
            .bind(connection)
            .bind(package)
            .bind(version)
            .bind(held)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }

    async fn write_documents_anew(
        &self,
        transaction: &mut SqliteConnection,
        formats: &HashMap<String, crate::package::Format>,
    ) -> Result<(), Error> {
        let sql = "SELECT connection, key FROM document";
        let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut *transaction).await?;
        for (connection, key) in rows {
            let package = package_of(formats, &connection, &key);
            let held = self.rules.of(&connection, package.as_ref(), None);
            sqlx::query(
                "UPDATE document SET held = (held & ?) | ? WHERE connection = ? AND key = ? AND held & 3 <> ?",
            )
            .bind(IMPORTED)
            .bind(held)
            .bind(connection)
            .bind(key)
            .bind(held)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }

    /// Whether a row holds the blob, or a bundle that is coming in.
    pub(in crate::store) async fn is_held(&self, blob: BlobId) -> Result<bool, Error> {
        let row = sqlx::query(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM asset WHERE blob = ?1 AND held <> 0) \
             OR EXISTS (SELECT 1 FROM document WHERE blob = ?1 AND held <> 0) \
             OR EXISTS (SELECT 1 FROM staged WHERE blob = ?1)",
        )
        .bind(Column(blob))
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.is_some())
    }

    /// All blobs that rows hold, and that are here.
    pub(in crate::store) async fn blobs(&self) -> Result<HashSet<BlobId>, Error> {
        let held: Vec<Column<BlobId>> = sqlx::query_scalar(
            "SELECT id FROM blob WHERE id IN (SELECT blob FROM asset WHERE held <> 0) \
             OR id IN (SELECT blob FROM document WHERE held <> 0) OR id IN (SELECT blob FROM staged)",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(held.into_iter().map(|id| id.0).collect())
    }
}
