//! The package catalog's database, SQLite or PostgreSQL, and how it is written.

use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection as _, Executor as _};
use tokio::sync::SemaphorePermit;

use super::door::{Door, Manners, Statements};
use super::outbox::Outbox;
use super::remote::Tables;
use super::{Error, moved, random_name, remote};
use crate::clock;
use crate::config::PackageCatalogSettings;
use crate::store::lock::identity_of;
use crate::store::markers::{LastEnd, Markers};
use crate::store::sql::Ailment;
use crate::store::{private, sql};

/// The database that all parts of the package catalog share.
pub(super) struct Database {
    pub door: Door,
    /// Other processes may change it too.
    pub is_shared: bool,
    /// This data directory's name among those of a shared catalog.
    pub place: String,
    /// The targets that events are written for.
    pub outbox: ArcSwap<Outbox>,
    /// Where it is noted that the database is open.
    markers: Markers,
}

/// SQLite's file, as it was found before it was opened.
struct File<'a> {
    path: &'a Path,
    /// The name of the catalog that belongs here, where there was one.
    expected: Option<String>,
    last_end: LastEnd,
}

impl<'a> File<'a> {
    /// # Errors
    /// Where there was one, and it is not here any more, or not all of it.
    fn find(path: &'a Path, markers: &Markers) -> Result<Self, crate::store::Error> {
        let found = Self {
            path,
            expected: markers.package_catalog(),
            last_end: markers.last_end(),
        };
        let length = |path: &Path| path.metadata().map_or(0, |it| it.len());
        if found.expected.is_some() && length(path) == 0 {
            return Err(found.lost("it is gone, or empty", "packages.id"));
        }
        // The latest changes are in this file until SQLite closes, which the last end did not do.
        if found.last_end == LastEnd::Open && length(&beside(path, "-wal")) < WAL_HEADER_BYTES {
            return Err(found.lost(
                "its file packages.sqlite-wal, with what was published last, is gone",
                "packages.open",
            ));
        }
        Ok(found)
    }

    fn lost(&self, found: &'static str, marker: &'static str) -> crate::store::Error {
        crate::store::Error::PackagesLost {
            path: self.path.to_owned(),
            found,
            marker,
        }
    }

    /// Says of a database that cannot be used what to do.
    fn unusable(&self, error: sql::Error) -> crate::store::Error {
        match error.ailment() {
            Ailment::Damaged => crate::store::Error::PackagesDamaged {
                path: self.path.to_owned(),
                cause: error,
            },
            _ => Error::from(error).into(),
        }
    }

    /// Looks through it, and takes it for the one that belongs here, or refuses it.
    async fn check(
        &self,
        connection: &mut AnyConnection,
        steps: &Migrator,
    ) -> Result<Tables, crate::store::Error> {
        let failed = |error: sqlx::Error| self.unusable(error.into());
        if sql::is_to_be_checked(self.path, self.last_end) {
            let said: String = sqlx::query_scalar(sql::CHECK)
                .fetch_one(&mut *connection)
                .await
                .map_err(failed)?;
            if said != sql::WHOLE {
                return Err(self.unusable(sql::Error::damaged(&said)));
            }
        }
        // One without a table is a new one, whatever its file holds.
        let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_master")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        if self.expected.is_some() && tables.is_empty() {
            return Err(self.lost("it is empty", "packages.id"));
        }
        let is_there = |table: &str| tables.iter().any(|name| name == table);
        if !is_there("_sqlx_migrations") {
            return Ok(Tables::Missing);
        }
        let taken = sqlx::query_as(sql::TAKEN).fetch_all(&mut *connection).await;
        let are_all = sql::are_all_taken(steps, &taken.map_err(failed)?);
        let are_all = are_all.map_err(|error| self.unusable(error))?;
        if is_there("catalog") {
            let found: Option<String> = sqlx::query_scalar("SELECT identity FROM catalog")
                .fetch_optional(connection)
                .await
                .map_err(failed)?;
            if let Some((found, expected)) = found.zip(self.expected.as_ref())
                && found != *expected
            {
                return Err(self.lost("it is another one than last time's", "packages.id"));
            }
        }
        Ok(if are_all {
            Tables::Made
        } else {
            Tables::Earlier
        })
    }

    /// Gives the catalog its name where it has none, and remembers it.
    async fn identify(&self, door: &Door, markers: &Markers) -> Result<(), crate::store::Error> {
        let failed = |error: sqlx::Error| self.unusable(error.into());
        moved::refuse(door, &self.path.display().to_string()).await?;
        let found: Option<String> = sqlx::query_scalar("SELECT identity FROM catalog")
            .fetch_optional(door)
            .await
            .map_err(failed)?;
        match (&found, &self.expected) {
            (Some(_), Some(_)) => {}
            // A copy from before catalogs had names takes the name of the one that it is of.
            (None, expected) => {
                let name = expected.clone().unwrap_or_else(random_name);
                sqlx::query("INSERT INTO catalog (identity, opened_at) VALUES ($1, 0)")
                    .bind(&name)
                    .execute(door)
                    .await
                    .map_err(failed)?;
                let _ = markers.remember_package_catalog(&name);
            }
            (Some(found), None) => {
                let _ = markers.remember_package_catalog(found);
            }
        }
        // From the first write on there is a file with what came last, which the next start may ask for.
        let written = sqlx::query("UPDATE catalog SET opened_at = $1")
            .bind(clock::unix_ms_now())
            .execute(door)
            .await;
        let wal = beside(self.path, "-wal").metadata();
        if written.is_ok() && wal.is_ok_and(|it| it.len() >= WAL_HEADER_BYTES) {
            markers.mark_open();
        }
        Ok(())
    }
}

