//! Which names of packages are known outside: a row for each, written with the first version that a
//! connection was seen to have. The cache's catalog would know as well, but it may be lost, and is
//! another on each machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use sqlx::Row as _;

use super::{Error, Packages};
use crate::clock;
use crate::package::PackageId;
use crate::store::notes::Notes;
use crate::task::Tasks;

const EVERY: Duration = Duration::from_secs(1);
/// Names that may wait to be written; at this many they are written at once.
const WAITING_MAX: usize = 10_000;
/// Names that are remembered as noted; others are noted again when they are seen again.
const NOTED_MAX: u64 = 100_000;

type Name = (Box<str>, PackageId);

/// The names that were seen outside.
pub struct OutsideNames {
    packages: Packages,
    notes: Arc<Notes<Name, ()>>,
    noted: Cache<Name, ()>,
}

impl OutsideNames {
    pub(in crate::store) fn start(packages: &Packages, tasks: &Tasks) -> Arc<Self> {
        let noted: Cache<Name, ()> = Cache::new(NOTED_MAX);
        let (writer, seen) = (packages.clone(), noted.clone());
        let write = move |batch: HashMap<Name, ()>| {
            let (packages, noted) = (writer.clone(), seen.clone());
            async move {
                let names: Vec<(String, String)> = batch
                    .keys()
                    .map(|(connection, package)| (connection.to_string(), package.to_string()))
                    .collect();
                let written = packages.keep_outside_names(&names).await;
                if written.is_err() {
                    // They are noted anew when they are seen again.
                    batch.keys().for_each(|name| noted.invalidate(name));
                }
                written.map_err(Into::into)
            }
        };
        let what = "names seen outside";
        Arc::new(Self {
            packages: packages.clone(),
            notes: Notes::start(tasks, what, EVERY, WAITING_MAX, write),
            noted,
        })
    }

    /// Notes that the connection has a version of the package.
    pub fn note(&self, connection: &str, package: &PackageId) {
        let name: Name = (connection.into(), package.clone());
        if !self.noted.contains_key(&name) && self.notes.note(name.clone(), (), |(), ()| ()) {
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
            if self.packages.is_outside_name(connection, package).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(in crate::store) async fn flush(&self) {
        self.notes.flush().await;
    }
}

impl Packages {
    /// Writes rows for names that have none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep_outside_names(&self, names: &[(String, String)]) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        for (connection, package) in names {
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

    /// Whether there is any row at all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn has_outside_names(&self) -> Result<bool, Error> {
        let row =
            sqlx::query("SELECT COUNT(*) FROM (SELECT 1 FROM outside_name LIMIT 1) AS any_row")
                .fetch_one(&self.pool)
                .await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    async fn is_outside_name(&self, connection: &str, package: &PackageId) -> Result<bool, Error> {
        let found =
            sqlx::query("SELECT 1 FROM outside_name WHERE connection = $1 AND package = $2")
                .bind(connection)
                .bind(package.to_string())
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.is_some())
    }
}
