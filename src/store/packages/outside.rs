//! Which names of packages are known outside: a row for each, written with the first version that a
//! connection was seen to have. The cache's catalog would know as well, but it may be lost, and is
//! another on each machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::Error;
use super::database::Database;
use crate::clock;
use crate::package::PackageId;
use crate::store::catalog::LongWork;
use crate::store::notes::Notes;
use crate::task::Tasks;

/// Under which name the catalog remembers when names were written last.
pub(in crate::store) const WRITTEN: &str = "names seen outside";
const EVERY: Duration = Duration::from_secs(1);
/// Names that may wait to be written; at this many they are written at once.
const WAITING_MAX: usize = 10_000;
/// Names that are remembered as noted; others are noted again when they are seen again.
const NOTED_MAX: u64 = 100_000;

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
            self.noted.insert(name, ());
        }
    }

    /// Whether one of the connections was ever seen to have a version of the package.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn is_known(&self, connections: &[&str], package: &PackageId) -> Result<bool, Error> {
        let is_noted = |connection: &&&str| {
            self.noted
                .contains_key(&((**connection).into(), package.clone()))
        };
        if connections.iter().any(|it| is_noted(&it)) {
            return Ok(true);
        }
        for connection in connections {
            if self.rows.has(connection, package).await? {
                return Ok(true);
            }
        }
        Ok(false)
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
        for SeenOutside {
            connection,
            package,
        } in names
        {
            sqlx::query(
                "INSERT INTO outside_name (connection, package, seen_at) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(connection.as_str())
            .bind(package.as_str())
            .bind(clock::unix_ms_now())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn has(&self, connection: &str, package: &PackageId) -> Result<bool, Error> {
        let found =
            sqlx::query("SELECT 1 FROM outside_name WHERE connection = $1 AND package = $2")
                .bind(connection)
                .bind(package.to_string())
                .fetch_optional(&self.database.door)
                .await?;
        Ok(found.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Learned, load};
    use crate::store::Store;

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
