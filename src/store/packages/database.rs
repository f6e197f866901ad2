//! The package catalog's database, SQLite or PostgreSQL, and how it is written.

use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use sqlx::{AnyConnection, Connection as _, Executor as _};
use tokio::sync::SemaphorePermit;

use super::door::{Door, Manners, Statements};
use super::outbox::Outbox;
use super::{Error, moved, random_name, remote};
use crate::clock;
use crate::secret::Secret;
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
        markers.mark_opening();
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
    async fn check(&self, door: &Door) -> Result<(), crate::store::Error> {
        let failed = |error: sqlx::Error| self.unusable(error.into());
        if sql::is_to_be_checked(self.path, self.last_end) {
            let said: String = sqlx::query_scalar(sql::CHECK)
                .fetch_one(door)
                .await
                .map_err(failed)?;
            if said != sql::WHOLE {
                return Err(self.unusable(sql::Error::damaged(&said)));
            }
        }
        // One without a table is a new one, whatever its file holds.
        let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master")
            .fetch_one(door)
            .await
            .map_err(failed)?;
        if self.expected.is_some() && tables == 0 {
            return Err(self.lost("it is empty", "packages.id"));
        }
        Ok(())
    }

    /// Gives the catalog its name where it has none, and holds it against the one that belongs here.
    async fn identify(&self, door: &Door, markers: &Markers) -> Result<(), crate::store::Error> {
        let failed = |error: sqlx::Error| self.unusable(error.into());
        moved::refuse(door, &self.path.display().to_string()).await?;
        let found: Option<String> = sqlx::query_scalar("SELECT identity FROM catalog")
            .fetch_optional(door)
            .await
            .map_err(failed)?;
        match (&found, &self.expected) {
            (Some(found), Some(expected)) if found != expected => {
                return Err(self.lost("it is another one than last time's", "packages.id"));
            }
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
        url: Option<&Secret>,
        place: String,
        markers: &Markers,
    ) -> Result<Self, crate::store::Error> {
        sqlx::any::install_default_drivers();
        let door = match url {
            Some(url) => {
                moved::warn_of_those_behind(path, markers).await;
                // For the cache's catalog, which is looked through after an end that was not clean.
                markers.mark_opening();
                remote::open(url, &place, &sql::migrator(STEPS), Some(markers)).await?
            }
            None => {
                if markers.database().is_some() {
                    return Err(moved::without_database(path).await);
                }
                let (file, door) = open_file(path, markers).await?;
                file.identify(&door, markers).await?;
                door
            }
        };
        Ok(Self::of(door, url, place, markers))
    }

    /// Opens or makes it as [`Database::open`] does, without asking whether it is this data directory's:
    /// for a move, which brings that in line.
    pub async fn open_to_move(
        path: &Path,
        url: Option<&Secret>,
        place: String,
        markers: &Markers,
    ) -> Result<Self, crate::store::Error> {
        sqlx::any::install_default_drivers();
        let door = match url {
            Some(url) => remote::open(url, &place, &sql::migrator(STEPS), None).await?,
            None => open_file(path, markers).await?.1,
        };
        Ok(Self::of(door, url, place, markers))
    }

    fn of(door: Door, url: Option<&Secret>, place: String, markers: &Markers) -> Self {
        Self {
            door,
            is_shared: url.is_some(),
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
        Ok(self.door.begin().await?)
    }
}

/// Opens SQLite's file, or makes it.
async fn open_file<'p>(
    path: &'p Path,
    markers: &Markers,
) -> Result<(File<'p>, Door), crate::store::Error> {
    let file = File::find(path, markers)?;
    private::ensure(path)?;
    let url = format!("sqlite://{}?mode=rwc", encoded(path));
    // A pool would try for its whole patience what does not get better.
    let probe = async {
        let mut connection = AnyConnection::connect(&url).await?;
        connection.execute(sqlx::raw_sql(SETTINGS)).await?;
        connection.close().await
    };
    let failed = |error: sqlx::Error| file.unusable(error.into());
    probe.await.map_err(failed)?;
    let door = Door::open(&url, Some(SETTINGS), &Manners::new(false))
        .await
        .map_err(failed)?;
    file.check(&door).await?;
    let made = door.make_tables(&sql::migrator(STEPS)).await;
    made.map_err(|error| file.unusable(error))?;
    Ok((file, door))
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