/// A file that SQLite keeps beside its database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// SQLite waits for the disk with each change, so that a loss of power undoes nothing that was
/// acknowledged.
const SETTINGS: &str =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000";

/// The head of SQLite's write-ahead log; a shorter file holds nothing.
const WAL_HEADER_BYTES: u64 = 32;

impl Drop for Database {
    /// The last who drops it closes it.
    fn drop(&mut self) {
        self.mark_closed();
    }
}

impl Database {
    /// Opens or makes it: at the address where there is one (`postgres://…`), else in this file.
    pub async fn open(
        path: &Path,
        settings: &PackageCatalogSettings,
        place: String,
        markers: &Markers,
    ) -> Result<Self, crate::store::Error> {
        sqlx::any::install_default_drivers();
        let (steps, connections) = (sql::migrator(STEPS), settings.connections);
        let door = match &settings.database {
            Some(url) => {
                moved::warn_of_those_behind(path, markers).await;
                // For the cache's catalog, which is looked through after an end that was not clean.
                markers.mark_opening();
                remote::open(url, connections, &place, &steps, Some(markers)).await?
            }
            None => {
                if markers.database().is_some() {
                    return Err(moved::without_database(path).await);
                }
                let (file, door) = open_file(path, connections, &steps, markers).await?;
                file.identify(&door, markers).await?;
                door
            }
        };
        Ok(Self::of(door, settings, place, markers))
    }

    /// Opens or makes it as [`Database::open`] does, without asking whether it is this data directory's:
    /// for a move, which brings that in line.
    pub async fn open_to_move(
        path: &Path,
        settings: &PackageCatalogSettings,
        place: String,
        markers: &Markers,
    ) -> Result<Self, crate::store::Error> {
        sqlx::any::install_default_drivers();
        let (steps, connections) = (sql::migrator(STEPS), settings.connections);
        let door = match &settings.database {
            Some(url) => remote::open(url, connections, &place, &steps, None).await?,
            None => open_file(path, connections, &steps, markers).await?.1,
        };
        Ok(Self::of(door, settings, place, markers))
    }

    fn of(door: Door, settings: &PackageCatalogSettings, place: String, markers: &Markers) -> Self {
        Self {
            door,
            is_shared: settings.database.is_some(),
            place,
            outbox: ArcSwap::default(),
            markers: markers.clone(),
        }
    }

    /// Ends when no connection is open any more; whoever asks afterwards is refused.
    pub async fn close(&self) {
        self.mark_closed();
        if self.is_shared {
            remote::leave(&self.door, &self.place).await;
        }
        self.door.close().await;
    }

    /// Notes a clean end: SQLite carries over what came last when its last connection closes.
    fn mark_closed(&self) {
        self.markers.mark_closed();
    }

    /// A transaction that writes, and the permit to be held as long as it does.
    pub async fn begin(&self) -> Result<(SemaphorePermit<'_>, Box<Statements>), Error> {
        Ok(self.door.begin(None).await?)
    }

    /// The same, of which there is one at a time for a repository's package.
    pub async fn begin_for(
        &self,
        repository: &str,
        package: &str,
    ) -> Result<(SemaphorePermit<'_>, Box<Statements>), Error> {
        let name = Sha256::digest(format!("{repository}/{package}"));
        let lock = name.first_chunk().map(|head| i64::from_be_bytes(*head));
        Ok(self.door.begin(lock).await?)
    }
}

