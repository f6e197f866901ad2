//! Marks in a database for the time in which packages are moved, and afterwards: nobody uses the old
//! one any more, and nobody uses the new one before its rows are all there.

use std::path::Path;

use sqlx::{AnyConnection, Connection as _};
use tracing::warn;

use super::database::encoded;
use super::door::Door;
use super::{Error, Packages, remote};
use crate::format::counted;
use crate::secret::Secret;
use crate::store::markers::Markers;
use crate::store::sql;

/// A catalog's row about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct CatalogMark {
    /// Its own name, which it keeps wherever it is moved.
    pub identity: String,
    /// It is being moved here, and not all is done yet.
    pub is_arriving: bool,
    /// Where it is since it was moved.
    pub moved_to: Option<String>,
}

/// Marks what was written into a database, in the same transaction.
pub(in crate::store) const ARRIVING: &str = "UPDATE catalog SET is_arriving = 1, moved_to = NULL";

async fn mark(door: &Door) -> sqlx::Result<Option<CatalogMark>> {
    let row: Option<MarkRow> = sqlx::query_as(MARK).fetch_optional(door).await?;
    Ok(row.map(CatalogMark::of))
}

/// The mark in a database to which there is one connection, and no named statement is left.
pub(super) async fn mark_of(connection: &mut AnyConnection) -> sqlx::Result<Option<CatalogMark>> {
    let row: Option<MarkRow> = sqlx::query_as(MARK)
        .persistent(false)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(CatalogMark::of))
}

const MARK: &str = "SELECT identity, is_arriving, moved_to FROM catalog";

type MarkRow = (String, i64, Option<String>);

impl CatalogMark {
    fn of((identity, is_arriving, moved_to): MarkRow) -> Self {
        Self {
            identity,
            is_arriving: is_arriving != 0,
            moved_to,
        }
    }
}

/// Refuses a database whose packages are elsewhere, or not all here yet.
pub(super) async fn refuse(door: &Door, at: &str) -> Result<(), crate::store::Error> {
    refuse_mark(mark(door).await.map_err(sql::Error::from)?, at)
}

/// Refuses a database with such a mark, as [`refuse`] does.
pub(super) fn refuse_mark(mark: Option<CatalogMark>, at: &str) -> Result<(), crate::store::Error> {
    let Some(mark) = mark else { return Ok(()) };
    let at = at.to_owned();
    if let Some(to) = mark.moved_to {
        return Err(crate::store::Error::PackagesMoved { at, to });
    }
    if mark.is_arriving {
        return Err(crate::store::Error::PackagesArriving { at });
    }
    Ok(())
}

/// Counts of the rows in the data directory's own file.
struct OwnFile {
    packages: i64,
    tokens: i64,
    moved_to: Option<String>,
}

impl OwnFile {
    /// Looks into the file without opening it for use; none where it cannot be read.
    async fn read(file: &Path) -> Option<Self> {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}?mode=rw", encoded(file));
        let mut connection = AnyConnection::connect(&url).await.ok()?;
        let mut count = async |table: &str| -> Option<i64> {
            let sql = format!("SELECT COUNT(*) FROM {table}");
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
            count.fetch_one(&mut connection).await.ok()
        };
        let packages = count("package").await?;
        let tokens = count("machine_token").await.unwrap_or_default();
        // One of an earlier Larder has no such column.
        let moved_to = sqlx::query_scalar("SELECT moved_to FROM catalog")
            .fetch_optional(&mut connection)
            .await;
        let _ = connection.close().await;
        Some(Self {
            packages,
            tokens,
            moved_to: moved_to.ok().flatten().flatten(),
        })
    }
}

/// Says of packages in the data directory's own file that a configured database leaves them behind.
pub(super) async fn warn_of_those_behind(file: &Path, markers: &Markers) {
    if markers.package_catalog().is_none() || !file.exists() {
        return;
    }
    let Some(own) = OwnFile::read(file).await else {
        return;
    };
    if own.moved_to.is_some() || own.packages == 0 && own.tokens == 0 {
        return;
    }
    let packages = counted(own.packages.unsigned_abs(), "package");
    let tokens = counted(own.tokens.unsigned_abs(), "token");
    warn!(
        file = %file.display(),
        "{packages} and {tokens} in packages.sqlite of this data directory stay behind, because `packages.database` is configured: their names are asked outside. To take them along, stop Larder and run `larder packages move`"
    );
}

/// Why nothing is served from the file where the packages are in a database that is not configured.
pub(super) async fn without_database(file: &Path) -> crate::store::Error {
    let own = if file.exists() {
        OwnFile::read(file).await
    } else {
        None
    };
    match own.and_then(|own| own.moved_to) {
        Some(to) => crate::store::Error::PackagesMoved {
            at: file.display().to_string(),
            to,
        },
        None => crate::store::Error::NoDatabase,
    }
}

impl Packages {
    /// Reads the catalog's row about itself; none where it is new.
    pub(in crate::store) async fn mark(&self) -> Result<Option<CatalogMark>, Error> {
        Ok(mark(&self.database.door).await?)
    }

    /// Notes that the packages are there now, so that nobody uses this database any more.
    pub(in crate::store) async fn mark_moved(&self, to: &str) -> Result<(), Error> {
        sqlx::query("UPDATE catalog SET moved_to = $1")
            .bind(to)
            .execute(&self.database.door)
            .await?;
        Ok(())
    }

    /// Notes that all is here, and may be used.
    pub(in crate::store) async fn mark_arrived(&self) -> Result<(), Error> {
        sqlx::query("UPDATE catalog SET is_arriving = 0")
            .execute(&self.database.door)
            .await?;
        Ok(())
    }

    /// Names the database of an address, without credentials.
    #[must_use]
    pub(in crate::store) fn database_name(url: &Secret) -> Option<String> {
        remote::name(url)
    }
}
