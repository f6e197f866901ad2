//! Which names of packages are known outside: a row for each, written with the first version that a
//! connection was seen to have. The cache's catalog would know as well, but it may be lost, and is
//! another on each machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use sqlx::AssertSqlSafe;

use super::Error;
use super::database::Database;
use crate::clock;
use crate::package::PackageId;
use crate::store::catalog::LongWork;
use crate::store::notes::Notes;
use crate::store::sql::{ROWS_AT_ONCE, places};
use crate::task::Tasks;

/// Under which name the catalog remembers when names were written last.
pub(in crate::store) const WRITTEN: &str = "names seen outside";
const EVERY: Duration = Duration::from_secs(1);
/// Names that may wait to be written; at this many they are written at once.
const WAITING_MAX: usize = 10_000;
/// Names that are remembered as noted; others are noted again when they are seen again.
const NOTED_MAX: u64 = 100_000;
/// Names that are remembered as unknown; others are asked for again.
const UNKNOWN_MAX: u64 = 10_000;

type Name = (Box<str>, PackageId);

/// A name as a row has it.
pub struct SeenOutside {
    pub connection: String,
    /// `npm:@scope/name`.
    pub package: String,
}

/// The names that were seen outside.
pub struct OutsideNames {
    rows: OutsideRows,
    notes: Arc<Notes<Name, i64>>,
    noted: Cache<Name, ()>,
    /// Names that have no row, as far as those go that were asked for and not noted since.
    unknown: Cache<Name, ()>,
}

impl OutsideNames {
    pub(in crate::store) fn start(rows: &OutsideRows, work: &LongWork, tasks: &Tasks) -> Arc<Self> {
        let noted: Cache<Name, ()> = Cache::new(NOTED_MAX);
        let (writer, seen, work) = (rows.clone(), noted.clone(), work.clone());
        let write = move |batch: HashMap<Name, i64>| {
            let (rows, noted, work) = (writer.clone(), seen.clone(), work.clone());
            async move {
                let name = |(connection, package): &Name| SeenOutside {
                    connection: connection.to_string(),
                    package: package.to_string(),
                };
                let names: Vec<SeenOutside> = batch.keys().map(name).collect();
                let now = clock::unix_now().to_string();
                let written = rows.keep(&names).await;
                if written.is_ok() {
                    // The next start looks through later arrivals alone.
                    work.set(WRITTEN, Some(&now)).await?;
                } else {
                    // They are noted anew when they are seen again.
                    for name in batch.keys() {
                        noted.invalidate(name);
                    }
                }
                written.map_err(Into::into)
            }
        };
        let what = "names seen outside";
        Arc::new(Self {
            rows: rows.clone(),
            notes: Notes::start(tasks, what, EVERY, WAITING_MAX, write),
            noted,
            unknown: Cache::new(UNKNOWN_MAX),
        })
    }

    /// Notes that the connection has a version of the package.
    pub fn note(&self, connection: &str, package: &PackageId) {
        let name: Name = (connection.into(), package.clone());
        if !self.noted.contains_key(&name)
            && self
                .notes
                .note(name.clone(), clock::unix_ms_now(), |_, _| ())
        {
            self.noted.insert(name.clone(), ());
            self.unknown.invalidate(&name);
        }
    }

    /// Whether one of the connections was ever seen to have a version of the package.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn is_known(&self, connections: &[&str], package: &PackageId) -> Result<bool, Error> {
        let name = |connection: &str| (connection.into(), package.clone());
        let is_noted = || {
            let mut connections = connections.iter();
            connections.any(|it| self.noted.contains_key(&name(it)))
        };
        if is_noted() {
            return Ok(true);
        }
        let mut asked = connections.to_vec();
        asked.retain(|it| !self.unknown.contains_key(&name(it)));
        if asked.is_empty() {
            return Ok(false);
        }
        if self.rows.has_any(&asked, package).await? {
            return Ok(true);
        }
        // Nobody else writes such rows. What was noted meanwhile is not unknown.
        for connection in &asked {
            let name = name(connection);
            self.unknown.insert(name.clone(), ());
            if self.noted.contains_key(&name) {
                self.unknown.invalidate(&name);
            }
        }
        Ok(is_noted())
    }

    pub(in crate::store) async fn flush(&self) {
        self.notes.flush().await;
    }
}

/// The rows of names that were seen outside.
#[derive(Clone)]
pub struct OutsideRows {
    pub(super) database: Arc<Database>,
}

impl OutsideRows {
    /// Writes rows for names that have none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep(&self, names: &[SeenOutside]) -> Result<(), Error> {
        let (_place, mut transaction) = self.database.begin().await?;
        for some in names.chunks(ROWS_AT_ONCE) {
            let sql = format!(
                "INSERT INTO outside_name (connection, package, seen_at) VALUES {} ON CONFLICT DO NOTHING",
                places(some.len(), 3)
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for one in some {
                query = query
                    .bind(one.connection.as_str())
                    .bind(one.package.as_str())
                    .bind(clock::unix_ms_now());
            }
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn has_any(&self, connections: &[&str], package: &PackageId) -> Result<bool, Error> {
        for some in connections.chunks(ROWS_AT_ONCE) {
            let sql = format!(
                "SELECT 1 FROM outside_name WHERE (package, connection) IN (VALUES {}) LIMIT 1",
                places(some.len(), 2)
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for connection in some {
                query = query.bind(package.to_string()).bind(*connection);
            }
            if query.fetch_optional(&self.database.door).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Learned, load};
    use crate::store::Store;

    #[tokio::test]
    async fn a_name_that_was_unknown_is_known_as_soon_as_it_was_seen() {
        let config = load(&ConfigSource::default(), &Learned::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &config, &Tasks::default()).await;
        let store = store.unwrap();
        let names = store.outside_names();
        let package = crate::format::package("npm:a").unwrap();
        let is_known = async || names.is_known(&["one", "other"], &package).await.unwrap();
        assert!(!is_known().await);
        assert_eq!(names.unknown.iter().count(), 2);
        names.note("other", &package);
        assert!(is_known().await);
        names.flush().await;
        names.noted.invalidate(&("other".into(), package.clone()));
        assert!(is_known().await, "its row says so");
        let known = |from: u64, to: u64| {
            for number in from..to {
                names
                    .unknown
                    .insert((number.to_string().into(), package.clone()), ());
            }
            names.unknown.run_pending_tasks();
            names.unknown.entry_count()
        };
        assert_eq!(known(0, UNKNOWN_MAX + 500), UNKNOWN_MAX);
    }

    #[tokio::test]
    async fn so_many_names_are_known_to_be_written() {
        let config = load(&ConfigSource::default(), &Learned::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &config, &Tasks::default()).await;
        let store = store.unwrap();
        let noted = &store.outside_names().noted;
        let package = crate::format::package("npm:a").unwrap();
        let known = |from: u64, to: u64| {
            for number in from..to {
                noted.insert((number.to_string().into(), package.clone()), ());
            }
            noted.run_pending_tasks();
            noted.entry_count()
        };
        assert_eq!(known(0, NOTED_MAX), NOTED_MAX);
        assert_eq!(known(NOTED_MAX, NOTED_MAX + 500), NOTED_MAX);
    }
}