/// Opens SQLite's file, or makes it.
async fn open_file<'p>(
    path: &'p Path,
    connections: u32,
    steps: &Migrator,
    markers: &Markers,
) -> Result<(File<'p>, Door), crate::store::Error> {
    let file = File::find(path, markers)?;
    markers.mark_opening();
    private::ensure(path)?;
    let url = format!("sqlite://{}?mode=rwc", encoded(path));
    let failed = |error: sqlx::Error| file.unusable(error.into());
    // A pool would try for its whole patience what does not get better.
    let probe = async {
        let mut connection = AnyConnection::connect(&url).await?;
        connection.execute(sqlx::raw_sql(SETTINGS)).await?;
        Ok(connection)
    };
    let mut connection = probe.await.map_err(failed)?;
    file.check(&mut connection, steps).await?;
    connection.close().await.map_err(failed)?;
    let door = Door::open(&url, connections, Some(SETTINGS), &Manners::new(false))
        .await
        .map_err(failed)?;
    let made = door.make_tables(steps).await;
    made.map_err(|error| file.unusable(error))?;
    Ok((file, door))
}

/// The package catalog as a start would find it.
#[derive(Debug)]
pub struct Examined {
    /// Its file, or its address without credentials.
    pub at: String,
    /// PostgreSQL's own number; none where it is SQLite.
    pub server: Option<String>,
    pub tables: Tables,
    /// The machine of another Larder that uses it now.
    pub held_by: Option<String>,
    /// A pooler stands before it that gives each transaction another connection.
    pub is_pooled: bool,
}

/// Looks at the package catalog as a start would, and changes nothing in it.
///
/// # Errors
/// Why a start would fail.
pub async fn examine(
    directory: &Path,
    settings: &PackageCatalogSettings,
) -> Result<Examined, crate::store::Error> {
    sqlx::any::install_default_drivers();
    let (markers, _) = Markers::found(directory)?;
    let steps = sql::migrator(STEPS);
    if let Some(url) = &settings.database {
        let mut reached = remote::reach(url).await?;
        // A directory without a name has used none yet.
        let place = identity_of(directory).unwrap_or_default();
        let found = reached.look(&place, &steps, Some(&markers)).await?;
        let at = reached.at.clone();
        reached.leave().await;
        return Ok(Examined {
            at,
            server: Some(found.server),
            tables: found.tables,
            held_by: found.held_by,
            is_pooled: found.is_pooled,
        });
    }
    let path = directory.join("packages.sqlite");
    if markers.database().is_some() {
        return Err(moved::without_database(&path).await);
    }
    let file = File::find(&path, &markers)?;
    Ok(Examined {
        at: path.display().to_string(),
        server: None,
        tables: look_into(&file, &steps).await?,
        held_by: None,
        is_pooled: false,
    })
}

/// Looks at SQLite's file, and makes none beside it.
async fn look_into(file: &File<'_>, steps: &Migrator) -> Result<Tables, crate::store::Error> {
    if !file.path.exists() {
        return Ok(Tables::Missing);
    }
    let has_more = beside(file.path, "-wal")
        .metadata()
        .is_ok_and(|it| it.len() > 0);
    // Without changes beside it, the file is all there is, and needs no lock.
    let how = if has_more {
        "mode=ro"
    } else {
        "mode=ro&immutable=true"
    };
    let url = format!("sqlite://{}?{how}", encoded(file.path));
    let failed = |error: sqlx::Error| file.unusable(error.into());
    let mut connection = AnyConnection::connect(&url).await.map_err(failed)?;
    let tables = file.check(&mut connection, steps).await?;
    if tables == Tables::Made {
        let mark = moved::mark_of(&mut connection).await.map_err(failed)?;
        moved::refuse_mark(mark, &file.path.display().to_string())?;
    }
    connection.close().await.map_err(failed)?;
    Ok(tables)
}

/// A path within a URL.
pub(super) fn encoded(file: &Path) -> String {
    let path = file.display().to_string();
    crate::format::path::encode_path(&path)
}

/// The tables, step by step.
const STEPS: &[(&str, &str)] = &[
    ("packages", include_str!("migrations/0001_packages.sql")),
    ("access", include_str!("migrations/0002_access.sql")),
    (
        "repositories",
        include_str!("migrations/0003_repositories.sql"),
    ),
    ("events", include_str!("migrations/0004_events.sql")),
    (
        "package groups",
        include_str!("migrations/0005_package_groups.sql"),
    ),
    (
        "outside names",
        include_str!("migrations/0006_outside_names.sql"),
    ),
    ("set aside", include_str!("migrations/0007_set_aside.sql")),
    ("identity", include_str!("migrations/0008_identity.sql")),
    ("holder", include_str!("migrations/0009_holder.sql")),
    ("pins", include_str!("migrations/0010_pins.sql")),
    ("moved", include_str!("migrations/0011_moved.sql")),
];
